"""Energies made of energies."""

import inspect
import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..energy import Energy


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


class _Combined(Energy):
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


class WeightedSum(_Combined):
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


class SoftMin(_Combined):
    """``-T log sum_i exp(-E_i / T)``: at least one of the terms, a disjunction.

    It lies below the least of the energies by at most ``T log(terms)``.

    Args:
        energies: `Energy`s, other modules or plain functions.
        temperature: ``T``, positive, in units of the energy.
    """

    def __init__(self, energies: Sequence[Callable[..., Tensor]], temperature: float = 1.0):
        super().__init__(energies)
        if not (math.isfinite(temperature) and temperature > 0):
            raise ValueError(f"SoftMin needs a positive, finite temperature, got {temperature!r}.")
        self.temperature = float(temperature)

    def combine(self, energies: list[Tensor]) -> Float[Tensor, " batch"]:
        return -self.temperature * torch.logsumexp(torch.stack(energies, -1) / -self.temperature, -1)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}"


class Mapped(_Combined):
    """The energy of functions of problem, answer and scratchpad: ``E(x(x), y(y), z(z))``.

    Args:
        energy: an `Energy`, another module or a plain function.
        x: applied to the problem, once a solve; a module may learn.
        y: applied to the answer, differentiable; a fixed or learned decoder, say.
        z: applied to the scratchpad.
    """

    def __init__(
        self,
        energy: Callable[..., Tensor],
        x: Callable[[Any], Any] | None = None,
        y: Callable[[Any], Any] | None = None,
        z: Callable[[Any], Any] | None = None,
    ):
        super().__init__([energy])
        if z is not None and not self._takes[0]:
            raise ValueError("Mapped was given a function of z, but its energy takes no scratchpad.")
        self.x_map, self.y_map, self.z_map = x, y, z

    def encode(self, x: Any) -> tuple[Any, ...]:
        return super().encode(_applied(self.x_map, x))

    def evaluate(self, context: tuple[Any, ...], y: Any, *z: Any) -> Float[Tensor, " batch"]:
        return super().evaluate(context, _applied(self.y_map, y), *(_applied(self.z_map, pad) for pad in z))

    def combine(self, energies: list[Tensor]) -> Float[Tensor, " batch"]:
        return energies[0]


def takes_scratchpad(energy: Energy) -> bool:
    """Whether the energy can be called with a scratchpad ``z``."""
    return any(energy._takes) if isinstance(energy, _Combined) else _binds(energy, 3)


def needs_scratchpad(energy: Energy) -> bool:
    """Whether the energy can be called with a scratchpad ``z`` only."""
    if isinstance(energy, _Combined):
        return any(energy._needs)
    return not _binds(energy, 2) and _binds(energy, 3)


def _binds(energy: Energy, count: int) -> bool:
    function: Any = energy.function if isinstance(energy, FunctionEnergy) else energy.evaluate
    try:
        # What a module can be called with is known by its forward; its own __call__ takes anything.
        signature = inspect.signature(function.forward if isinstance(function, nn.Module) else function)
    except (TypeError, ValueError):  # no signature: written in C, say
        return count == 2
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def _checked(term: Energy, energy: Tensor) -> Tensor:
    if energy.ndim != 1:  # beside (batch,) it would broadcast to a third shape
        raise ValueError(f"{term} returned shape {tuple(energy.shape)}; expected (batch,), one energy for each sample.")
    return energy


def _applied(function: Callable[[Any], Any] | None, value: Any) -> Any:
    return value if function is None else function(value)
