"""Halting criteria and their algebra.

A criterion sees every iterate, numbered from 0 (the initial point), and fires or not for each sample separately. The
loop carries what it remembers.
"""

import math
from abc import ABC
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .checks import check_nonnegative, check_whole
from .solution import StepInfo, gradient_norms


class Halting(ABC):
    """A halting criterion. Subclasses override `fires`, or `init` and `update` if they need memory.

    ``a | b`` fires where either fires, ``a & b`` where both fire at the same iterate, and
    ``a.patience(n)`` where ``a`` has fired at ``n`` iterates in a row.

    Examples:
        >>> import torch
        >>> from energysolve import SGD, EnergyChange, EnergySolver, GradientNorm
        >>> halting = GradientNorm(0.01) | EnergyChange(atol=0.1).patience(2)
        >>> solver = EnergySolver(lambda x, y: (y - x).square().sum(-1) / 2, SGD(0.5), halting=halting)
        >>> solver.minimize(torch.ones(1, 1), torch.zeros(1, 1)).steps  # energies 0.5, 0.125, 0.031, 0.008
        tensor([3])
    """

    def fires(self, info: StepInfo) -> Bool[Tensor, " batch"]:
        """The samples for which the criterion holds at this iterate."""
        raise NotImplementedError(f"{type(self).__name__} must override fires(info), or init and update.")

    def init(self, energy: Float[Tensor, " batch"]) -> Any:
        """The state before iterate 0, a tree of ``(batch,)`` tensors. ``energy`` shows batch size and device."""
        return ()

    def update(self, info: StepInfo, state: Any) -> tuple[Tensor, Any]:
        """Where the criterion holds at this iterate, ``(batch,)`` bool, and the state for the next."""
        return self.fires(info), state

    def earliest(self) -> float:
        """The first iterate at which it can fire, or infinity. 0 is always right; a later one saves work."""
        return 0.0

    def witness(self) -> "Halting":
        """The part of the criterion that tells a minimum, by default all of it; `Never` if it does not.

        `Implicit` differentiates answers for which it fired; override it in a criterion that fires anywhere.
        """
        return self

    def patience(self, n: int) -> "Patience":
        """A criterion that fires where this one has fired at ``n`` iterates in a row."""
        return Patience(self, n)

    def __or__(self, other: "Halting") -> "Either":
        return Either(self, other) if isinstance(other, Halting) else NotImplemented

    def __and__(self, other: "Halting") -> "Both":
        return Both(self, other) if isinstance(other, Halting) else NotImplemented

    def __bool__(self) -> bool:
        raise TypeError("Combine criteria with | and &: `or` and `and` would drop one. Test with `is None`.")


@dataclass(frozen=True)
class EnergyChange(Halting):
    """The paper's rule (Algorithm 2): the energy has stopped changing.

    Fires where ``|E_t - E_{t-1}| <= atol + rtol * |E_0 - E_t|``, never at iterate 0. The change is compared with the
    total descent rather than with the energy, because a learned energy has an arbitrary offset.

    Args:
        atol: absolute tolerance, in units of the energy.
        rtol: tolerance relative to the descent since iterate 0.

    Raises:
        ValueError: if a tolerance is negative, or both are 0.

    Examples:
        >>> import torch
        >>> from energysolve import SGD, EnergyChange, EnergySolver
        >>> solver = EnergySolver(lambda x, y: (y - x).square().sum(-1) / 2, SGD(0.5), halting=EnergyChange(atol=0.1))
        >>> solver.minimize(torch.ones(1, 1), torch.zeros(1, 1)).steps  # energies 0.5, 0.125, 0.031
        tensor([2])
    """

    atol: float = 0.0
    rtol: float = 0.0

    def __post_init__(self):
        check_nonnegative("EnergyChange", atol=self.atol, rtol=self.rtol)
        if self.atol == 0 and self.rtol == 0:
            raise ValueError("EnergyChange needs a positive tolerance: give atol, rtol or both.")

    def fires(self, info):
        change = (info.energy - info.previous_energy).abs_()
        if self.rtol == 0:
            return change <= self.atol
        allowed = (info.initial_energy - info.energy).abs_().mul_(self.rtol)
        return change <= (allowed.add_(self.atol) if self.atol else allowed)

    def earliest(self):
        return 1


@dataclass(frozen=True)
class GradientNorm(Halting):
    """Fires where the Euclidean norm of the gradient, over all free variables of the sample, is small.

    Args:
        tol: the largest norm at which it fires.
        rtol: this many times the norm at iterate 0 is added to ``tol``.

    Examples:
        >>> import torch
        >>> from energysolve import SGD, EnergySolver, GradientNorm
        >>> solver = EnergySolver(lambda x, y: (y - x).square().sum(-1) / 2, SGD(0.5), halting=GradientNorm(0.1))
        >>> solver.minimize(torch.ones(1, 1), torch.zeros(1, 1)).steps  # norms 1, 0.5, 0.25, 0.125, 0.0625
        tensor([4])
    """

    tol: float = 0.0
    rtol: float = 0.0

    def __post_init__(self):
        check_nonnegative("GradientNorm", tol=self.tol, rtol=self.rtol)

    def init(self, energy):
        return torch.zeros_like(energy) if self.rtol else ()

    def update(self, info, state):
        if not self.rtol:
            return info.gradient_norm <= self.tol, state
        norm, initial = gradient_norms(info, state)
        return norm <= self.tol + self.rtol * initial, initial


@dataclass(frozen=True)
class Stationary(Halting):
    """The solver's default: neither the energy nor the slope tell of a lower answer.

    Fires where the last step changed the energy by at most ``rtol`` times the descent since iterate 0, and the norm of
    the gradient is at most ``gradient_rtol`` times that at iterate 0; or where that norm is at most ``eps ** 0.25``
    times this bound, whatever the energy did. A slow descent is never taken for a minimum.

    Args:
        rtol: by default the 3/4 power of the precision of the energy (2e-12 in float64, 6e-6 in float32).
        gradient_rtol: a share of the initial gradient.

    Examples:
        >>> from energysolve import EnergySolver
        >>> EnergySolver(lambda x, y: (y - x).square().sum(-1)).halting  # the default
        Stationary(rtol=None, gradient_rtol=1e-05)
    """

    rtol: float | None = None
    gradient_rtol: float = 1e-5

    def __post_init__(self):
        check_nonnegative("Stationary", rtol=self.rtol or 0.0, gradient_rtol=self.gradient_rtol)

    def init(self, energy):
        return torch.zeros_like(energy)

    def update(self, info, state):
        norm, initial = gradient_norms(info, state)
        rtol = torch.finfo(norm.dtype).eps ** 0.75 if self.rtol is None else self.rtol
        settled = (info.energy - info.previous_energy).abs() <= rtol * (info.initial_energy - info.energy).abs()
        flat = self.gradient_rtol * initial
        # After a step that gains many digits at once there may be no smaller step that the energy can resolve.
        return (settled & (norm <= flat)) | (norm <= torch.finfo(norm.dtype).eps ** 0.25 * flat), initial


@dataclass(frozen=True)
class StepNorm(Halting):
    """Fires where the Euclidean norm of the last update is at most ``tol``; never at iterate 0.

    Examples:
        >>> import torch
        >>> from energysolve import SGD, EnergySolver, StepNorm
        >>> solver = EnergySolver(lambda x, y: (y - x).square().sum(-1) / 2, SGD(0.5), halting=StepNorm(0.2))
        >>> solver.minimize(torch.ones(1, 1), torch.zeros(1, 1)).steps  # of 0.5, 0.25, 0.125
        tensor([3])
    """

    tol: float

    def __post_init__(self):
        check_nonnegative("StepNorm", tol=self.tol)

    def fires(self, info):
        return info.step_norm <= self.tol

    def earliest(self):
        return 1


@dataclass(frozen=True)
class TargetEnergy(Halting):
    """Fires where the energy is at most ``value``.

    Examples:
        >>> import torch
        >>> from energysolve import SGD, EnergySolver, TargetEnergy
        >>> solver = EnergySolver(lambda x, y: (y - x).square().sum(-1) / 2, SGD(0.5), halting=TargetEnergy(0.1))
        >>> solver.minimize(torch.ones(1, 1), torch.zeros(1, 1)).steps  # energies 0.5, 0.125, 0.031
        tensor([2])
    """

    value: float

    def __post_init__(self):
        if math.isnan(self.value):
            raise ValueError("TargetEnergy needs a number as its value, got NaN.")

    def fires(self, info):
        return info.energy <= self.value

    def witness(self):
        return Never()


@dataclass(frozen=True)
class EnergyIncrease(Halting):
    """Fires where the energy is higher than at the iterate before.

    Examples:
        >>> import torch
        >>> from energysolve import SGD, EnergyIncrease, EnergySolver
        >>> solver = EnergySolver(lambda x, y: y.square().sum(-1), SGD(2.0), halting=EnergyIncrease())  # too long steps
        >>> solver.minimize(torch.zeros(1, 1), torch.ones(1, 1)).energy  # at y = 1, then y = -3
        tensor([9.])
    """

    def fires(self, info):
        return info.energy > info.previous_energy

    def earliest(self):
        return 1

    def witness(self):
        return Never()


@dataclass(frozen=True)
class After(Halting):
    """Fires at iterate ``n`` and every later one.

    Examples:
        >>> import torch
        >>> from energysolve import SGD, After, EnergySolver, GradientNorm
        >>> solver = EnergySolver(lambda x, y: (y - x).square().sum(-1), SGD(0.1), halting=GradientNorm(9.0) & After(3))
        >>> solver.minimize(torch.ones(1, 1), torch.zeros(1, 1)).steps  # at least three, although the slope is below 9
        tensor([3])
    """

    n: int

    def __post_init__(self):
        check_whole("After", least=0, n=self.n)

    def fires(self, info):
        return (info.step >= self.n).expand_as(info.energy)

    def earliest(self):
        return self.n

    def witness(self):
        return Never()


@dataclass(frozen=True)
class Never(Halting):
    """Never fires: every sample takes ``max_steps`` steps, as in training (Algorithm 1 of the paper).

    Examples:
        >>> import torch
        >>> from energysolve import SGD, EnergySolver, Never
        >>> solver = EnergySolver(lambda x, y: (y - x).square().sum(-1), SGD(0.5), halting=Never(), max_steps=7)
        >>> solver.minimize(torch.ones(1, 1), torch.ones(1, 1)).steps  # although it begins at the minimum
        tensor([7])
    """

    def fires(self, info):
        return torch.zeros_like(info.energy, dtype=torch.bool)

    def earliest(self):
        return math.inf


@dataclass(frozen=True)
class _Pair(Halting):
    """Two criteria that both see every iterate."""

    a: Halting
    b: Halting

    def init(self, energy):
        return self.a.init(energy), self.b.init(energy)

    def update(self, info, state):
        a, state_a = self.a.update(info, state[0])
        b, state_b = self.b.update(info, state[1])
        return self.join(a, b), (state_a, state_b)

    def join(self, a: Tensor, b: Tensor) -> Tensor:
        """Where the pair fires, given where each of the two fires."""
        raise NotImplementedError


@dataclass(frozen=True)
class Either(_Pair):
    """``a | b``: fires where at least one of the two fires."""

    def join(self, a, b):
        return a | b

    def earliest(self):
        return min(self.a.earliest(), self.b.earliest())

    def witness(self):
        return Either(self.a.witness(), self.b.witness())


@dataclass(frozen=True)
class Both(_Pair):
    """``a & b``: fires where both fire at the same iterate."""

    def join(self, a, b):
        return a & b

    def earliest(self):
        return max(self.a.earliest(), self.b.earliest())

    def witness(self):
        a, b = self.a.witness(), self.b.witness()
        return self if (a, b) == (self.a, self.b) else (a & self.b) | (self.a & b)


@dataclass(frozen=True)
class Patience(Halting):
    """Fires where ``criterion`` has fired at ``n`` iterates in a row."""

    criterion: Halting
    n: int

    def __post_init__(self):
        check_whole("patience", least=1, n=self.n)

    def init(self, energy):
        never = torch.zeros_like(energy, dtype=torch.bool)
        return self.criterion.init(energy), (never,) * (self.n - 1)

    def update(self, info, state):
        """The state tells where the criterion has fired at the last 1, 2, ..., n - 1 iterates in a row."""
        fires, inner = self.criterion.update(info, state[0])
        streaks = [fires]
        for before in state[1]:
            streaks.append(fires & before)
        return streaks[-1], (inner, tuple(streaks[:-1]))

    def earliest(self):
        return self.criterion.earliest() + self.n - 1

    def witness(self):
        return Patience(self.criterion.witness(), self.n)


@dataclass(frozen=True)
class FunctionHalting(Halting):
    """A criterion made of a function of `StepInfo` by the decorator `halting`."""

    function: Callable[[StepInfo], Tensor]

    def fires(self, info):
        return self.function(info)


def halting(function: Callable[[StepInfo], Tensor]) -> FunctionHalting:
    """Decorator that turns a function from `StepInfo` to a boolean tensor ``(batch,)`` into a halting criterion.

    Examples:
        >>> import torch
        >>> from energysolve import SGD, EnergySolver, halting
        >>> @halting
        ... def low(info):
        ...     return info.energy < 0.1
        >>> solver = EnergySolver(lambda x, y: (y - x).square().sum(-1) / 2, SGD(0.5), halting=low)
        >>> solver.minimize(torch.ones(1, 1), torch.zeros(1, 1)).steps  # energies 0.5, 0.125, 0.031
        tensor([2])
    """
    return FunctionHalting(function)
