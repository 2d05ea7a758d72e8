"""The controls of the page, and where their values are."""

from typing import Any

from dash import dcc, html

from .figures import COLORS
from .session import Session
from .settings import COORDINATES, CRITERIA, MOST_STEPS, OPTIMIZERS, OWN, PRINCIPAL, SLOTS

VALUES: dict[str, tuple[str, str]] = {
    "problem": ("problem", "value"),
    "kind": ("kind", "value"),
    "first": ("first", "value"),
    "second": ("second", "value"),
    **{f"optimizer {slot}": (f"optimizer-{slot}", "value") for slot in SLOTS},
    **{f"step {slot}": (f"step-{slot}", "value") for slot in SLOTS},
    "criterion": ("criterion", "value"),
    "tolerance": ("tolerance", "value"),
    "max_steps": ("max-steps", "value"),
    "start": ("start", "data"),
    "view": ("view", "data"),
}
"""The component and the property that hold each value that the page sends."""
_PLAIN: Any = {"displayModeBar": False, "scrollZoom": False, "doubleClick": False}


def content(session: Session) -> html.Div:
    """Everything on the page."""
    subject = session.subject
    return html.Div(
        [
            html.Header([html.H1(subject.name), html.P("Click on the landscape to start there.")]),
            html.Main(
                [
                    html.Section([_landscape(), _slider(), html.Div(id="table")], className="landscape"),
                    html.Section(_controls(session), className="controls"),
                    html.Section([_graph("energies", "270px"), _graph("slopes", "270px")], className="curves"),
                ]
            ),
            dcc.Store(id="start"),
            dcc.Store(id="view"),
        ]
    )


def _graph(name: str, height: str) -> dcc.Graph:
    return dcc.Graph(id=name, config=_PLAIN, responsive=True, style={"height": height})


def _landscape() -> html.Div:
    buttons = {"wider": "Zoom out", "closer": "Zoom in", "fit": "Fit to the descents", "restart": "Reset the start"}
    return html.Div(
        [
            html.Div(id="message"),
            _graph("landscape", "min(540px, 115vw)"),
            html.Div([html.Button(text, id=name) for name, text in buttons.items()], className="buttons"),
            html.P(id="notes", className="notes"),
        ]
    )


def _slider() -> html.Div:
    slider = dcc.Slider(id="slider", min=1, max=1, step=1, value=1, marks=None, updatemode="drag")
    return html.Div([html.Label("Evaluations of the energy", htmlFor="slider"), slider], className="slider")


def _controls(session: Session) -> list[Any]:
    subject = session.subject
    own = [{"label": f"{type(subject.solver.optimizer).__name__}, as saved", "value": OWN}] if subject.own else []
    names = [*own, *({"label": name, "value": name} for name in OPTIMIZERS)]
    halting = [{"label": "as saved", "value": OWN}] if subject.own else []
    halting += [{"label": name, "value": name} for name in CRITERIA]
    chosen = {"A": OWN if subject.own else "LBFGS", "B": None, "C": None}
    steps = {"A": 0.01, "B": 0.01, "C": 0.01}
    return [
        html.H2("Optimizers"),
        *(_method(slot, names, chosen[slot], steps[slot]) for slot in SLOTS),
        html.H2("Halting"),
        _field("criterion", _choice("criterion", halting, OWN if subject.own else "GradientNorm")),
        html.Div(_field("tolerance", _number("tolerance", 1e-6)), id="tolerances"),
        _field("most steps", _number("max-steps", _most(subject.solver.max_steps), min=1, max=MOST_STEPS, step=1)),
        *_problem(session),
    ]


def _problem(session: Session) -> list[Any]:
    """The choice of the problem and of the plane, hidden where there is none."""
    subject, size = session.subject, _size(session)
    last = None if subject.problems is None else subject.problems - 1
    planes = [
        {"label": "principal directions", "value": PRINCIPAL},
        {"label": "two elements", "value": COORDINATES},
    ]
    hidden = {"display": "none"}
    flat, single = hidden if size == 2 else None, hidden if subject.problems == 1 else None
    label = "seed" if subject.problems is None else "row of the file"
    return [
        html.H2("Problem", style=single if size == 2 else None),
        html.Div(_field(label, _number("problem", session.first, min=0, max=last, step=1)), style=single),
        html.Div(
            [
                _field("plane", _choice("kind", planes, PRINCIPAL)),
                html.Div(
                    [
                        _field("first axis", _number("first", 1, min=1, max=size or None, step=1)),
                        _field("second axis", _number("second", 2, min=1, max=size or None, step=1)),
                    ],
                    id="elements",
                ),
            ],
            style=flat,
        ),
    ]


def _method(slot: str, names: list[Any], chosen: str | None, step: float) -> html.Div:
    mark = html.Span(slot, className="slot", style={"background": COLORS[slot]})
    choice = _choice(f"optimizer-{slot}", names, chosen, clearable=True, placeholder="none")
    return html.Div(
        [mark, choice, html.Label(["step size", _number(f"step-{slot}", step)], id=f"steps-{slot}")], className="method"
    )


def _choice(name: str, options: list[Any], value: Any, **more: Any) -> dcc.Dropdown:
    return dcc.Dropdown(id=name, options=options, value=value, searchable=False, **{"clearable": False, **more})


def _number(name: str, value: float, **more: Any) -> dcc.Input:
    return dcc.Input(id=name, type="number", value=value, debounce=True, **{"step": "any", **more})


def _field(label: str, control: Any) -> html.Label:
    return html.Label([html.Span(label), control], className="field")


def _most(steps: int) -> int:
    return max(1, min(steps, MOST_STEPS))


def _size(session: Session) -> int:
    """The number of elements of an answer; 0 if making the first problem fails, which the page then says."""
    try:
        return session.size()
    except (Exception, SystemExit):
        return 0
