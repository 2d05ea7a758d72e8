"""Solvers with a structured energy, made anew for problems of another size: what was learned does not depend on it."""

import math

from ..energies.structured import FactoredCompletion, PreconditionedInverse, SharedQuadratic
from ..solver import EnergySolver
from ..tasks import Addition, Completion, Inverse, Task
from .structured import best


def fitted(name: str, solver: EnergySolver, row_shape: tuple[int, ...]) -> EnergySolver:
    """The solver for problems of a shape; itself if it takes them already or its energy is not a structured one.

    For another size it gets the best settings of the task at that size; its halting criterion stays.

    Args:
        name: of the task.
        solver: with a trained energy, for problems of any size.
        row_shape: of one problem: two summands in a row, a matrix, or a square matrix flattened.

    Raises:
        ValueError: if the task has no problems of that shape.
    """
    energy = solver.energy
    if not isinstance(energy, SharedQuadratic | PreconditionedInverse | FactoredCompletion):
        return solver
    task = _task(name, energy, row_shape)
    made = best(name, task)
    larger = made.make_energy()
    if larger.config() == energy.config():
        return solver
    larger.load_state_dict(energy.state_dict())
    return solver.replace(energy=larger.eval(), optimizer=made.optimizer, init=made.init, scratchpad=made.scratchpad)


def _task(name: str, energy: object, row_shape: tuple[int, ...]) -> Task:
    entries = math.prod(row_shape)
    if isinstance(energy, SharedQuadratic):
        if entries % 2 or not entries:
            raise ValueError(f"Two summands one after the other have an even number of entries; got {row_shape}.")
        return Addition(entries // 2)
    rows, columns = row_shape if len(row_shape) == 2 else (math.isqrt(entries),) * 2
    if rows * columns != entries or not entries:
        raise ValueError(
            f"{name} takes an array (problems, rows, columns), or square matrices flattened; got problems of shape "
            f"{row_shape}."
        )
    if isinstance(energy, FactoredCompletion):
        return Completion(rows, columns, energy.rank, energy.noise)
    if rows != columns:
        raise ValueError(f"Only square matrices have an inverse; got problems of shape {row_shape}.")
    return Inverse(rows)
