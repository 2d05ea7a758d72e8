"""The page: its controls, and what happens when they change."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import torch
from dash import Dash, Input, Output, State, ctx, html, no_update

from . import figures, texts
from .controls import VALUES, content
from .session import Plane, Session, Trace, fitted
from .settings import COORDINATES, CRITERIA, SLOTS, STEPPED, Settings

_FIGURES = ("landscape", "energies", "slopes")
_MOVES = ("wider", "closer", "fit", "restart")


def make_app(session: Session) -> Dash:
    """The app for a subject. It loads nothing from elsewhere."""
    subject = session.subject
    app = Dash(
        "energysolve.explore",
        title=f"{subject.name}: energysolve explore",
        assets_folder=str(Path(__file__).parent / "assets"),
        serve_locally=True,
        update_title="",
        add_log_handler=False,
    )
    app.layout = content(session)
    page = Page(session)
    outputs = [Output(name, "figure") for name in _FIGURES]
    states = [State(*value) for value in VALUES.values()]
    app.callback(
        [
            *outputs,
            Output("slider", "max"),
            Output("slider", "value"),
            Output("message", "children"),
            Output("notes", "children"),
        ],
        [Input(*value) for value in VALUES.values()],
    )(page.show)
    app.callback(
        [Output(name, "figure", allow_duplicate=True) for name in _FIGURES] + [Output("table", "children")],
        [Input("slider", "value"), *states],
        prevent_initial_call=True,
    )(page.move)
    for slot in SLOTS:  # most optimizers that choose their steps take no step size
        app.callback(Output(f"steps-{slot}", "style"), Input(f"optimizer-{slot}", "value"))(_shown_for(STEPPED))
    app.callback(Output("elements", "style"), Input("kind", "value"))(_shown_for((COORDINATES,)))
    toleranced = tuple(name for name in CRITERIA if name != "Never")
    app.callback(Output("tolerances", "style"), Input("criterion", "value"))(_shown_for(toleranced))
    changes = [Input(*VALUES[name]) for name in ("problem", "kind", "first", "second")]
    app.callback(
        [Output("start", "data"), Output("view", "data"), Output("landscape", "clickData")],
        [Input("landscape", "clickData"), *(Input(name, "n_clicks") for name in _MOVES), *changes, *states],
        prevent_initial_call=True,
    )(page.place)
    return app


class Page:
    """The callbacks. They get what the page sent, check it, and answer with figures and texts, never with a failure."""

    def __init__(self, session: Session):
        self._session = session
        self._size = 0

    def show(self, *sent: Any) -> tuple[Any, ...]:
        """The figures for the settings, with the slider at the end."""
        try:
            settings = self._settings(sent)
            plane = self._session.plane(settings)
            view = self._session.view(settings)
        except (Exception, SystemExit) as error:
            empty = figures.nothing("nothing to show")
            return empty, empty, empty, 1, 1, _alert([texts.explained(error)]), ""
        traces, errors = self._traces(settings)
        try:
            grid = self._session.grid(settings)
        except (Exception, SystemExit) as error:
            grid = None
            errors.append(f"The landscape: {texts.explained(error)}")
        drawn = self._drawn(plane, grid, view, traces)
        last = max((trace.total for trace in traces.values()), default=1)
        return *drawn, last, last, _alert(errors), " ".join(texts.notes(settings, traces, view))

    def move(self, evaluations: Any, *sent: Any) -> tuple[Any, ...]:
        """The figures and the table after so many evaluations."""
        try:
            settings = self._settings(sent)
            count = int(evaluations)
            traces, view = self._traces(settings)[0], self._session.view(settings)
        except (Exception, SystemExit):  # shown by `show`
            return no_update, no_update, no_update, ""
        return *figures.moved(traces, view, count), texts.table(traces, count)

    def place(self, click: Any, *sent: Any) -> tuple[Any, ...]:
        """The start and the view after a click on the landscape or on one of the buttons."""
        sent = sent[len(_MOVES) + 4 :]
        page = dict(zip(VALUES, sent, strict=True))
        start, view = page["start"], page["view"]
        cause = ctx.triggered_id
        if cause == "landscape":
            return (no_update if click is None else _clicked(click)), no_update, None
        if cause == "restart":
            return None, no_update, None
        if cause not in ("wider", "closer", "fit"):  # another plane
            return None, None, None
        try:
            settings = self._settings(sent)
            view = self._fitting(settings) if cause == "fit" else _zoomed(self._session.view(settings), cause)
        except (Exception, SystemExit):
            view = None
        return start, view, None

    def _settings(self, sent: Any) -> Settings:
        subject = self._session.subject
        self._size = self._size or self._session.size()
        page = dict(zip(VALUES, sent, strict=True))
        page["optimizers"] = [page.pop(f"optimizer {slot}") for slot in SLOTS]
        page["steps"] = [page.pop(f"step {slot}") for slot in SLOTS]
        return Settings.of(page, problems=subject.problems, size=self._size, own=subject.own)

    def _traces(self, settings: Settings) -> tuple[dict[str, Trace], list[str]]:
        """The descents by slot, and the errors of those that have none."""
        traces, errors = {}, []
        for slot, method in zip(SLOTS, settings.methods, strict=True):
            if method is not None:
                try:
                    traces[slot] = self._session.trace(settings, method)
                except (Exception, SystemExit) as error:
                    errors.append(f"{slot}, {method.name}: {texts.explained(error)}")
        return traces, errors

    def _drawn(self, plane: Plane, grid: Any, view: Any, traces: Mapping[str, Trace]) -> tuple[go.Figure, ...]:
        return (
            figures.landscape(plane, grid, view, traces, self._session.subject.minima),
            figures.curves(traces, "energy", "energy"),
            figures.curves(traces, "slope", "gradient norm"),
        )

    def _fitting(self, settings: Settings) -> list[float]:
        traces, _ = self._traces(settings)
        return list(fitted(torch.cat([trace.points for trace in traces.values()]), margin=0.15))


def _shown_for(names: tuple[str, ...]) -> Callable[[Any], dict[str, str]]:
    """The style of a control that is of use for these choices of another one."""

    def style(name: Any) -> dict[str, str]:
        return {} if name in names else {"display": "none"}

    return style


def _clicked(click: Any) -> Any:
    """The coordinates of a click; nothing where the page sends something else, which `Settings` would refuse."""
    try:
        point = click["points"][0]
        coordinates = [float(point["x"]), float(point["y"])]
    except (TypeError, KeyError, IndexError, ValueError):
        return no_update
    return coordinates if all(map(math.isfinite, coordinates)) else no_update


def _zoomed(view: tuple[float, float, float, float], cause: str) -> list[float]:
    left, right, bottom, top = view
    by = 0.25 if cause == "closer" else -0.5
    across, up = by * (right - left), by * (top - bottom)
    return [left + across, right - across, bottom + up, top - up]


def _alert(errors: list[str]) -> Any:
    return [html.Div(error, className="error", role="alert") for error in errors]
