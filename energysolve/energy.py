"""Energies: the base class, plain functions as energies, and weighted sums."""

import inspect
import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, NamedTuple, TypeGuard

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class Normalized(NamedTuple):
    """Problems in units in which initial answers, step sizes and tolerances mean the same for all of them.

    Attributes:
        x: the problems in these units.
        unit: ``(batch,)``, the answers to the problems as they were given are ``unit`` times those to ``x``.
        energy: ``(batch,)``, and their energies are ``energy`` times those at ``x``.

    Examples:
        >>> import torch
        >>> from energysolve import Energy, EnergySolver, Zeros
        >>> from energysolve.energy import Normalized
        >>> class Distance(Energy):  # E(s x, s y) = s^2 E(x, y), so tolerances are to mean the same for all sizes
        ...     def evaluate(self, context, y):
        ...         return (context - y).square().sum(-1)
        ...
        ...     def normalized(self, x):
        ...         unit = x.norm(dim=1)
        ...         return Normalized(x / unit[:, None], unit, unit.square())
        >>> EnergySolver(Distance(), init=Zeros((1,))).minimize(torch.tensor([[1e9]])).y
        tensor([[1.0000e+09]])
    """

    x: Any
    unit: Float[Tensor, " batch"]
    energy: Float[Tensor, " batch"]


class Energy(nn.Module):
    """An energy ``E(x, y)`` or ``E(x, y, z)``: one number per sample, how bad the answer ``y`` to the problem ``x`` is.

    Any callable can serve as an energy. This base class splits the computation in two, so that a solve computes what
    depends on ``x`` alone only once. Subclasses override `evaluate`, and `encode` where that saves work. Energies of
    the same problem and answer can be added, with weights: ``2.0 * a + b``.

    Examples:
        >>> import torch
        >>> from energysolve import Energy, EnergySolver
        >>> class Distance(Energy):
        ...     def encode(self, x):  # once per solve
        ...         return x.square()
        ...
        ...     def evaluate(self, context, y):  # at every step
        ...         return (context - y).square().sum(-1)
        >>> solver = EnergySolver(Distance())
        >>> solver.minimize(torch.tensor([[2.0, 3.0]]), torch.zeros(1, 2)).y.round(decimals=3)
        tensor([[4., 9.]])
    """

    def encode(self, x: Any) -> Any:
        """What `evaluate` needs of the problem, by default ``x`` itself; called once per solve."""
        return x

    def evaluate(self, *args: Any, **kwargs: Any) -> Float[Tensor, " batch"]:
        """``evaluate(context, y[, z])``: the energies ``(batch,)``, given ``context = encode(x)``."""
        raise NotImplementedError(
            f"{type(self).__name__} must override evaluate(context, y) or evaluate(context, y, z)."
        )

    def forward(self, x: Any, y: Any, *z: Any) -> Float[Tensor, " batch"]:
        """``evaluate(encode(x), y[, z])``."""
        return self.evaluate(self.encode(x), y, *z)

    def normalized(self, x: Any) -> Normalized | None:
        """The problems in units of their own, in which a solver then works; by default None, for those as given.

        Its tolerances and the initial answers that it draws are in these units. Answers, energies and records are not,
        nor are initial answers that are given or computed from ``x``. Override it for an energy whose minimum scales
        with the problem.
        """
        return None

    def accepts(self, x: Any, y: Any) -> Bool[Tensor, " batch"] | None:
        """Whether answers solve their problems, by a test other than the energy; by default None, for no test.

        A solver asks once, at its answers. Converged or stalled samples that fail get the status ``REJECTED``. Override
        it for an energy that is valid for problems of some kind only, where an answer shows whether its problem is of
        that kind.
        """
        return None

    def __add__(self, other: Any) -> "Energy":
        return WeightedSum((self, other)) if _is_energy(other) else NotImplemented

    def __radd__(self, other: Any) -> "Energy":
        return WeightedSum((other, self)) if _is_energy(other) else NotImplemented

    def __mul__(self, weight: Any) -> "Energy":
        return WeightedSum([self], [float(weight)]) if isinstance(weight, int | float) else NotImplemented

    __rmul__ = __mul__

    def config(self) -> dict[str, Any]:
        """The constructor's arguments as JSON values, from which a saved energy is rebuilt."""
        raise NotImplementedError(
            f"{type(self).__name__} has no config(); override it to return the constructor's arguments, or pass "
            "energy= when loading."
        )


class FunctionEnergy(Energy):
    """A plain function, or a module that is not an `Energy`, as an `Energy`.

    Args:
        function: ``function(x, y) -> (batch,)``, or ``function(x, y, z)`` with a scratchpad. A module's parameters
            become this energy's.

    Raises:
        TypeError: if ``function`` cannot be called, or is a class.

    Examples:
        >>> import torch
        >>> from energysolve.energies import FunctionEnergy
        >>> near = FunctionEnergy(lambda x, y: (y - x).square().sum(-1))
        >>> energy = near + 2.0 * FunctionEnergy(lambda x, y: y.square().sum(-1))  # functions alone have no +
        >>> energy(torch.tensor([[3.0]]), torch.tensor([[1.0]]))
        tensor([6.])
    """

    def __init__(self, function: Callable[..., Tensor]):
        super().__init__()
        if not callable(function) or isinstance(function, type):
            raise TypeError(f"An energy must be a function energy(x, y) -> (batch,) or an Energy; got {function!r}.")
        self.function = function

    def evaluate(self, context: Any, y: Any, *z: Any) -> Tensor:
        return self.function(context, y, *z)

    def extra_repr(self) -> str:
        return "" if isinstance(self.function, nn.Module) else getattr(self.function, "__qualname__", "")


class LeastSquares(Energy):
    """``E = 1/2 sum_i r_i(x, y)^2``, for optimizers that look at the residuals, `LevenbergMarquardt` and `FixedPoint`.

    Args:
        residuals: ``residuals(x, y) -> (batch, m)``, or ``residuals(x, y, z)`` with a scratchpad; a function or a
            module, whose parameters become the energy's. None for a subclass that overrides the method `residuals`.
        layout: from ``x`` to the layout of the rows of the residuals, if these are ``(rows, m)`` with several rows for
            a sample; `energysolve.layout.layout_of` for the edges of a batch of graphs.

    Raises:
        TypeError: if an argument is no function.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver, LeastSquares, LevenbergMarquardt
        >>> t = torch.linspace(0, 2, 20)
        >>> fit = LeastSquares(lambda x, y: y[:, :1] * torch.exp(-y[:, 1:] * t) - x)  # one decay per sample
        >>> x = torch.tensor([[2.0], [4.0]]) * torch.exp(-torch.tensor([[1.0], [3.0]]) * t)
        >>> EnergySolver(fit, LevenbergMarquardt()).minimize(x, torch.ones(2, 2)).y.round(decimals=3)
        tensor([[2., 1.],
                [4., 3.]])
    """

    def __init__(self, residuals: Callable[..., Tensor] | None, layout: Callable[[Any], Any] | None = None):
        super().__init__()
        overridden = residuals is None and type(self).residuals is not LeastSquares.residuals
        if not (callable(residuals) or overridden) or isinstance(residuals, type):
            raise TypeError(f"LeastSquares needs a function residuals(x, y) -> (batch, m); got {residuals!r}.")
        if not (layout is None or callable(layout)):
            raise TypeError(f"LeastSquares needs a function of x as its layout, or None; got {layout!r}.")
        self.function = residuals
        self.layout = layout

    def encode(self, x: Any) -> Any:
        """``x``, with the layout of the residuals if there is one; found once per solve."""
        return x if self.layout is None else (x, self.layout(x))

    def residuals(self, context: Any, y: Any, *z: Any) -> Float[Tensor, "rows m"]:
        """The residuals at ``y``, given ``context = encode(x)``.

        Raises:
            ValueError: if they are no floating-point tensor with two dimensions.
        """
        assert self.function is not None
        found = self.function(context if self.layout is None else context[0], y, *z)
        if not isinstance(found, Tensor) or found.ndim != 2 or not found.is_floating_point():
            got = f"{found.dtype} of shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(f"The residuals must be a floating-point tensor of shape (batch, m); got {got}.")
        return found

    def evaluate(self, context: Any, y: Any, *z: Any) -> Float[Tensor, " batch"]:
        squares = self.residuals(context, y, *z).square()
        return (squares.sum(1) if self.layout is None else context[1].sum(squares)) / 2

    def extra_repr(self) -> str:
        return "" if isinstance(self.function, nn.Module) else getattr(self.function, "__qualname__", "")


class Combined(Energy):
    """Several energies of the same problem and answer. Each encodes the problem itself, once per solve.

    Terms with and without a scratchpad can be mixed: only those that take one receive it.
    """

    def __init__(self, energies: Sequence[Callable[..., Tensor]]):
        super().__init__()
        terms = [energy if isinstance(energy, Energy) else FunctionEnergy(energy) for energy in energies]
        if not terms:
            raise ValueError(f"{type(self).__name__} needs at least one energy.")
        self.terms = nn.ModuleList(terms)
        self._needs = tuple(needs_scratchpad(term) for term in terms)
        self._takes = tuple(takes_scratchpad(term) for term in terms)

    def encode(self, x: Any) -> tuple[Any, ...]:
        return tuple(term.encode(x) for term in self._energies())

    def evaluate(self, context: tuple[Any, ...], y: Any, *z: Any) -> Float[Tensor, " batch"]:
        if not any(self._takes) if z else any(self._needs):
            check_scratchpad(self, given=bool(z))
        terms = zip(self._energies(), context, self._takes, strict=True)
        return self.combine([_checked(term, term.evaluate(part, y, *z[:takes])) for term, part, takes in terms])

    def combine(self, energies: list[Tensor]) -> Float[Tensor, " batch"]:
        """The energy ``(batch,)``, given that of each term."""
        raise NotImplementedError

    def _energies(self) -> list[Energy]:
        return list(self.terms)  # pyright: ignore  (a ModuleList is not generic)


class WeightedSum(Combined):
    """``sum_i w_i E_i``, also written ``2.0 * a + b``.

    Args:
        energies: `Energy` objects, other modules or plain functions.
        weights: one finite number per energy; by default ones.
        learnable: make the weights a parameter of shape ``(terms,)``.

    Raises:
        ValueError: if there is no energy, or not one finite weight for each.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver
        >>> from energysolve.energies import Bowl, WeightedSum
        >>> energy = WeightedSum([Bowl(), lambda x, y: y.square().sum(-1) / 2], [1.0, 3.0])  # near x, and small
        >>> EnergySolver(energy).minimize(torch.tensor([[4.0]]), torch.zeros(1, 1)).y.round(decimals=3)
        tensor([[1.]])
    """

    def __init__(
        self,
        energies: Sequence[Callable[..., Tensor]],
        weights: Sequence[float] | None = None,
        learnable: bool = False,
    ):
        super().__init__(energies)
        values = [1.0] * len(self.terms) if weights is None else [float(weight) for weight in weights]
        if len(values) != len(self.terms):
            raise ValueError(f"WeightedSum needs one weight for each of its {len(self.terms)} energies, got {values}.")
        if not all(map(math.isfinite, values)):
            raise ValueError(f"WeightedSum needs finite weights, got {values}.")
        # Fixed weights stay Python numbers: exact in any precision.
        self.weights = nn.Parameter(torch.tensor(values)) if learnable else tuple(values)

    def combine(self, energies: list[Tensor]) -> Float[Tensor, " batch"]:
        return reduce(torch.add, (weight * energy for weight, energy in zip(self.weights, energies, strict=True)))

    def extra_repr(self) -> str:
        return f"learnable {len(self.terms)}" if isinstance(self.weights, Tensor) else f"weights={self.weights}"


def encode_and_evaluate(energy: Callable[..., Tensor]) -> tuple[Callable[[Any], Any], Callable[..., Tensor]]:
    """The two halves of an energy, ``encode(x) -> context`` and ``evaluate(context, y[, z]) -> (batch,)``.

    A callable that is not an `Energy` is its own ``evaluate``, with the problem as its context.
    """
    return (energy.encode, energy.evaluate) if isinstance(energy, Energy) else (_identity, energy)


def takes_scratchpad(energy: Callable[..., Tensor]) -> bool:
    """Whether the energy can be called with a scratchpad ``z``."""
    return any(energy._takes) if isinstance(energy, Combined) else _binds(energy, 3)


def needs_scratchpad(energy: Callable[..., Tensor]) -> bool:
    """Whether the energy can only be called with a scratchpad ``z``."""
    return any(energy._needs) if isinstance(energy, Combined) else not _binds(energy, 2) and _binds(energy, 3)


def check_scratchpad(energy: Callable[..., Tensor], given: bool) -> None:
    """Raise a ValueError if a scratchpad is given and the energy takes none, or if it needs one and none is given."""
    if given and not takes_scratchpad(energy):
        raise ValueError(
            f"A scratchpad z was given, but the energy {_described(energy)} takes none. Write it as energy(x, y, z), "
            "or leave out z and scratchpad=."
        )
    if not given and needs_scratchpad(energy):
        raise ValueError(
            f"The energy {_described(energy)} takes a scratchpad z, but none was given. Construct the solver with "
            "scratchpad=an initializer, or pass z to minimize."
        )


def _signature(energy: Callable[..., Tensor]) -> inspect.Signature | None:
    """None if unknown, as for functions written in C."""
    function: Any = energy.function if isinstance(energy, FunctionEnergy | LeastSquares) else energy
    if isinstance(energy, LeastSquares) and energy.function is None:
        function = energy.residuals
    if isinstance(function, nn.Module):  # its __call__ accepts anything
        function = function.evaluate if isinstance(function, Energy) else function.forward
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def _binds(energy: Callable[..., Tensor], count: int) -> bool:
    """Whether the energy takes this many arguments; without a known signature it is assumed to take two."""
    signature = _signature(energy)
    if signature is None:
        return count == 2
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def _described(energy: Callable[..., Tensor]) -> str:
    name = getattr(energy, "__name__", type(energy).__name__)
    return name if isinstance(energy, Combined) else f"{name}{_signature(energy) or ''}"


def _identity(x: Any) -> Any:
    return x


def _checked(term: Energy, energy: Tensor) -> Tensor:
    if energy.ndim != 1:  # beside (batch,) it would broadcast to a third shape
        raise ValueError(f"{term} returned shape {tuple(energy.shape)}; expected (batch,), one energy for each sample.")
    return energy


def _is_energy(value: Any) -> TypeGuard[Callable[..., Tensor]]:
    return callable(value)
