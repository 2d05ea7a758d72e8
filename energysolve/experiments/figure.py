"""The figure of an evaluation. Importing this module imports matplotlib; ``import energysolve`` does not."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .evaluation import Evaluation, step_edges

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Distinguishable with every kind of colour vision (Okabe and Ito)."""
LINES = ("-", "--", "-.", ":")
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "legend.frameon": False,
    "svg.hashsalt": "energysolve",
}


def draw(evaluations: Sequence[Evaluation], paper: Mapping[str, float], title: str, error: str) -> Figure:
    """Error against steps on the left, the distribution of steps on the right."""
    with rc_context(STYLE):
        figure = Figure(figsize=(10, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        figure.suptitle(title, fontsize=12)
        _draw_errors(left, evaluations, paper, error)
        _draw_steps(right, evaluations)
    return figure


def save_figure(
    folder: Path, evaluations: Sequence[Evaluation], paper: Mapping[str, float], title: str, error: str
) -> list[Path]:
    """Draw error against steps, and the distribution of steps, as ``figure.png`` and ``figure.svg``.

    Returns:
        The files.
    """
    return save(draw(evaluations, paper, title, error), folder, "figure")


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Save a figure as PNG and as SVG, without the date, so that the same figure is the same file; the files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.png", folder / f"{name}.svg"]
    with rc_context({"svg.hashsalt": STYLE["svg.hashsalt"]}):
        for path in paths:
            figure.savefig(path, dpi=160, metadata={"Date": None} if path.suffix == ".svg" else None)
    return paths


def set_log(*sharing: Axes) -> None:
    """A logarithmic vertical axis, if any of the panels that share it has something that can be drawn on one."""
    if any((np.asarray(line.get_ydata()) > 0).any() for axes in sharing for line in axes.lines):
        sharing[0].set_yscale("log")


def _draw_errors(axes: Axes, evaluations: Sequence[Evaluation], paper: Mapping[str, float], error: str) -> None:
    for evaluation, color, line in zip(evaluations, COLORS, LINES, strict=False):
        label = f"{evaluation.difficulty}: {evaluation.error:.1e}"
        axes.plot(evaluation.error_by_step, line, color=color, linewidth=2, label=label)
        reported = paper.get(evaluation.difficulty)
        if reported is not None:
            label = f"{evaluation.difficulty}, paper's IREM: {reported:.1e}"
            axes.axhline(reported, color=color, linewidth=1, linestyle=(0, (1, 2)), label=label)
    axes.set(yscale="log", xlabel="steps", ylabel=error, title="Error against steps", xlim=(0, None))
    axes.grid(axis="y", linewidth=0.4, alpha=0.5)
    axes.legend(fontsize=9)


def _draw_steps(axes: Axes, evaluations: Sequence[Evaluation]) -> None:
    edges = step_edges(evaluations, bins=40)
    for evaluation, color in zip(evaluations, COLORS, strict=False):
        mean = evaluation.statistics()["mean"]
        axes.hist(evaluation.steps, edges, color=color, alpha=0.35)
        axes.hist(evaluation.steps, edges, color=color, histtype="step", linewidth=1.5)
        axes.axvline(mean, color=color, linewidth=1, linestyle="--", label=f"{evaluation.difficulty}: mean {mean:.1f}")
    axes.set(xlabel="steps until halting", ylabel="problems", title="Steps that each problem took")
    axes.legend(fontsize=9)
