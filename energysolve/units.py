"""Problems in units of their own: solved there, with answers, energies and records in the user's units."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .energy import Energy, Normalized
from .initializers import Normal, Uniform, Zeros
from .layout import Layout
from .recorders import Nothing, Recorder
from .solution import Solution, Status
from .trees import tree_map


@dataclass(frozen=True, eq=False)
class Units:
    """The units of one batch of problems, see `Normalized`; ``start`` holds the initial answers in the user's units."""

    normalized: Normalized
    layout: Layout
    start: Any = None

    def entered(self, free: tuple[Any, ...], init: Any) -> tuple["Units", tuple[Any, ...]]:
        """The units with these initial answers, and the free variables in them.

        Answers that ``init`` draws without a look at the problems are in units of the problems already; those that the
        user gave, or that were computed from the problems, are not.
        """
        y, *z = free
        if isinstance(init, Uniform | Normal | Zeros):
            return replace(self, start=self.out_of(y)), free
        return replace(self, start=y), (_scaled(self.layout, 1 / self.normalized.unit, y), *z)

    def out_of(self, y: Any) -> Any:
        """Answers in the user's units."""
        return _scaled(self.layout, self.normalized.unit, y)

    def recorder(self, recorder: Recorder) -> Recorder:
        """A recorder that shows ``recorder`` the iterates in the user's units."""
        return recorder if isinstance(recorder, Nothing) else _Rescaled(recorder, self)

    def solution(self, found: Solution) -> Solution:
        """The solution in the user's units; a sample that took no step keeps its initial answer exactly."""
        y = self.layout.where(found.steps > 0, self.out_of(found.y), self.start)
        return replace(found, y=y, energy=found.energy * self.normalized.energy)


def units_of(energy: Any, x: Any, layout: Layout) -> Units | None:
    """The units in which an energy wants the problems to be solved; None for those in which they are given."""
    normalized = energy.normalized(x) if isinstance(energy, Energy) else None
    return None if normalized is None else Units(normalized, layout)


@torch.no_grad()
def checked(energy: Any, x: Any, solution: Solution) -> Solution:
    """The solution, with the status REJECTED for answers that do not pass the energy's own test, even if no lower ones
    were found."""
    passed = energy.accepts(x, tree_map(Tensor.detach, solution.y)) if isinstance(energy, Energy) else None
    if passed is None:
        return solution
    settled = solution.converged | (solution.status == Status.STALLED)
    status = torch.where(settled & ~passed, int(Status.REJECTED), solution.status)
    return replace(solution, status=status)


@dataclass(frozen=True, eq=False)
class _Rescaled(Recorder):
    inner: Recorder
    units: Units

    def init(self, free, energy, layout):
        return self.inner.init(*self._out(free, energy), layout)

    def update(self, state, free, energy, step):
        return self.inner.update(state, *self._out(free, energy), step)

    def finish(self, state, steps):
        return self.inner.finish(state, steps)

    def _out(self, free: Any, energy: Tensor) -> tuple[Any, Tensor]:
        normalized = tree_map(Tensor.detach, (self.units.normalized.unit, self.units.normalized.energy))
        y = _scaled(self.units.layout, normalized[0], free[0])
        return (y, *free[1:]), energy * normalized[1]


def _scaled(layout: Layout, unit: Tensor, y: Any) -> Any:
    return tree_map(lambda leaf: layout.expand(unit.to(leaf.dtype), leaf) * leaf, y)
