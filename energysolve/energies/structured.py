"""Energies that use what is known about a problem, with a few learned numbers for what is not.

Their learned numbers do not depend on the size of the problems, so an energy trained at one size serves at another.
Problems and answers may come as matrices or flattened; nothing is ever summed over the batch.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..checks import check_nonnegative, check_whole
from ..energy import Energy


class SharedQuadratic(Energy):
    """One learned quadratic form for every entry: ``E = 1/2 sum_i |W (a_i, b_i, ..., y_i)|^2``.

    ``a, b, ...`` are the vectors that make up the problem. The energy is homogeneous of degree two,
    ``E(s x, s y) = s^2 E(x, y)``, so the best answer scales with the problem, and what was learned on small numbers
    holds for large ones.

    Args:
        size: entries of an answer, and of each vector in the problem.
        terms: vectors in the problem, one after the other in ``x``: ``(batch, terms * size)`` or
            ``(batch, terms, size)``.
        features: rows of ``W``, 1 or more.
    """

    def __init__(self, size: int, terms: int = 2, features: int = 3):
        super().__init__()
        check_whole("SharedQuadratic", least=1, size=size, terms=terms, features=features)
        self.size, self.terms, self.features = size, terms, features
        # Every column has an expected squared length of 1, and with it the curvature in y.
        self.from_x = nn.Parameter(torch.randn(features, terms) / math.sqrt(features))
        self.from_y = nn.Parameter(torch.randn(features) / math.sqrt(features))

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

    Its gradient ``q(M) (M Y - I)`` is the residual, preconditioned, so the inverse is the only minimum wherever
    ``q(M) M`` is positive definite. The polynomial ``q`` starts as a multiple of the identity and goes through
    Newton-Schulz steps (Schulz 1933), ``Q <- g_k (2 Q - Q M Q)``, with learned gains ``g_k`` as in scaled Newton
    iterations. An eigenvalue ``p`` of ``Q M`` becomes ``g_k p (2 - p)``; with gains in (0, 2), which the
    parameterization ensures, all of them stay in (0, 2) for every matrix. So gradient descent with step size 1
    converges to the inverse whatever was learned; what is learned is how fast. Only the gains are shared by all
    matrices, the scale ``g_0 / |M|_F`` is each matrix's own.

    ``x`` and ``y`` are ``(batch, size, size)`` or ``(batch, size * size)``; the answer to a matrix that is singular or
    not positive definite means nothing.

    Args:
        size: rows and columns.
        steps: Newton-Schulz steps, 0 or more; each takes two matrix products, once a solve.
    """

    def __init__(self, size: int, steps: int = 4):
        super().__init__()
        check_whole("PreconditionedInverse", least=1, size=size)
        check_whole("PreconditionedInverse", least=0, steps=steps)
        self.size, self.steps = size, steps
        self.gain_logits = nn.Parameter(torch.zeros(steps + 1))

    @property
    def gains(self) -> Float[Tensor, " gains"]:
        """The gains ``g_0, ..., g_steps``, in (0, 2); ones, the plain Newton-Schulz iteration, before training."""
        return 2 * torch.sigmoid(self.gain_logits)

    def encode(self, x: Float[Tensor, "batch *problem"]) -> tuple[Tensor, Tensor]:
        """``q(M) M`` and ``q(M)``, each ``(batch, size, size)``."""
        matrix = _shaped(self, "x", x, self.size, self.size)
        first, *others = self.gains.unbind()
        # The Frobenius norm is no less than the largest eigenvalue.
        norm = matrix.square().sum((1, 2), keepdim=True).sqrt()
        q = first / norm * torch.eye(self.size, dtype=matrix.dtype, device=matrix.device)
        for gain in others:
            q = gain * (2 * q - q @ matrix @ q)
        product = q @ matrix
        return (product + product.mT) / 2, q  # symmetric but for rounding

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

    In units of the problem's own signal, ``X = x / s``, the energy is

    ``1/2 |seen * (U V' - X)|^2 + l/2 (|U|^2 + |V|^2) + 1/2 |y - answer|^2 / max(1, s^2)``,

    where the answer repeats what was seen and is ``k s U V'`` elsewhere. At a minimum the last term is zero and the
    factors are the most probable ones under normal priors; its divisor keeps the curvature in ``U`` and ``V`` bounded,
    whatever the units of the problem, so that one step size serves all. Empirical Bayes sets the priors for each
    problem from its observed entries: the signal variance is ``s^2 = max(m - noise^2, floor * noise^2)`` with ``m``
    their mean square, and independent factors of equal variance with that signal have ``l = c sqrt(rank) noise^2 /
    s^2`` for ``c = 1``. The most probable factors are more extreme than the average ones, for which a penalty ``c``
    above 1 and a shrinkage ``k`` below 1 make up; these two are learned.

    ``x`` and ``y`` are ``(batch, rows, columns)`` or flattened, with exact zeros in ``x`` for entries that were not
    seen; the scratchpad is ``(batch, rows + columns, rank)``, the rows of ``U`` first.

    Args:
        rows: of a matrix.
        columns: of a matrix.
        rank: of ``U V'``.
        noise: standard deviation of the noise.
        penalty: ``c`` to start from, positive.
        shrinkage: ``k`` to start from, positive.
        floor: the least signal variance, in units of that of the noise, positive. It bounds ``l``, and with it the
            curvature.
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
    ):
        super().__init__()
        check_whole("FactoredCompletion", least=1, rows=rows, columns=columns, rank=rank)
        check_nonnegative("FactoredCompletion", noise=noise, penalty=penalty, shrinkage=shrinkage, floor=floor)
        if 0 in (penalty, shrinkage, floor):
            raise ValueError(f"FactoredCompletion needs positive {penalty=}, {shrinkage=} and {floor=}.")
        self.rows, self.columns, self.rank = rows, columns, rank
        self.noise, self.floor = float(noise), float(floor)
        self._start = {"penalty": float(penalty), "shrinkage": float(shrinkage)}
        self.log_penalty = nn.Parameter(torch.tensor(math.log(penalty)))
        self.log_shrinkage = nn.Parameter(torch.tensor(math.log(shrinkage)))

    def encode(self, x: Float[Tensor, "batch *problem"]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """``x`` and ``X``, matrices, and ``l``, ``k s`` and ``1 / max(1, s^2)``, each ``(batch, 1, 1)``."""
        x = _shaped(self, "x", x, self.rows, self.columns)
        seen = (x != 0).sum((1, 2), keepdim=True)
        power = x.square().sum((1, 2), keepdim=True) / seen.clamp(min=1)
        variance = (power - self.noise**2).clamp(min=self.floor * self.noise**2)
        variance = torch.where(seen > 0, variance, 1.0)  # without observations there is no unit: any will do
        penalty = self.log_penalty.exp() * (math.sqrt(self.rank) * self.noise**2 / variance)
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

    def config(self) -> dict[str, Any]:
        """The arguments; penalty and shrinkage are those at the start, what was learned is among the weights."""
        sizes = {"rows": self.rows, "columns": self.columns, "rank": self.rank}
        return sizes | {"noise": self.noise, **self._start, "floor": self.floor}


def _shaped(energy: Energy, name: str, tensor: Tensor, *shape: int) -> Tensor:
    """``(batch, *shape)``, from that or from flattened samples."""
    if tensor.shape[1:] not in (shape, (math.prod(shape),)):
        one = ", ".join(map(str, shape))
        flat = f" or (batch, {math.prod(shape)})" if len(shape) > 1 else ""
        raise ValueError(
            f"{type(energy).__name__} needs {name} of shape (batch, {one}){flat}; got {tuple(tensor.shape)}."
        )
    return tensor.reshape(len(tensor), *shape)
