"""The tasks that the command line knows, one entry each."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..energies.mlp import MLPEnergy
from ..energies.structured import FactoredCompletion, PreconditionedInverse, SharedQuadratic
from ..solver import EnergySolver
from ..tasks import Addition, Completion, Inverse, Task


@dataclass(frozen=True)
class Entry:
    """A task of the command line.

    Attributes:
        title: for headings.
        error: what the task's error is called.
        paper: the error that the paper reports for its method, by difficulty.
        make_task: from the size.
        make_energy: the paper's, from the size and settings of `MLPEnergy`.
        task_of: the task that a solver was made for; a ValueError if its energy is none of this kind.
        size: the paper's, the default: entries of a summand, or rows and columns of a matrix.
    """

    title: str
    error: str
    paper: Mapping[str, float]
    make_task: Callable[[int], Task]
    make_energy: Callable[..., MLPEnergy]
    task_of: Callable[[EnergySolver], Task]
    size: int


def _addition_of(solver: EnergySolver) -> Task:
    energy = solver.energy
    if isinstance(energy, MLPEnergy) and energy.x_dim == 2 * energy.y_dim:
        return Addition(energy.y_dim)
    if isinstance(energy, SharedQuadratic) and energy.terms == 2:
        return Addition(energy.size)
    raise ValueError(
        "the model is no energy for addition, which takes two summands to one sum of the same size: an MLPEnergy with "
        "x_dim twice its y_dim, or a SharedQuadratic of two terms"
    )


def _completion_of(solver: EnergySolver) -> Task:
    energy = solver.energy
    if isinstance(energy, FactoredCompletion):
        return Completion(energy.rows, energy.columns, energy.rank, energy.noise)
    return Completion(*_matrix("completion", solver))


def _inverse_of(solver: EnergySolver) -> Task:
    energy = solver.energy
    if isinstance(energy, PreconditionedInverse):
        return Inverse(energy.size)
    rows, columns = _matrix("inverse", solver)
    if rows != columns:
        raise ValueError(f"only square matrices have an inverse, and the model answers with {rows} x {columns} ones")
    return Inverse(rows)


def _matrix(name: str, solver: EnergySolver) -> tuple[int, int]:
    """The size of the matrices that an `MLPEnergy` answers with: that of the initial answers."""
    energy, shape = solver.energy, getattr(solver.init, "shape", ())
    if not isinstance(energy, MLPEnergy) or len(shape) != 2:
        raise ValueError(f"the model is no energy for {name}: no MLPEnergy with initial answers of a matrix's shape")
    if not energy.x_dim == energy.y_dim == math.prod(shape):
        raise ValueError(f"the model is no energy for {name}, which takes a matrix to one of the same size")
    return shape[0], shape[1]


def _matrix_energy(size: int, **settings: Any) -> MLPEnergy:
    return MLPEnergy(size * size, size * size, **settings)


TASKS: dict[str, Entry] = {
    "addition": Entry(
        title="Addition",
        error="mean squared error",
        paper={"same": 0.0003, "harder": 0.0021},
        make_task=Addition,
        make_energy=lambda size, **settings: MLPEnergy(2 * size, size, **settings),
        task_of=_addition_of,
        size=400,
    ),
    "completion": Entry(
        title="Matrix completion",
        error="mean squared error",
        paper={"same": 0.0183, "harder": 0.2074},
        make_task=lambda size: Completion(size, size),
        make_energy=_matrix_energy,
        task_of=_completion_of,
        size=20,
    ),
    "inverse": Entry(
        title="Matrix inverse",
        error="mean squared error",
        paper={"same": 0.0108, "harder": 0.2083},
        make_task=Inverse,
        make_energy=_matrix_energy,
        task_of=_inverse_of,
        size=20,
    ),
}
