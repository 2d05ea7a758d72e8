"""Plotly figures of a landscape with descents, and of energies and gradient norms against evaluations."""

import math
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
import torch
from dash import Patch
from torch import Tensor

from .session import Grid, Plane, Trace

COLORS = {"A": "#d9480f", "B": "#862e9c", "C": "#087f5b"}
"""Of the optimizers, by slot."""
_SCALE = [[0, "#4a90c2"], [0.35, "#8fc0de"], [0.7, "#cfe3ef"], [1, "#f7fafc"]]
_FIRST, _EACH = 3, 3
"""In a landscape, the first trace of an optimizer and the number of traces of each."""
_LAYOUT = {
    "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
    "template": "plotly_white",
    "font": {"family": "system-ui, sans-serif", "size": 12},
    "autosize": True,
    "dragmode": False,
    "uirevision": "same",
    "hoverlabel": {"namelength": -1},
}
_FIXED = {"fixedrange": True, "automargin": True}


def landscape(
    plane: Plane,
    grid: Grid | None,
    view: Sequence[float],
    traces: Mapping[str, Trace],
    minima: Sequence[Sequence[float]],
) -> go.Figure:
    """Contours of the energy, the start, known answers, and the descents of the optimizers by slot."""
    figure = go.Figure(layout=_LAYOUT | {"legend": {"orientation": "h", "y": -0.15, "x": 0}, "clickmode": "event"})
    figure.add_trace(go.Contour(hoverinfo="skip") if grid is None else _contour(grid))
    right = [*minima, *([] if plane.target is None else [plane.target.tolist()])]
    star = {"symbol": "star", "size": 18, "color": "#ffd43b", "line": {"color": "#333", "width": 1}}
    figure.add_trace(_points(right, star, "known minimum" if minima else "right answer", bool(right)))
    traces = {slot: near(trace, view) for slot, trace in traces.items()}
    start = [trace.points[0].tolist() for trace in traces.values()][:1]
    ring = {"symbol": "circle-open", "size": 15, "color": "#212529", "line": {"width": 3}}
    figure.add_trace(_points(start, ring, "start", bool(start)))
    for slot in COLORS:
        for trace in _descent(slot, traces.get(slot)):
            figure.add_trace(trace)
    left, right_end, bottom, top = view
    first, second = (_label(label) for label in plane.axes.labels)
    figure.update_xaxes(range=[left, right_end], title=first, zeroline=False, **_FIXED)
    figure.update_yaxes(range=[bottom, top], title=second, zeroline=False, **_FIXED)
    return figure


def curves(traces: Mapping[str, Trace], what: str, title: str) -> go.Figure:
    """A field of the traces against the number of evaluations."""
    figure = go.Figure(layout=_LAYOUT | {"showlegend": False, "hovermode": "x unified"})
    values = [getattr(trace, what) for trace in traces.values()]
    for slot, color in COLORS.items():
        trace = traces.get(slot)
        y = [] if trace is None else _numbers(getattr(trace, what))
        x = [] if trace is None else trace.evaluations.tolist()
        name = "" if trace is None else f"{slot}: {trace.label}"
        line = {"color": color, "width": 2, "shape": "hv"}
        figure.add_trace(go.Scatter(x=x, y=y, mode="lines", line=line, name=name, hovertemplate="%{y:.4g}"))
        marker = {"color": color, "size": 10, "line": {"color": "white", "width": 1.5}}
        figure.add_trace(go.Scatter(x=x[-1:], y=y[-1:], mode="markers", marker=marker, hoverinfo="skip"))
    figure.update_xaxes(title="evaluations of the energy", **_FIXED)
    wide = _wide(values)
    figure.update_yaxes(title=title, type="log" if wide else "linear", exponentformat="power", **_FIXED)
    return figure.update_yaxes(range=_range(values, wide))


def near(trace: Trace, view: Sequence[float]) -> Trace:
    """The trace with iterates that are far outside the view moved nearer, since figures cannot draw them there."""
    left, right, bottom, top = view
    middle = torch.tensor([left + right, bottom + top], dtype=torch.float64) / 2
    most = 100 * math.hypot(right - left, top - bottom)
    away = trace.points - middle
    distance = away.norm(dim=1, keepdim=True)
    return trace._replace(points=torch.where(distance > most, middle + most * away / distance, trace.points))


def moved(traces: Mapping[str, Trace], view: Sequence[float], evaluations: int) -> tuple[Patch, Patch, Patch]:
    """Changes of the landscape, the energies and the gradient norms to the state after so many evaluations."""
    patches = (Patch(), Patch(), Patch())
    for number, slot in enumerate(COLORS):
        if slot in traces:
            trace = near(traces[slot], view)
            now = trace.reached(evaluations)
            walked, here = trace.points[: now + 1], trace.points[now : now + 1]
            for offset, points in ((1, walked), (2, here)):
                data = patches[0]["data"][_FIRST + _EACH * number + offset]
                data["x"], data["y"] = _numbers(points[:, 0]), _numbers(points[:, 1])
            data["customdata"] = [now]
            for patch, values in zip(patches[1:], (trace.energy, trace.slope), strict=True):
                data = patch["data"][2 * number + 1]
                data["x"], data["y"] = trace.evaluations[now : now + 1].tolist(), _numbers(values[now : now + 1])
    return patches


def nothing(text: str) -> go.Figure:
    """An empty figure with a text."""
    figure = go.Figure(layout=_LAYOUT)
    figure.update_xaxes(visible=False, **_FIXED)
    figure.update_yaxes(visible=False, **_FIXED)
    return figure.add_annotation(text=text, showarrow=False, font={"size": 15, "color": "#868e96"})


def _contour(grid: Grid) -> go.Contour:
    """Contours whose levels are closer where the energy is low; what is not finite stays empty."""
    finite = grid.energy[grid.energy.isfinite()]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    unit = max(float(finite.quantile(0.03)) - low if len(finite) else 1.0, 1e-4 * (high - low), 1e-300)
    levels = torch.where(grid.energy.isfinite(), ((grid.energy - low) / unit).log1p(), torch.nan)
    most = math.log1p((high - low) / unit)
    ticks = [most * k / 5 for k in range(6)]
    energies = [low + unit * math.expm1(tick) for tick in ticks]
    texts = [_short(each, high - low) for each in energies]
    bar = {"title": {"text": "energy<br> "}, "tickvals": ticks, "ticktext": texts}
    return go.Contour(
        x=grid.first.tolist(),
        y=grid.second.tolist(),
        z=[_numbers(row) for row in levels],
        customdata=[_numbers(row) for row in grid.energy],
        hovertemplate="(%{x:.4g}, %{y:.4g})<br>energy %{customdata:.5g}<extra>click: start here</extra>",
        colorscale=_SCALE,
        zmin=0,
        zmax=most or 1.0,
        contours={"coloring": "heatmap", "start": 0, "end": most or 1.0, "size": (most or 1.0) / 20},
        line={"color": "rgba(30, 70, 110, 0.35)", "width": 0.8},
        colorbar=bar | {"thickness": 12, "outlinewidth": 0},
        name="energy",
    )


def _descent(slot: str, trace: Trace | None) -> list[go.Scatter]:
    """The whole descent, faint; the part that has been walked; and where it is now."""
    color, shown = COLORS[slot], trace is not None
    points = torch.zeros(0, 2) if trace is None else trace.points
    name = "" if trace is None else f"{slot}: {trace.label}"
    x, y = _numbers(points[:, 0]), _numbers(points[:, 1])
    line = {"color": color, "width": 2}
    small = {"color": color, "size": 5, "line": {"color": "white", "width": 0.7 if len(points) < 80 else 0}}
    large = {"color": color, "size": 13, "line": {"color": "white", "width": 2}}
    steps = f"{slot}, step %{{pointNumber}}<extra></extra>"
    here = f"{slot}, step %{{customdata}}<extra></extra>"
    last = [len(points) - 1] if shown else []
    return [
        go.Scatter(x=x, y=y, mode="lines", line=line, opacity=0.3, hoverinfo="skip", showlegend=False),
        go.Scatter(x=x, y=y, mode="lines+markers", line=line, marker=small, name=name, hovertemplate=steps)
        .update(showlegend=shown),
        go.Scatter(x=x[-1:], y=y[-1:], mode="markers", marker=large, customdata=last, hovertemplate=here)
        .update(showlegend=False),
    ]  # fmt: skip


def _points(points: Sequence[Sequence[float]], marker: dict, name: str, shown: bool) -> go.Scatter:
    x, y = [point[0] for point in points], [point[1] for point in points]
    return go.Scatter(x=x, y=y, mode="markers", marker=marker, name=name, showlegend=shown, hoverinfo="skip")


def _numbers(values: Tensor) -> list[float | None]:
    """Numbers as JSON knows them."""
    return [value if math.isfinite(value) else None for value in values.tolist()]


def _wide(values: Sequence[Tensor]) -> bool:
    """Whether values are better seen on a logarithmic axis."""
    finite = torch.cat([each[each.isfinite()] for each in values]) if values else torch.zeros(0)
    return len(finite) > 0 and float(finite.min()) > 0 and float(finite.max()) > 50 * float(finite.min())


def _range(values: Sequence[Tensor], wide: bool) -> list[float] | None:
    """The range of values on an axis, if some are so far above the first ones that nothing else could be seen."""
    finite = torch.cat([each[each.isfinite()] for each in values]) if values else torch.zeros(0)
    first = [float(each[0]) for each in values if bool(each[0].isfinite())]
    if not len(finite) or not first:
        return None
    low, start = float(finite.min()), max(first)
    top = 100 * start if wide else start + 3 * max(start - low, abs(start), 1e-9)
    if float(finite.max()) <= top:
        return None
    return [math.log10(low) - 0.3, math.log10(top)] if wide else [low - 0.05 * (top - low), top]


def _label(label: str) -> str:
    """The label of an axis, from that of `energysolve.landscape`."""
    inner = label.removeprefix("$y_{").removesuffix("}$")
    return label if inner == label else f"y<sub>{inner}</sub>"


def _short(value: float, spread: float) -> str:
    """Enough digits to tell energies apart, which have an arbitrary offset."""
    digits = 3 if not spread else min(10, 3 + max(0, math.ceil(math.log10(max(abs(value), 1e-300) / spread))))
    return f"{0.0 if abs(value) < 1e-9 * spread else value:.{digits}g}"
