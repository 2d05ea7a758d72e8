"""The tasks that the command line knows, one entry each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..energies.mlp import MLPEnergy
from ..energy import Energy
from ..tasks import Addition, Task


@dataclass(frozen=True)
class Entry:
    """A task of the command line.

    Attributes:
        title: for headings.
        error: what the task's error is called.
        paper: the error that the paper reports for its method, by difficulty.
        make_task: from the size.
        make_energy: from the size, the width and the entries of the scratchpad.
        task_of: the task that a trained energy was made for; a ValueError if it is none of this kind.
        size: the paper's, the default.
    """

    title: str
    error: str
    paper: Mapping[str, float]
    make_task: Callable[[int], Task]
    make_energy: Callable[[int, int, int], Energy]
    task_of: Callable[[Any], Task]
    size: int


def _addition_of(energy: Any) -> Task:
    if not isinstance(energy, MLPEnergy) or energy.x_dim != 2 * energy.y_dim:
        raise ValueError(
            "the model is no energy for addition, which takes two summands to one sum of the same size: an MLPEnergy "
            "with x_dim twice its y_dim"
        )
    return Addition(energy.y_dim)


TASKS: dict[str, Entry] = {
    "addition": Entry(
        title="Addition",
        error="mean squared error",
        paper={"same": 0.0003, "harder": 0.0021},
        make_task=Addition,
        make_energy=lambda size, width, pad: MLPEnergy(2 * size, size, z_dim=pad, width=width),
        task_of=_addition_of,
        size=400,
    ),
}
