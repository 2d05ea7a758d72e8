"""Figures of errors and steps. Importing this module imports matplotlib; ``import energysolve`` does not."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .evaluate import Performance, step_edges

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Colours that are distinguishable with every kind of colour vision (Okabe and Ito)."""
LINES = ("-", "--", "-.", ":")
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "legend.frameon": False,
    "svg.hashsalt": "energysolve",
}


def save_figure(
    folder: Path, evaluations: Sequence[Performance], paper: Mapping[str, float], title: str, error: str
) -> list[Path]:
    """Draw error against steps and the distribution of steps; returns the paths of the PNG and the SVG file."""
    with rc_context(STYLE):
        figure = Figure(figsize=(10, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        figure.suptitle(title, fontsize=12)
        _draw_errors(left, evaluations, paper, error)
        _draw_steps(right, evaluations)
    return save(figure, folder, "figure")


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Save a figure as PNG and SVG, without a date, so that equal figures give equal files; returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.png", folder / f"{name}.svg"]
    with rc_context({"svg.hashsalt": STYLE["svg.hashsalt"]}):
        for path in paths:
            figure.savefig(path, dpi=160, metadata={"Date": None} if path.suffix == ".svg" else None)
    return paths


def set_log(*sharing: Axes) -> None:
    """Make the vertical axis that panels share logarithmic, if any of them has a positive value."""
    if any((np.asarray(line.get_ydata()) > 0).any() for axes in sharing for line in axes.lines):
        sharing[0].set_yscale("log")


def _draw_errors(axes: Axes, evaluations: Sequence[Performance], paper: Mapping[str, float], error: str) -> None:
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


def _draw_steps(axes: Axes, evaluations: Sequence[Performance]) -> None:
    edges = step_edges(evaluations, bins=40)
    for evaluation, color in zip(evaluations, COLORS, strict=False):
        mean = evaluation.statistics()["mean"]
        axes.hist(evaluation.steps, edges, color=color, alpha=0.35)
        axes.hist(evaluation.steps, edges, color=color, histtype="step", linewidth=1.5)
        axes.axvline(mean, color=color, linewidth=1, linestyle="--", label=f"{evaluation.difficulty}: mean {mean:.1f}")
    axes.set(xlabel="steps until halting", ylabel="problems", title="Steps that each problem took")
    axes.legend(fontsize=9)


@dataclass(frozen=True)
class Curves:
    """Errors of several methods, for one panel.

    Args:
        errors: the errors of each method, along the horizontal axis.
        floors: errors of trivial answers by name, drawn as horizontal lines.
        x: horizontal positions of the errors of a method; by default 0, 1, 2, ...

    Raises:
        ValueError: if there is no method, or ``x`` does not match the errors.

    Examples:
        >>> from energysolve.landscape.figures import Curves
        >>> curves = Curves({"ours": [1.0, 0.1, 0.01]}, floors={"predict zero": 2.0})
        >>> list(curves.at("ours"))
        [0, 1, 2]
        >>> list(Curves({"ours": [1.0, 0.1]}, x={"ours": [5, 10]}).at("ours"))
        [5, 10]
    """

    errors: Mapping[str, Sequence[float]]
    floors: Mapping[str, float] = field(default_factory=dict)
    x: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def __post_init__(self):
        if not self.errors:
            raise ValueError("There is no curve to draw: errors is empty.")
        for name, x in self.x.items():
            if name not in self.errors or len(x) != len(self.errors[name]):
                count = f"{len(self.errors[name])} errors" if name in self.errors else "no errors"
                raise ValueError(f"x has {len(x)} entries for {name!r}, which has {count}.")

    def at(self, name: str) -> Sequence[float]:
        """The horizontal positions of the errors of a method."""
        return self.x.get(name, range(len(self.errors[name])))


def draw_error_curves(
    curves: Mapping[str, Sequence[float]],
    floors: Mapping[str, float],
    title: str,
    xlabel: str,
    ylabel: str,
    *,
    x: Mapping[str, Sequence[float]] | None = None,
    limit: float | None = None,
) -> Figure:
    """Draw `Curves` in one panel, such as errors against composed operations (Figure 7 of the paper).

    Examples:
        >>> from energysolve.landscape.figures import draw_error_curves
        >>> curves = {"ours": [1.0, 0.1, 0.01], "theirs": [1.0, 0.5, 0.3]}
        >>> figure = draw_error_curves(curves, {"predict zero": 2.0}, "Errors", "steps", "mean squared error")
        >>> [text.get_text() for text in figure.legends[0].get_texts()]
        ['ours', 'theirs', 'predict zero']
    """
    return draw_error_panels({"": Curves(curves, floors, x or {})}, title, xlabel, ylabel, limit=limit)


def draw_error_panels(
    panels: Mapping[str, Curves], title: str, xlabel: str, ylabel: str, *, limit: float | None = None
) -> Figure:
    """Draw errors of several methods, one panel per difficulty, such as errors against steps (Figure 3 of the paper).

    The panels share a logarithmic error axis, and a method has the same colour in each. Methods whose errors all exceed
    the limit are left out, and curves that exceed it later are cut off. A note below the panel names these methods, and
    those whose error becomes NaN or infinite.

    Args:
        panels: panels by name.
        title: title of the figure.
        xlabel: label of the horizontal axes.
        ylabel: label of the vertical axis.
        limit: the largest error that is shown; by default there is no limit.

    Examples:
        >>> from energysolve.landscape.figures import Curves, draw_error_panels
        >>> panels = {"same": Curves({"ours": [1.0, 0.1]}), "harder": Curves({"ours": [2.0, 0.4]})}
        >>> figure = draw_error_panels(panels, "Errors", "steps", "mean squared error")
        >>> [axes.get_title() for axes in figure.axes], figure.axes[0].get_yscale()
        (['same', 'harder'], 'log')
    """
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves.errors))
    with rc_context(STYLE):
        figure = Figure(figsize=(5.2 * len(panels) + 1.4, 4.8), layout="constrained")
        figure.suptitle(title, fontsize=12)
        for axes, (panel, curves) in zip(
            figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels.items(), strict=True
        ):
            missing = _draw_curves(axes, curves, names, math.inf if limit is None else limit)
            axes.set(title=panel, xlabel="\n".join([xlabel, *missing]))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(axis="y", linewidth=0.4, alpha=0.5)
        figure.axes[0].set_ylabel(ylabel)
        set_log(*figure.axes)
        if limit is not None:
            figure.axes[0].set_ylim(top=limit)
        handles = {label: h for axes in figure.axes for h, label in zip(*axes.get_legend_handles_labels(), strict=True)}
        wide = any(len(label) > 25 for label in handles)  # long names would leave the figure
        columns = 2 if wide else 4
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns, fontsize=9)
    return figure


def _draw_curves(axes: Axes, curves: Curves, names: Sequence[str], limit: float) -> list[str]:
    """Draw the curves of one panel; returns notes that name the curves that are not shown completely."""
    left_out, cut, broken = [], [], []
    for number, name in enumerate(names):
        errors = curves.errors.get(name, ())
        within = [math.isfinite(error) and error <= limit for error in errors]
        if any(within):
            style = {"color": COLORS[number % len(COLORS)], "linestyle": LINES[number % len(LINES)], "linewidth": 2}
            axes.plot(curves.at(name), errors, label=name, **style)
        if errors and not any(within):
            left_out.append(name)
        elif not all(map(math.isfinite, errors)):
            broken.append(name)
        elif any(a and not b for a, b in pairwise(within)):
            cut.append(name)
    for number, (name, value) in enumerate(curves.floors.items()):
        axes.axhline(value, color="0.45", linewidth=1, linestyle=(0, (1 + 3 * number, 2)), label=name)
    notes = {"not shown, above the range": left_out, "leave the range": cut, "became NaN or infinite": broken}
    return [f"{note}: {', '.join(found)}" for note, found in notes.items() if found]
