"""Figures of energy landscapes. Importing this module imports matplotlib."""

import math
from typing import Any

import torch
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from ..evaluation.figures import COLORS, LINES, STYLE, Curves, draw_error_curves, draw_error_panels, set_log
from .distances import EnergyByDistance
from .slices import Slice

__all__ = [
    "Curves",
    "draw_element_errors",
    "draw_energy_by_distance",
    "draw_error_curves",
    "draw_error_panels",
    "draw_line",
    "draw_plane",
]

_MARKERS = "osDv^P"
_LEVELS = 20
_DECADES = 8
"""Orders of magnitude that a map of errors covers, from the largest error down."""
_PATH = {"color": "#D55E00", "markeredgecolor": "white", "markeredgewidth": 0.3, "markersize": 9}
_START = {"color": "white", "edgecolors": "black", "marker": "o", "s": 70, "zorder": 4, "label": "initial point"}
_ANSWER = {"color": "#56B4E9", "edgecolors": "black", "marker": "s", "s": 110, "zorder": 5, "label": "answer"}
_TARGET = {"color": "#CC79A7", "edgecolors": "black", "marker": "X", "s": 60, "linewidths": 0.6, "zorder": 6}
_TARGET_LABEL = "true solution"


def draw_energy_by_distance(found: EnergyByDistance, title: str = "Energy against distance to the solution") -> Figure:
    """Relative energy against mean squared distance, with the rank correlation (Figure 5 of the paper).

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver
        >>> from energysolve.landscape import descent, energy_by_distance
        >>> from energysolve.landscape.figures import draw_energy_by_distance
        >>> x = torch.ones(1, 2)
        >>> path = descent(EnergySolver(lambda x, y: (y - x).square().sum(-1)), x, torch.zeros(1, 2))
        >>> figure = draw_energy_by_distance(energy_by_distance(path, x), title="A bowl")
        >>> print(figure.axes[0].get_title())
        A bowl
        Spearman rank correlation 1.000
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.6), layout="constrained")
        axes = figure.subplots()
        for kind, name in enumerate(found.kinds):
            chosen = found.kind == kind
            axes.scatter(
                _array(found.distance[chosen]),
                _array(found.energy[chosen]),
                s=18,
                marker=_MARKERS[kind % len(_MARKERS)],
                color=COLORS[kind % len(COLORS)],
                alpha=0.5,
                linewidths=0,
                label=name,
            )
        axes.set(xlabel="mean squared distance to the solution", ylabel="energy, less that of the solution")
        axes.set_title(f"{title}\n{_correlations(found)}")
        axes.grid(linewidth=0.4, alpha=0.5)
        legend = axes.legend(fontsize=9, markerscale=1.5)
        for handle in legend.legend_handles:
            handle.set_alpha(1)  # pyright: ignore[reportOptionalMemberAccess]
    return figure


def draw_line(slice: Slice, title: str = "Energy along a line through the answer") -> Figure:
    """Energy along one direction; stars mark the iterates, projected onto the line.

    Raises:
        ValueError: if the slice is a plane.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver
        >>> from energysolve.landscape import descent, line
        >>> from energysolve.landscape.figures import draw_line
        >>> path = descent(EnergySolver(lambda x, y: (y - x).square().sum(-1)), torch.ones(1, 2), torch.zeros(1, 2))
        >>> figure = draw_line(line(path))
        >>> figure.savefig("line.png")
        >>> figure.axes[0].get_xlabel()
        'principal direction 1 of the descent'
    """
    _check_axes(slice, 1, "draw_plane")
    with rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.4), layout="constrained")
        axes = figure.subplots()
        axes.plot(_array(slice.grid[0]), _array(slice.energy), color=COLORS[0], linewidth=2, zorder=1)
        path, energy = slice.path[:, 0], slice.path_energy
        axes.plot(_array(path), _array(energy), "*", zorder=3, label=_iterates(slice), **_PATH)
        axes.scatter(_array(path[:1]), _array(energy[:1]), **_START)
        axes.scatter(_array(path[-1:]), _array(energy[-1:]), **_ANSWER)
        if slice.target is not None:
            axes.axvline(slice.target.item(), color=_TARGET["color"], linestyle="--", label=_TARGET_LABEL)
        axes.set(xlabel=slice.axes.labels[0], ylabel="energy", title=title)
        axes.grid(linewidth=0.4, alpha=0.5)
        figure.legend(loc="outside lower center", ncols=4, fontsize=9)
    return figure


def draw_plane(slice: Slice, title: str = "Energy on a plane through the answer") -> Figure:
    """Contours of the energy; stars mark the iterates, projected onto the plane (Figure 1 of the paper).

    Levels are closer where the energy is low. Regions where the energy is not finite stay white.

    Raises:
        ValueError: if the slice is a line.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver
        >>> from energysolve.energies import Rosenbrock
        >>> from energysolve.landscape import descent, plane
        >>> from energysolve.landscape.figures import draw_plane
        >>> path = descent(EnergySolver(Rosenbrock()), torch.zeros(1, 2), torch.tensor([[-1.2, 1.0]]))
        >>> figure = draw_plane(plane(path, resolution=21), title="Rosenbrock's valley")
        >>> figure.axes[0].get_title(), figure.axes[0].get_xlabel()
        ("Rosenbrock's valley", '$y_{1}$')
    """
    _check_axes(slice, 2, "draw_line")
    with rc_context(STYLE):
        figure = Figure(figsize=(6.4, 5.4), layout="constrained")
        axes = figure.subplots()
        _draw_contours(figure, axes, slice)
        path = _array(slice.path)
        axes.plot(path[:, 0], path[:, 1], "-", color="white", linewidth=1, zorder=2)
        axes.plot(path[:, 0], path[:, 1], "*", zorder=3, label=_iterates(slice), **_PATH)
        axes.scatter(path[:1, 0], path[:1, 1], **_START)
        axes.scatter(path[-1:, 0], path[-1:, 1], **_ANSWER)
        if slice.target is not None:
            axes.scatter(*_array(slice.target)[:, None], **_TARGET, label=_TARGET_LABEL)
        first, second = slice.axes.labels
        axes.set(xlabel=first, ylabel=second, title=title)
        figure.legend(loc="outside lower center", ncols=4, fontsize=9)
    return figure


def draw_element_errors(
    errors: Float[Tensor, "iterates size"], title: str = "Squared error of each element", *, shown: int = 9
) -> Figure:
    """Squared error of each element of an answer after 0, 1, 2, ... steps (Figure 4 of the paper).

    The left panel is a map of all elements, whose colours end eight decades below the largest error. The right panel
    shows the first ``shown`` elements as lines, with the mean over all.

    Args:
        errors: the result of `DescentPath.squared_errors`.
        title: title of the figure.
        shown: number of elements to draw as lines.

    Examples:
        >>> import torch
        >>> from energysolve import SGD, EnergySolver
        >>> from energysolve.landscape import descent
        >>> from energysolve.landscape.figures import draw_element_errors
        >>> solver = EnergySolver(lambda x, y: (y - x).square().sum(-1), SGD(0.1), max_steps=10)
        >>> x = torch.rand(1, 4)
        >>> errors = descent(solver, x, torch.zeros(1, 4)).squared_errors(x)
        >>> errors.shape, [axes.get_title() for axes in draw_element_errors(errors, shown=2).axes[:2]]
        (torch.Size([11, 4]), ['All elements', 'The first 2 elements'])
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(10, 4.4), layout="constrained")
        figure.suptitle(title, fontsize=12)
        left, right = figure.subplots(1, 2)
        errors = errors.detach().double().cpu()
        largest = float(errors[errors.isfinite()].max()) if errors.isfinite().any() else 0.0
        least = (largest or 1.0) / 10**_DECADES
        image = left.imshow(
            _array(errors.clamp_min(least).T),
            norm=LogNorm(least, largest or 1.0),
            cmap="cividis",
            aspect="auto",
            interpolation="nearest",
            extent=(-0.5, len(errors) - 0.5, errors.shape[1] + 0.5, 0.5),
        )
        figure.colorbar(image, ax=left, label="squared error")
        left.set(xlabel="steps", ylabel="element", title="All elements")
        _draw_elements(right, errors, min(shown, errors.shape[1]))
        for axis in (left.xaxis, left.yaxis, right.xaxis):
            axis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _draw_elements(axes: Axes, errors: Tensor, shown: int) -> None:
    *colors, _ = COLORS  # black is the mean's
    for element in range(shown):
        color, line = colors[element % len(colors)], LINES[element // len(colors) % len(LINES)]
        axes.plot(_array(errors[:, element]), line, color=color, linewidth=1, label=f"$y_{{{element + 1}}}$")
    axes.plot(_array(errors.mean(1)), color="black", linewidth=3, alpha=0.6, label="mean of all")
    axes.set(xlabel="steps", ylabel="squared error", title=f"The first {shown} elements")
    set_log(axes)
    axes.grid(axis="y", linewidth=0.4, alpha=0.5)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))


def _draw_contours(figure: Figure, axes: Axes, slice: Slice) -> None:
    energy = slice.energy.detach().double().cpu()
    finite = energy[energy.isfinite()]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    high = high if high > low else low + 1.0
    levels = low + (high - low) * torch.linspace(0, 1, _LEVELS + 1, dtype=torch.float64).square()
    levels[-1] = high
    shown = _array(torch.where(energy.isfinite(), energy, torch.nan).T)
    grid = [_array(along) for along in slice.grid]
    colors = axes.contourf(*grid, shown, levels=_array(levels), norm=BoundaryNorm(levels.tolist(), 256), cmap="viridis")
    axes.contour(*grid, shown, levels=_array(levels), colors="white", linewidths=0.4, alpha=0.6)
    # Enough digits to distinguish the ticks: energies have an arbitrary offset.
    digits = min(12, 3 + max(0, math.ceil(math.log10(max(abs(low), abs(high)) / (high - low)))))
    figure.colorbar(colors, ax=axes, label="energy", ticks=levels[::4].tolist(), format=f"{{x:.{digits}g}}")


def _correlations(found: EnergyByDistance) -> str:
    overall = f"Spearman rank correlation {found.rank_correlation:.3f}"
    each = found.rank_correlation_by_problem
    if len(each) == 1:
        return overall
    return f"{overall}; {each.amin():.3f} to {each.amax():.3f} in each of {len(each)} problems"


def _iterates(slice: Slice) -> str:
    scale = float(slice.path.norm(dim=1).max())
    on = float(slice.off.max()) <= 1e-6 * max(scale, 1e-30)
    return "iterates" if on else "iterates, projected"


def _check_axes(slice: Slice, count: int, other: str) -> None:
    if len(slice.grid) != count:
        raise ValueError(f"The slice has {len(slice.grid)} axes, not {count}; use {other}.")


def _array(tensor: Tensor) -> Any:
    return tensor.detach().cpu().numpy()
