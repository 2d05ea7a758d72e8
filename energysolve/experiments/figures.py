"""What the figures share: the descent that they show."""

import torch

from ..landscape.descents import DescentPath, descent
from ..presets.catalog import TASKS
from ..seeding import stream
from ..solver import EnergySolver
from .runs import Laboratory, Run


def fresh_descent(
    laboratory: Laboratory, task: str, preset: str, purpose: str, problems: int
) -> tuple[DescentPath, torch.Tensor]:
    """Fresh problems of the easiest difficulty, solved by the energy model of the first seed; with their targets."""
    solver = laboratory.model(Run(task, "irem", preset, 0))
    assert isinstance(solver, EnergySolver)
    source = TASKS[task].task_of(solver)
    generator = stream(f"{purpose} {task}", 0)
    x, target = source.sample(problems, generator=generator)
    return descent(solver.suited(source), x, generator=generator), target
