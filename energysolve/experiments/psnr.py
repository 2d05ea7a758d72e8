"""The peak signal-to-noise ratio after each step, at every noise level: do more steps help, or hurt?"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib import rc_context
from matplotlib.figure import Figure

from ..evaluation.evaluate import answers_by_step
from ..evaluation.figures import COLORS, LINES, STYLE, save
from ..images import psnr
from ..tasks.image import LEVELS
from .runs import Laboratory, Run
from .table5 import TASK, problem, test_images

STEPS = 100
"""The paper takes up to 100 steps at the highest level."""


def reproduce(laboratory: Laboratory, preset: str, seeds: int) -> list[Path]:
    """Measure the preset's energy and draw a figure. Returns the paths of the written files."""
    solver = laboratory.model(Run(TASK, "irem", preset, 0))
    found = {level: _measured(laboratory, solver, level) for level in LEVELS}
    path = laboratory.results / f"psnr-{preset}.json"
    about = {"kind": "psnr", "command": laboratory.command, "preset": preset}
    laboratory.write(path, about | {"levels": {str(level): each for level, each in found.items()}})
    return [path, *save(_drawn(found), laboratory.results, f"psnr-{preset}")]


@torch.no_grad()
def _measured(laboratory: Laboratory, solver: Any, level: int) -> dict[str, Any]:
    """The mean quality after each step without halting, and at the solver's own halting. JSON-able."""
    laboratory.log(f"noise level {level}")
    curves, halted, steps = [], [], []
    for name, clean in test_images(laboratory).items():
        x, _ = problem(name, clean, level)
        curve = [psnr(y, clean).item() for y in answers_by_step(solver, x, STEPS)]
        curves.append(curve + curve[-1:] * (STEPS + 1 - len(curve)))  # at the minimum there is no further step
        solution = solver.minimize(x)
        halted.append(psnr(solution.y, clean).item())
        steps.append(int(solution.steps[0]))
    return {
        "images": len(curves),
        "psnr_by_step": list(map(_mean, zip(*curves, strict=True))),
        "psnr": _mean(halted),
        "steps": _mean(steps),
    }


def _drawn(found: Mapping[int, Mapping[str, Any]]) -> Figure:
    with rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.8), layout="constrained")
        axes = figure.subplots()
        for number, (level, each) in enumerate(found.items()):
            style: Any = {"color": COLORS[number % len(COLORS)], "linestyle": LINES[number % len(LINES)]}
            axes.plot(each["psnr_by_step"], label=f"noise level {level}", **style)
            axes.plot(each["steps"], each["psnr"], "o", color=style["color"])
        axes.set(
            xlabel="steps (dots: where the solver stops)", ylabel="peak signal-to-noise ratio, dB", xscale="symlog"
        )
        axes.grid(axis="y", linewidth=0.4, alpha=0.5)
        axes.legend(fontsize=8)
    return figure


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
