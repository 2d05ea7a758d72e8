"""What the figures share: where they are saved, and the solver that they show."""

from pathlib import Path

import torch
from matplotlib.figure import Figure

from ..solver import EnergySolver
from .catalog import TASKS
from .descents import DescentPath, descent
from .evaluation import stream
from .runs import Laboratory, Run


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Save a figure as PNG and as SVG; the files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.png", folder / f"{name}.svg"]
    for path in paths:
        figure.savefig(path, dpi=160)
    return paths


def fresh_descent(
    laboratory: Laboratory, task: str, preset: str, purpose: str, problems: int
) -> tuple[DescentPath, torch.Tensor]:
    """Fresh problems of the easiest difficulty, solved by the energy model of the first seed; with their targets."""
    solver = laboratory.model(Run(task, "irem", preset, 0))
    assert isinstance(solver, EnergySolver)
    source = TASKS[task].task_of(solver)
    generator = stream(f"{purpose} {task}", 0)
    x, target = source.sample(problems, generator=generator)
    return descent(solver.replace(init=solver.init or source.init), x, generator=generator), target
