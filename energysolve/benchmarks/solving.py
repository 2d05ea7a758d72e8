"""Problems per second, with halting and compaction, against a loop with a fixed number of steps for every problem."""

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..energies.mlp import MLPEnergy
from ..halting import EnergyChange
from ..layout import Dense
from ..optimizers import SGD
from ..seeding import stream
from ..solver import EnergySolver
from ..tasks import Addition
from .reference import PlainEnergy, plain_descent
from .report import Bound, Report
from .setting import Setting
from .timing import alternating, ratio

BATCHES = (512, 4096)
STEPS, STEP_SIZE = 80, 10.0
"""Number and size of the steps of the loop, as in the authors' release."""
OURS = {"optimizer": SGD(60.0), "halting": EnergyChange(atol=1.5e-4).patience(2), "max_steps": STEPS, "compact": True}
"""Chosen on other problems to give the same errors as the loop, see ``docs/speed.md``."""
RATIO, ERROR_RATIO = 1 / 5, 1.1
_TITLE = "Solving with the shipped addition energy"


def measure_solving(solver: EnergySolver, setting: Setting, report: Report, *, rounds: int) -> None:
    """Measure the time to solve a batch, relative to a loop of 80 steps, and the errors of both.

    Args:
        solver: a solver with an `MLPEnergy` for addition; its optimizer, halting and maximum of steps are replaced.
        setting: provides the device and the seed.
        report: receives the results.
        rounds: number of alternating rounds, 2 or more.
    """
    energy = solver.energy.to(setting.device)  # pyright: ignore
    assert isinstance(energy, MLPEnergy)
    ours, plain = solver.replace(**OURS), PlainEnergy.like(energy)
    task = Addition(energy.y_dim)
    cells = [(difficulty, batch) for batch in BATCHES for difficulty in task.difficulties]
    rows: list[dict[str, Any]] = []
    bounds: list[Bound] = []
    for difficulty, batch in cells:
        generator = stream(f"bench solve {difficulty} {batch}", setting.seed, setting.device)
        x, target = task.sample(batch, difficulty, generator, setting.device)
        y = task.init(x, Dense(batch), generator)
        functions = {"ours": partial(_ours, ours, x, y), "reference": partial(_plain, plain, x, y)}
        times = alternating(functions, rounds, device=setting.device)
        rows.append({"problems": difficulty, "batch": batch} | _row(functions, target, times))
        bounds += _bounds(rows[-1])
        figures = {"rounds": rounds, "ours": {name: str(part) for name, part in OURS.items()}}
        report.write("solving", _TITLE, rows, figures, bounds, complete=len(rows) == len(cells))


@torch.no_grad()
def _ours(solver: EnergySolver, x: Tensor, y: Tensor) -> tuple[Tensor, float]:
    solution = solver.minimize(x, y)
    return solution.y, solution.steps.double().mean().item()


def _plain(energy: PlainEnergy, x: Tensor, y: Tensor) -> tuple[Tensor, float]:
    return plain_descent(energy, x, y, STEPS, STEP_SIZE), STEPS


def _row(
    functions: dict[str, Callable[[], tuple[Tensor, float]]], target: Tensor, times: dict[str, list[float]]
) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, function in functions.items():
        answers, steps = function()
        row[f"{name}_steps"] = steps
        row[f"{name}_error"] = (answers - target).square().mean().item()
        row[f"{name}_per_s"] = len(target) / statistics.median(times[name])
    found = ratio(times["ours"], times["reference"])
    return row | {"over_reference": found["ratio"], "quartiles": found["ratio_quartiles"]}


def _bounds(row: dict[str, Any]) -> list[Bound]:
    which = f"{row['batch']:,} {row['problems']!r} problems"
    return [
        Bound(f"{which}: time over the loop's", row["over_reference"], RATIO),
        Bound(f"{which}: error over the loop's", row["ours_error"] / row["reference_error"], ERROR_RATIO),
    ]
