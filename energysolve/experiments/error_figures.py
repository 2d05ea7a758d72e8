"""Figures of the errors of several methods against computation. Importing this module imports matplotlib."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .figure import COLORS, LINES, STYLE, set_log


@dataclass(frozen=True)
class Curves:
    """Errors of several methods, for one panel.

    Args:
        errors: of each method, along the horizontal axis.
        floors: errors of trivial answers by name, drawn as horizontal lines.
        x: where the errors of a method lie on the horizontal axis; those of methods without an entry at 0, 1, 2, ...

    Raises:
        ValueError: if there is no method, or ``x`` does not fit to the errors.
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
        """Where the errors of a method lie on the horizontal axis."""
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
    """Errors of several methods in one panel, such as against composed operations (Figure 7 of the paper).

    Args: see `Curves` and `draw_error_panels`.
    """
    return draw_error_panels({"": Curves(curves, floors, x or {})}, title, xlabel, ylabel, limit=limit)


def draw_error_panels(
    panels: Mapping[str, Curves], title: str, xlabel: str, ylabel: str, *, limit: float | None = None
) -> Figure:
    """Errors of several methods, one panel for each difficulty, such as against steps (Figure 3 of the paper).

    The error has a logarithmic axis, the same for all the panels. A method has the same colour in each. A method of
    which no error lies within the limit is left out, and one that exceeds it later is cut off there; a note below the
    panel names both, as it does methods whose error becomes NaN or infinite.

    Args:
        panels: by name.
        title: of the figure.
        xlabel: of the horizontal axes.
        ylabel: of the vertical axis.
        limit: the largest error that is shown; by default all are.
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
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, fontsize=9)
    return figure


def _draw_curves(axes: Axes, curves: Curves, names: Sequence[str], limit: float) -> list[str]:
    """Draw the curves of one panel, and say which are not seen as a whole."""
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
