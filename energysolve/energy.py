"""Energies: the base class, plain functions as energies, and weighted sums."""

import inspect
import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, TypeGuard

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Energy(nn.Module):
    """An energy ``E(x, y)`` or ``E(x, y, z)``: one number a sample, how bad the answer ``y`` is for the problem ``x``.

    Any callable will do as an energy; this base class splits it in two, so that a solve pays once for what depends on
    ``x`` alone. Subclasses write `evaluate`, and `encode` where there is something to save. Energies of the same
    problem and answer add up, with weights: ``2.0 * a + b``.
    """

    def encode(self, x: Any) -> Any:
        """What `evaluate` needs of the problem; called once a solve. By default ``x`` itself."""
        return x

    def evaluate(self, *args: Any, **kwargs: Any) -> Float[Tensor, " batch"]:
        """Energies ``(batch,)`` of ``y``, and of the scratchpad ``z`` if the energy takes one, in ``encode(x)``."""
        raise NotImplementedError(
            f"{type(self).__name__} must override evaluate(context, y) or evaluate(context, y, z)."
        )

    def forward(self, x: Any, y: Any, *z: Any) -> Float[Tensor, " batch"]:
        """``evaluate(encode(x), y[, z])``."""
        return self.evaluate(self.encode(x), y, *z)

    def __add__(self, other: Any) -> "Energy":
        return WeightedSum((self, other)) if _is_energy(other) else NotImplemented

    def __radd__(self, other: Any) -> "Energy":
        return WeightedSum((other, self)) if _is_energy(other) else NotImplemented

    def __mul__(self, weight: Any) -> "Energy":
        return WeightedSum([self], [float(weight)]) if isinstance(weight, int | float) else NotImplemented

    __rmul__ = __mul__

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, JSON-able, so that the energy can be saved and built again."""
        raise NotImplementedError(
            f"{type(self).__name__} has no config(); override it to return the constructor's arguments, or pass "
            "energy= when loading."
        )


class FunctionEnergy(Energy):
    """A plain function, or a module that is no `Energy`, as an `Energy`.

    Args:
        function: ``function(x, y) -> (batch,)``, or ``function(x, y, z)`` with a scratchpad. A module's parameters
            become this energy's.
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


class Combined(Energy):
    """Terms that share one problem and one answer; each encodes the problem once a solve, in its own way.

    Terms with a scratchpad and terms without may be mixed: each gets what it takes.
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
        if z and not any(self._takes):
            raise ValueError(f"A scratchpad z was given, but none of the energies of {type(self).__name__} takes one.")
        if not z and any(self._needs):
            raise ValueError(f"An energy of {type(self).__name__} takes a scratchpad z, but none was given.")
        terms = zip(self._energies(), context, self._takes, strict=True)
        return self.combine([_checked(term, term.evaluate(part, y, *z[:takes])) for term, part, takes in terms])

    def combine(self, energies: list[Tensor]) -> Float[Tensor, " batch"]:
        """The energy, given that of each term, ``(batch,)``."""
        raise NotImplementedError

    def _energies(self) -> list[Energy]:
        return list(self.terms)  # pyright: ignore  (a ModuleList is not generic)


class WeightedSum(Combined):
    """``sum_i w_i E_i``: all the terms at once. Also written ``2.0 * a + b``.

    Args:
        energies: `Energy`s, other modules or plain functions.
        weights: one finite number for each; by default ones.
        learnable: make the weights a parameter ``(terms,)``.
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
        # Fixed weights stay Python numbers, exact in whichever precision the energies are.
        self.weights = nn.Parameter(torch.tensor(values)) if learnable else tuple(values)

    def combine(self, energies: list[Tensor]) -> Float[Tensor, " batch"]:
        return reduce(torch.add, (weight * energy for weight, energy in zip(self.weights, energies, strict=True)))

    def extra_repr(self) -> str:
        return f"learnable {len(self.terms)}" if isinstance(self.weights, Tensor) else f"weights={self.weights}"


def takes_scratchpad(energy: Energy) -> bool:
    """Whether the energy can be called with a scratchpad ``z``."""
    return any(energy._takes) if isinstance(energy, Combined) else _takes(energy, 3)


def needs_scratchpad(energy: Energy) -> bool:
    """Whether the energy can be called with a scratchpad ``z`` only."""
    if isinstance(energy, Combined):
        return any(energy._needs)
    return not _takes(energy, 2) and _takes(energy, 3)


def _takes(energy: Energy, count: int) -> bool:
    function: Any = energy.function if isinstance(energy, FunctionEnergy) else energy.evaluate
    try:
        # What a module can be called with is known by its forward; its own __call__ takes anything.
        signature = inspect.signature(function.forward if isinstance(function, nn.Module) else function)
    except (TypeError, ValueError):  # no signature: written in C, say
        return count == 2
    return _binds(signature, count)


def _checked(term: Energy, energy: Tensor) -> Tensor:
    if energy.ndim != 1:  # beside (batch,) it would broadcast to a third shape
        raise ValueError(f"{term} returned shape {tuple(energy.shape)}; expected (batch,), one energy for each sample.")
    return energy


def check_takes_scratchpad(function: Callable[..., Any], name: str, given: bool) -> None:
    """Raise a ValueError if ``function`` needs a scratchpad and gets none, or the reverse."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    if given and not _binds(signature, 3):
        raise ValueError(
            f"A scratchpad z was given, but the energy {name}{signature} takes none. Write it as energy(x, y, z), or "
            "leave out z and scratchpad=."
        )
    if not given and not _binds(signature, 2) and _binds(signature, 3):
        raise ValueError(
            f"The energy {name}{signature} takes a scratchpad z, but none was given. Construct the solver with "
            "scratchpad=an initializer, or pass z to minimize."
        )


def _binds(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def _is_energy(value: Any) -> TypeGuard[Callable[..., Tensor]]:
    return callable(value)
