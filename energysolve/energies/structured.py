"""Energies that use known structure of a problem, with a few learned parameters for the rest.

The parameters do not depend on the size of the problems, so an energy trained at one size works at another. Problems
and answers may be matrices or flattened.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..checks import check_nonnegative, check_whole
from ..energy import Energy, Normalized


class SharedQuadratic(Energy):
    """One learned quadratic form shared by all entries: ``E = 1/2 sum_i |W (a_i, b_i, ..., y_i)|^2``.

    ``a, b, ...`` are the vectors of the problem. The energy is homogeneous, ``E(s x, s y) = s^2 E(x, y)``, so the best
    answer scales with the problem, and an energy trained on small numbers is valid for large ones. A solver works in
    units of the root mean square of each problem.

    Args:
        size: the number of entries of an answer, and of each vector in the problem.
        terms: the number of vectors in the problem; ``x`` is ``(batch, terms * size)`` or ``(batch, terms, size)``.
        features: the number of rows of ``W``, 1 or more.

    Raises:
        ValueError: if a size is not a whole number of 1 or more.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver, Zeros
        >>> from energysolve.energies import SharedQuadratic
        >>> solver = EnergySolver(SharedQuadratic(size=3), init=Zeros((3,)))
        >>> x = torch.rand(5, 6)  # two vectors of three entries each
        >>> torch.allclose(solver.minimize(100 * x).y, 100 * solver.minimize(x).y, rtol=1e-3)
        True
    """

    def __init__(self, size: int, terms: int = 2, features: int = 3):
        super().__init__()
        check_whole("SharedQuadratic", least=1, size=size, terms=terms, features=features)
        self.size, self.terms, self.features = size, terms, features
        # The expected squared length of every column is 1, and so is the expected curvature in y.
        self.from_x = nn.Parameter(torch.randn(features, terms) / math.sqrt(features))
        self.from_y = nn.Parameter(torch.randn(features) / math.sqrt(features))

    def normalized(self, x: Float[Tensor, "batch *problem"]) -> Normalized:
        """Problems with the root mean square of entries uniform in (-2.5, 2.5), the paper's harder ones."""
        unit = _nonzero(_norm(x) * math.sqrt(3 / self.terms / self.size) / 2.5)
        return Normalized(x / _over(unit, x), unit, unit.square())

    def encode(self, x: Float[Tensor, "batch *problem"]) -> Float[Tensor, "batch features size"]:
        vectors = _shaped(self, "x", x, self.terms, self.size)
        # Term by term: a matrix product would round differently for other batch sizes.
        weighted = [column[:, None] * vectors[:, i, None] for i, column in enumerate(self.from_x.unbind(1))]
        return torch.stack(weighted).sum(0)

    def evaluate(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, context: Float[Tensor, "batch features size"], y: Float[Tensor, "batch *answer"]
    ) -> Float[Tensor, " batch"]:
        y = _shaped(self, "y", y, self.size)
        return (context + self.from_y[:, None] * y[:, None]).square().sum((1, 2)) / 2

    def config(self) -> dict[str, Any]:
        return {"size": self.size, "terms": self.terms, "features": self.features}


class PreconditionedInverse(Energy):
    """The inverse of a symmetric, positive definite matrix: ``E = 1/2 tr(Y' q(M) M Y) - tr(Y' q(M))``.

    Its gradient ``q(M) (M Y - I)`` is a preconditioned residual, so the inverse is the only minimum if ``q(M) M`` is
    positive definite. The polynomial ``q`` starts as a multiple of the identity, followed by Newton-Schulz steps
    (Schulz 1933) ``Q <- g_k (2 Q - Q M Q)`` with learned gains ``g_k``, as in scaled Newton iterations. They map an
    eigenvalue ``p`` of ``Q M`` to ``g_k p (2 - p)``, which stays in (0, 2) for gains in (0, 2), and the
    parameterization ensures these. So gradient descent with step size 1 converges to the inverse for any parameters;
    training makes it faster. All matrices share the gains; the initial multiple ``g_0 / |M|_F`` differs.

    ``x`` and ``y`` are ``(batch, size, size)`` or ``(batch, size * size)``. A solver works with matrices of one norm,
    so that tolerances are relative. It rejects answers with a `residual` ``|M Y - I|`` above ``tolerance``, to matrices
    that are not invertible in the given precision, and all answers to matrices that are not symmetric. On indefinite
    ones it does not converge.

    Args:
        size: the number of rows and columns.
        steps: the number of Newton-Schulz steps, 0 or more; each costs two matrix products per solve.

    Raises:
        ValueError: if a size is out of range.

    Examples:
        >>> import torch
        >>> from energysolve import SGD, EnergySolver, Zeros
        >>> from energysolve.energies import PreconditionedInverse
        >>> solver = EnergySolver(PreconditionedInverse(size=2), SGD(lr=1.0), init=Zeros((2, 2)))
        >>> solver.minimize(torch.tensor([[[3.0, 1.0], [1.0, 2.0]]])).y.round(decimals=3)
        tensor([[[ 0.4000, -0.2000],
                 [-0.2000,  0.6000]]])
    """

    tolerance = 1e-2
    """The largest `residual` of an answer."""
    asymmetry = 1e-4
    """The largest norm of ``M - M'`` in units of that of ``M``."""

    def __init__(self, size: int, steps: int = 4):
        super().__init__()
        check_whole("PreconditionedInverse", least=1, size=size)
        check_whole("PreconditionedInverse", least=0, steps=steps)
        self.size, self.steps = size, steps
        self.gain_logits = nn.Parameter(torch.zeros(steps + 1))

    @property
    def gains(self) -> Float[Tensor, " gains"]:
        """The gains ``g_0, ..., g_steps`` in (0, 2); before training ones, the plain Newton-Schulz iteration."""
        return 2 * torch.sigmoid(self.gain_logits)

    def normalized(self, x: Float[Tensor, "batch *problem"]) -> Normalized:
        """Matrices with a norm a little below that of the paper's, which is ``sqrt(8/9 size^3)`` on average."""
        factor = 0.9 * math.sqrt(8 / 9 * self.size**3) / _nonzero(_norm(x))
        return Normalized(x * _over(factor, x), factor, factor.square())

    def residual(
        self, x: Float[Tensor, "batch *problem"], y: Float[Tensor, "batch *answer"]
    ) -> Float[Tensor, " batch"]:
        """``|M Y - I| / |I|`` in the Frobenius norm, computed in float64: the error of an answer without its target."""
        m, y = (_shaped(self, *each, self.size, self.size).double() for each in (("x", x), ("y", y)))
        eye = torch.eye(self.size, dtype=m.dtype, device=m.device)
        return (torch.linalg.matrix_norm(m @ y - eye) / math.sqrt(self.size)).to(x.dtype)

    def accepts(self, x: Float[Tensor, "batch *problem"], y: Float[Tensor, "batch *answer"]) -> Bool[Tensor, " batch"]:
        matrix = _shaped(self, "x", x, self.size, self.size)
        asymmetry = _norm(matrix - matrix.mT) / _nonzero(_norm(matrix))
        return (self.residual(x, y) <= self.tolerance) & (asymmetry <= self.asymmetry)

    def encode(self, x: Float[Tensor, "batch *problem"]) -> tuple[Tensor, Tensor]:
        """``q(M) M`` and ``q(M)``, each ``(batch, size, size)``."""
        matrix = _shaped(self, "x", x, self.size, self.size)
        first, *others = self.gains.unbind()
        # The Frobenius norm bounds the largest eigenvalue.
        norm = matrix.square().sum((1, 2), keepdim=True).sqrt()
        q = first / norm * torch.eye(self.size, dtype=matrix.dtype, device=matrix.device)
        for gain in others:
            q = gain * (2 * q - q @ matrix @ q)
        product = q @ matrix
        return (product + product.mT) / 2, q  # exactly symmetric

    def evaluate(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, context: tuple[Tensor, Tensor], y: Float[Tensor, "batch *answer"]
    ) -> Float[Tensor, " batch"]:
        product, q = context
        y = _shaped(self, "y", y, self.size, self.size)
        return (y * (product @ y / 2 - q)).sum((1, 2))

    def config(self) -> dict[str, Any]:
        return {"size": self.size, "steps": self.steps}


class FactoredCompletion(Energy):
    """Completion of a noisy matrix of low rank, with its factors ``U`` and ``V`` in the scratchpad.

    In units of the signal of the problem, ``X = x / s``, the energy is

    ``1/2 |seen * (U V' - X)|^2 + l/2 (|U|^2 + |V|^2) + 1/2 |y - answer|^2 / max(1, s^2)``,

    where the answer equals ``x`` at observed entries and ``k s U V'`` elsewhere. At a minimum the last term is zero,
    and the factors are the most probable ones under normal priors. Its divisor bounds the curvature in ``U`` and ``V``
    in any units, so that one step size suits all problems. The priors are set by empirical Bayes from the observed
    entries of each problem: the signal variance is ``s^2 = max(m - noise^2, floor * noise^2)`` with their mean square
    ``m``, and independent factors of equal variance with that signal have ``l = c sqrt(rank) noise^2 / s^2`` with
    ``c = 1``. The most probable factors are more extreme than the average ones, which a penalty ``c`` above 1 and a
    shrinkage ``k`` below 1 compensate; both are learned.

    A solver works in units of the signal where it is larger than 1. For tables whose noise, scale and means are
    unknown, see `energysolve.presets.tables`.

    ``x`` and ``y`` are ``(batch, rows, columns)`` or flattened, with exact zeros in ``x`` for unobserved entries; the
    scratchpad is ``(batch, rows + columns, rank)``, the rows of ``U`` first.

    Args:
        rows: the number of rows of a matrix.
        columns: the number of columns of a matrix.
        rank: the rank of ``U V'``.
        noise: the standard deviation of the noise.
        penalty: the initial ``c``, positive.
        shrinkage: the initial ``k``, positive.
        floor: a lower bound of the signal variance in units of the noise variance, positive; it bounds the curvature.
        believed: the smallest and the largest root mean square of the observed entries, in units of ``noise``, for
            which a solver believes the noise. For others it takes the noise that has the largest; so it solves large
            problems and small ones alike. None to believe it always.

    Raises:
        ValueError: if an argument is out of range.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver, FromInput, Normal
        >>> from energysolve.energies import FactoredCompletion
        >>> energy = FactoredCompletion(rows=3, columns=3, rank=1, noise=0.01)
        >>> solver = EnergySolver(energy, init=FromInput(), scratchpad=Normal((6, 1)), max_steps=200)
        >>> x = torch.tensor([[[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [3.0, 6.0, 0.0]]])  # the last entry is unknown
        >>> solver.minimize(x).y[0, 2].round()
        tensor([3., 6., 9.])
    """

    def __init__(
        self,
        rows: int,
        columns: int,
        rank: int,
        noise: float = 0.1,
        penalty: float = 1.0,
        shrinkage: float = 1.0,
        floor: float = 0.25,
        believed: Sequence[float] | None = None,
    ):
        super().__init__()
        check_whole("FactoredCompletion", least=1, rows=rows, columns=columns, rank=rank)
        check_nonnegative("FactoredCompletion", noise=noise, penalty=penalty, shrinkage=shrinkage, floor=floor)
        if 0 in (penalty, shrinkage, floor):
            raise ValueError(f"FactoredCompletion needs positive {penalty=}, {shrinkage=} and {floor=}.")
        self.rows, self.columns, self.rank = rows, columns, rank
        self.noise, self.floor = float(noise), float(floor)
        self.believed = None if believed is None else tuple(map(float, believed))
        if self.believed is not None and not (len(self.believed) == 2 and 0 < self.believed[0] <= self.believed[1]):
            raise ValueError(f"FactoredCompletion needs believed=(smallest, largest) or None, got {believed!r}.")
        self._start = {"penalty": float(penalty), "shrinkage": float(shrinkage)}
        self.log_penalty = nn.Parameter(torch.tensor(math.log(penalty)))
        self.log_shrinkage = nn.Parameter(torch.tensor(math.log(shrinkage)))

    def normalized(self, x: Float[Tensor, "batch *problem"]) -> Normalized:
        """Problems in units of their signal, if it is larger than 1, each with the variance of its noise."""
        flat = x.flatten(1)
        size = _nonzero(_norm(x) / (flat != 0).sum(1).clamp(min=1).sqrt())
        unit = torch.ones_like(size)
        if self.believed is not None and self.noise:
            low, high = (bound * self.noise for bound in self.believed)
            unit = torch.where((size < low) | (size > high), size / high, 1.0)
        signal = self._variance((size / unit).square(), self.noise**2).sqrt().clamp(min=1)
        noise = self.noise**2 / signal.double().square()
        return Normalized((x / _over(unit * signal, x), noise), unit * signal, torch.ones_like(unit))

    def _variance(self, power: Tensor, noise: float | Tensor) -> Tensor:
        """That of the signal, from the mean square of the observed entries and the variance of the noise."""
        return torch.maximum(power - noise, torch.as_tensor(self.floor * noise, dtype=power.dtype, device=power.device))

    def encode(
        self, x: Float[Tensor, "batch *problem"] | tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """``x`` and ``X``, matrices, and ``l``, ``k s`` and ``1 / max(1, s^2)``, each ``(batch, 1, 1)``.

        A pair holds the problems and the variance of the noise of each, ``(batch,)``, in place of ``noise^2``.
        """
        x, noise = x if isinstance(x, tuple) else (x, self.noise**2)
        x = _shaped(self, "x", x, self.rows, self.columns)
        noise = noise.view(-1, 1, 1) if isinstance(noise, Tensor) else torch.tensor(noise, dtype=torch.float64)
        seen = (x != 0).sum((1, 2), keepdim=True)
        power = x.square().sum((1, 2), keepdim=True) / seen.clamp(min=1)
        variance = self._variance(power, noise.to(x))
        variance = torch.where(seen > 0, variance, 1.0)  # any unit is right without observations
        penalty = self.log_penalty.exp() * (variance.reciprocal() * (math.sqrt(self.rank) * noise).to(x))
        unit = variance.sqrt()
        return x, x / unit, penalty, self.log_shrinkage.exp() * unit, 1 / variance.clamp(min=1)

    def evaluate(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        context: tuple[Tensor, Tensor, Tensor, Tensor, Tensor],
        y: Float[Tensor, "batch *answer"],
        z: Float[Tensor, "batch *factors"],
    ) -> Float[Tensor, " batch"]:
        x, scaled, penalty, unit, tie = context
        y = _shaped(self, "y", y, self.rows, self.columns)
        z = _shaped(self, "z", z, self.rows + self.columns, self.rank)
        product = z[:, : self.rows] @ z[:, self.rows :].mT
        misfit = torch.where(x != 0, product - scaled, 0.0)
        distance = y - torch.where(x != 0, x, unit * product)
        squares = misfit.square() + tie * distance.square()
        return (squares.sum((1, 2)) + (penalty * z.square()).sum((1, 2))) / 2

    def completed(
        self, x: Float[Tensor, "batch *problem"], z: Float[Tensor, "batch *factors"]
    ) -> Float[Tensor, "batch rows columns"]:
        """``k s U V'`` for all entries, the observed ones included, from the scratchpad of a solution."""
        normalized = self.normalized(x)
        _, _, _, unit, _ = self.encode(normalized.x)
        z = _shaped(self, "z", z, self.rows + self.columns, self.rank)
        return _over(normalized.unit, z) * unit * (z[:, : self.rows] @ z[:, self.rows :].mT)

    def config(self) -> dict[str, Any]:
        """The arguments, with the initial penalty and shrinkage; the learned values are in the state."""
        sizes = {"rows": self.rows, "columns": self.columns, "rank": self.rank}
        believed = None if self.believed is None else list(self.believed)
        return sizes | {"noise": self.noise, **self._start, "floor": self.floor, "believed": believed}


def _shaped(energy: Energy, name: str, tensor: Tensor, *shape: int) -> Tensor:
    """``(batch, *shape)``, from that or from flattened samples."""
    if tensor.shape[1:] not in (shape, (math.prod(shape),)):
        one = ", ".join(map(str, shape))
        flat = f" or (batch, {math.prod(shape)})" if len(shape) > 1 else ""
        raise ValueError(
            f"{type(energy).__name__} needs {name} of shape (batch, {one}){flat}; got {tuple(tensor.shape)}."
        )
    return tensor.reshape(len(tensor), *shape)


def _norm(x: Tensor) -> Tensor:
    """The norm of each sample, whose squares may be beyond the range of numbers."""
    entries = x.flatten(1)
    largest = _nonzero(torch.linalg.vector_norm(entries, math.inf, dim=1)) if entries.numel() else entries.sum(1)
    return largest * torch.linalg.vector_norm(entries / largest[:, None], dim=1)


def _nonzero(size: Tensor) -> Tensor:
    """The sizes, to divide by; 1 in place of those that are zero or not finite."""
    return torch.where((size > 0) & size.isfinite(), size, 1.0)


def _over(unit: Tensor, x: Tensor) -> Tensor:
    return unit.view(-1, *[1] * (x.ndim - 1))
