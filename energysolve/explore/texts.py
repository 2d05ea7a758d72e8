"""What the page says: errors of the user's energy, and the state of each optimizer."""

import traceback
from collections.abc import Mapping
from pathlib import Path

import torch
from dash import html

from ..solution import Status
from .figures import COLORS
from .session import SECONDS, Trace
from .settings import Settings

_LIBRARY = Path(__file__).parents[1]
_ENDED = {
    Status.CONVERGED: "converged",
    Status.MAX_STEPS: "limit of steps",
    Status.NONFINITE: "not finite",
    Status.STALLED: "stalled",
    Status.REJECTED: "rejected by the energy",
}


def explained(error: BaseException) -> str:
    """What an error says, and the line of the user's file that raised it."""
    found = []
    cause: BaseException | None = error
    while cause is not None:
        found += traceback.extract_tb(cause.__traceback__)
        cause = cause.__cause__
    own = [frame for frame in found if "site-packages" not in frame.filename and _is_own(frame.filename)]
    place = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {' '.join(str(error).split()) or 'without a message'}{place}"


def _is_own(filename: str) -> bool:
    path = Path(filename)
    return path.is_file() and _LIBRARY not in path.parents


def notes(settings: Settings, traces: Mapping[str, Trace], view: tuple[float, float, float, float]) -> list[str]:
    """What the figures do not show."""
    said = []
    for slot, trace in traces.items():
        left, right, bottom, top = view
        low, high = torch.tensor([left, bottom]), torch.tensor([right, top])
        if bool(((trace.points < low) | (trace.points > high)).any()):
            said.append(f"{slot} leaves the view.")
        if trace.late:
            said.append(f"{slot} was stopped after {SECONDS:.0f} seconds.")
    far = max((float(trace.off.max()) for trace in traces.values()), default=0.0)
    size = max((float(trace.points.norm(dim=1).max()) for trace in traces.values()), default=0.0)
    if far > 1e-4 * size:
        said.append(f"The descents are projected onto the plane; they are up to {far:.2g} away from it.")
    return said


def table(traces: Mapping[str, Trace], evaluations: int) -> html.Table | str:
    """Where each optimizer is after so many evaluations, and how it ended."""
    if not traces:
        return ""
    headings = ("optimizer", "step", "energy", "gradient norm", "ended")
    rows = [html.Tr([html.Th(heading) for heading in headings])]
    for slot, trace in traces.items():
        now = trace.reached(evaluations)
        ended = "stopped: too slow" if trace.late else _ENDED[trace.status]
        cells = (
            f"{now} of {len(trace.energy) - 1}",
            f"{float(trace.energy[now]):.5g}",
            f"{float(trace.slope[now]):.3g}",
            f"{ended}, {trace.total} evaluations",
        )
        name = html.Td([html.Span(f"{slot} ", style={"color": COLORS[slot]}), trace.label])
        rows.append(html.Tr([name, *map(html.Td, cells)], **{"data-slot": slot}))  # pyright: ignore
    return html.Table(rows)
