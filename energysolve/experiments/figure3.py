"""Figure 3: error against steps for every method, on problems of both difficulties."""

import math
from pathlib import Path
from typing import Any

from ..evaluation.figures import save
from ..landscape.figures import Curves, draw_error_panels
from ..presets import METHODS, domain_named
from .runs import Laboratory, Run
from .tables import floor_rows

_RANGE = 3.0
"""The largest error shown, relative to the largest floor."""


def reproduce(laboratory: Laboratory, preset: str, seeds: int) -> list[Path]:
    """Make the missing runs and a figure per task. Returns the paths of the written files."""
    paths = []
    for task, domain in laboratory.continuous().items():
        runs = {name: laboratory.result(run) for name, run in methods_of(task, preset).items()}
        panels = {d: panel(runs, d) for d in next(iter(runs.values()))["difficulties"]}
        most = max(max(curves.floors.values()) for curves in panels.values())
        title, error = f"{domain.title}: error against steps", domain.task(domain.size).error_name
        figure = draw_error_panels(panels, title, "steps", error, limit=_RANGE * most)
        paths += save(figure, laboratory.results, f"figure3-{task}")
    return paths


def methods_of(task: str, preset: str) -> dict[str, Run]:
    """The runs by title: baselines with the paper's settings, the energy model with those of ``preset``."""
    names = domain_named(task).methods
    return {METHODS[name]: Run(task, name, preset if name == "irem" else "paper") for name in names}


def panel(runs: dict[str, dict[str, Any]], difficulty: str) -> Curves:
    """The curves of one difficulty; those of baselines start after the first step."""
    found = {name: run["difficulties"][difficulty]["error_by_step"] for name, run in runs.items()}
    errors = {name: [math.inf if error is None else error for error in curve] for name, curve in found.items()}
    longest = max(map(len, errors.values()))
    floors = {name: found[difficulty] for name, found in floor_rows(runs.values()).items() if difficulty in found}
    return Curves(errors, floors, {name: range(longest - len(each), longest) for name, each in errors.items()})
