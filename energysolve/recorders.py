"""Recorders: data that a solve stores besides its answers."""

from abc import ABC
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .layout import Layout, all_of


class Recorder(ABC):
    """Observes the iterates of a solve; what `finish` returns becomes ``solution.record``.

    At each iterate it sees the free variables ``(y,)`` or ``(y, z)`` and their energies; those of halted samples no
    longer change. Recorded tensors carry no gradient.

    Examples:
        >>> import torch
        >>> from energysolve import SGD, EnergySolver, Never
        >>> from energysolve.recorders import Recorder
        >>> class Energies(Recorder):
        ...     def init(self, free, energy, layout):
        ...         return [energy]
        ...
        ...     def update(self, state, free, energy, step):
        ...         return [*state, energy]
        ...
        ...     def finish(self, state, steps):
        ...         return torch.stack(state)
        >>> settings = {"halting": Never(), "max_steps": 2, "recorder": Energies()}
        >>> solver = EnergySolver(lambda x, y: y.square().sum(-1) / 2, SGD(0.5), **settings)
        >>> solver.minimize(torch.zeros(1, 1), torch.ones(1, 1)).record.flatten()
        tensor([0.5000, 0.1250, 0.0312])
    """

    def init(self, free: Any, energy: Float[Tensor, " batch"], layout: Layout) -> Any:
        """The state after iterate 0."""
        return None

    def update(self, state: Any, free: Any, energy: Float[Tensor, " batch"], step: Int[Tensor, "*batch"]) -> Any:
        """The state after iterate ``step``, one number for all samples or one per sample.

        An optimizer that refuses a candidate for a sample leaves it at its iterate, which is then seen again.
        """
        return state

    def finish(self, state: Any, steps: Int[Tensor, " batch"]) -> Any:
        """The record, given the number of steps that each sample took."""
        return None


@dataclass(frozen=True)
class Nothing(Recorder):
    """Records nothing; ``solution.record`` is None.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver, Nothing
        >>> solver = EnergySolver(lambda x, y: (y - x).square().sum(-1), recorder=Nothing())
        >>> solver.minimize(torch.ones(1, 1), torch.zeros(1, 1)).record is None
        True
    """


class Best(NamedTuple):
    """The record of `BestSoFar`: the lowest-energy iterate of each sample.

    Examples:
        >>> import torch
        >>> from energysolve import SGD, BestSoFar, EnergySolver, Never
        >>> settings = {"halting": Never(), "max_steps": 1, "recorder": BestSoFar()}
        >>> solver = EnergySolver(lambda x, y: y.square().sum(-1), SGD(2.0), **settings)  # steps lead from 1 to -3
        >>> best = solver.minimize(torch.zeros(1, 1), torch.ones(1, 1)).record  # a `Best`
        >>> best.y, best.energy, best.step
        (tensor([[1.]]), tensor([1.]), tensor([0]))
    """

    y: Any
    z: Any
    energy: Float[Tensor, " batch"]
    step: Int[Tensor, " batch"]


class _BestState(NamedTuple):
    free: Any
    energy: Tensor
    step: Tensor
    layout: Layout


@dataclass(frozen=True)
class BestSoFar(Recorder):
    """Records the lowest-energy iterate of each sample, the initial point included, as a `Best`.

    Examples:
        >>> import torch
        >>> from energysolve import SGD, BestSoFar, EnergySolver, Never
        >>> solver = EnergySolver(
        ...     lambda x, y: y.square().sum(-1) / 2, SGD(3.0), halting=Never(), recorder=BestSoFar(), max_steps=4
        ... )
        >>> solution = solver.minimize(torch.zeros(1, 1), torch.ones(1, 1))  # such long steps diverge: 1, -2, 4, -8, 16
        >>> solution.y, solution.record.y, solution.record.step
        (tensor([[16.]]), tensor([[1.]]), tensor([0]))
    """

    def init(self, free, energy, layout):
        return _BestState(free, energy, torch.zeros_like(energy, dtype=torch.int64), layout)

    def update(self, state, free, energy, step):
        better = energy < state.energy
        if all_of(better):  # checking costs less than copying
            return _BestState(free, energy, step, state.layout)
        return _BestState(
            free=state.layout.where(better, free, state.free),
            energy=torch.where(better, energy, state.energy),
            step=torch.where(better, step, state.step),
            layout=state.layout,
        )

    def finish(self, state, steps):
        y, z = state.free if len(state.free) == 2 else (state.free[0], None)
        return Best(y, z, state.energy, state.step.expand_as(state.energy))


class Path(NamedTuple):
    """The record of `Trajectory`: entry ``k`` of each list belongs to iterate ``k``, from 0 to the largest step count.

    The last iterate of a sample that halted earlier is repeated.

    Examples:
        >>> import torch
        >>> from energysolve import SGD, EnergySolver, Trajectory
        >>> solver = EnergySolver(lambda x, y: (y - x).square().sum(-1), SGD(0.5), recorder=Trajectory())
        >>> path = solver.minimize(torch.ones(1, 1), torch.zeros(1, 1)).record  # a `Path`
        >>> path.y, path.energy
        ([tensor([[0.]]), tensor([[1.]])], [tensor([1.]), tensor([0.])])
    """

    y: list[Any]
    z: list[Any]
    energy: list[Tensor]


@dataclass(frozen=True)
class Trajectory(Recorder):
    """Records every iterate, as a `Path`. Memory grows with the number of steps.

    Examples:
        >>> import torch
        >>> from energysolve import SGD, EnergySolver, Never, Trajectory
        >>> solver = EnergySolver(
        ...     lambda x, y: y.square().sum(-1) / 2, SGD(0.5), halting=Never(), recorder=Trajectory(), max_steps=3
        ... )
        >>> path = solver.minimize(torch.zeros(1, 1), torch.ones(1, 1)).record
        >>> [y.item() for y in path.y], [energy.item() for energy in path.energy]
        ([1.0, 0.5, 0.25, 0.125], [0.5, 0.125, 0.03125, 0.0078125])
    """

    def init(self, free, energy, layout):
        return _TrajectoryState(layout, [(free, energy)], [])

    def update(self, state, free, energy, step):
        state.iterates.append((free, energy))
        state.steps.append(step)
        return state

    def finish(self, state, steps):
        kept = state.iterates[: int(steps.max()) + 1]
        if state.steps and state.steps[0].ndim:
            kept = _aligned(state, int(steps.max()) + 1)
        return Path(
            y=[free[0] for free, _ in kept],
            z=[free[1] if len(free) == 2 else None for free, _ in kept],
            energy=[energy for _, energy in kept],
        )


class _TrajectoryState(NamedTuple):
    layout: Layout
    iterates: list[tuple[Any, Tensor]]
    steps: list[Tensor]
    """Of all the iterates but the first."""


def _aligned(state: _TrajectoryState, count: int) -> list[tuple[Any, Tensor]]:
    """Iterates 0 to ``count - 1`` of each sample, where samples reach them after different numbers of trials."""
    steps = torch.stack([torch.zeros_like(state.steps[0]), *state.steps])
    aligned = []
    for k in range(count):
        first = (steps < k).sum(0).clamp(max=len(steps) - 1)  # the trial at which each sample reached iterate k
        free, energy = state.iterates[0]
        for trial in first.unique().tolist():
            chosen, (later_free, later_energy) = first == trial, state.iterates[trial]
            free = state.layout.where(chosen, later_free, free)
            energy = torch.where(chosen, later_energy, energy)
        aligned.append((free, energy))
    return aligned
