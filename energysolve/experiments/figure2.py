"""Figure 2: error against steps on graphs of several sizes, for every task on graphs and the methods that iterate."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..evaluation.evaluate import answers_by_step, finite
from ..evaluation.figures import save
from ..landscape.figures import Curves, draw_error_panels
from ..presets import METHODS, Domain
from ..ragged import rows_select
from ..seeding import stream
from ..solver import EnergySolver
from .runs import Laboratory, Run

SIZES = (10, 15, 20, 25, 30)
STEPS = 20
_PROBLEMS = 200
_CHUNK = 25


def reproduce(laboratory: Laboratory, preset: str, seeds: int) -> list[Path]:
    """Draw a figure per task and save its numbers. Returns the paths of the written files."""
    paths, tasks = [], {}
    problems = min(_PROBLEMS, laboratory.problems)
    for task, domain in laboratory.graphs().items():
        shown = [name for name in ("irem", "recurrent") if name in domain.methods]
        runs = {METHODS[name]: Run(task, name, preset if name == "irem" else "paper") for name in shown}
        models = {title: laboratory.model(run) for title, run in runs.items()}
        tasks[task] = {title: errors_by_size(model, domain, problems) for title, model in models.items()}
        panels = {title: _panel(errors) for title, errors in tasks[task].items()}
        figure = draw_error_panels(panels, f"{domain.title}: error against steps", "steps", "mean squared error")
        paths += save(figure, laboratory.results, f"figure2-{task}")
    result = laboratory.results / "figure2.json"
    content = {"kind": "figure2", "command": laboratory.command, "preset": preset, "problems": problems}
    laboratory.write(result, {**content, "tasks": tasks})
    return [*paths, result]


def errors_by_size(model: Any, domain: Domain, problems: int) -> dict[int, list[float | None]]:
    """The mean error after each step on fresh problems of each size, without halting."""
    return {size: _by_step(model, domain.task(size), problems, size) for size in SIZES}


@torch.no_grad()
def _by_step(model: Any, task: Any, problems: int, size: int) -> list[float | None]:
    generator = stream(f"figure2 {task!r}", size)
    x, target = task.sample(problems, "same", generator)
    rows = task.split((x, target, None, None))
    errors = []
    for start in range(0, problems, _CHUNK):
        some, wanted, *_ = task.merge(rows_select(rows, slice(start, start + _CHUNK)))
        answers: Sequence[Any] = answers_by_step(model, some, STEPS, generator)
        curve = torch.stack([task.error_of(y, some, wanted) for y in answers])
        # A descent ends early where no graph can go on; a baseline's curve begins after its first step.
        missing = STEPS + isinstance(model, EnergySolver) - len(curve)
        errors.append(torch.cat([curve, curve[-1:].expand(missing, -1)]))
    return [finite(error) for error in torch.cat(errors, 1).double().mean(1).tolist()]


def _panel(errors: dict[int, list[float | None]]) -> Curves:
    curves = {f"{size} nodes": [float("inf") if e is None else e for e in curve] for size, curve in errors.items()}
    return Curves(curves, {}, {name: range(STEPS + 1 - len(curve), STEPS + 1) for name, curve in curves.items()})
