"""Result files with measurements, their bounds and the environment; rewritten whenever there are new results."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..files import write_json
from ..provenance import environment
from .setting import Setting


@dataclass(frozen=True)
class Bound:
    """A measured number and its bound.

    Attributes:
        what: description of the number.
        value: the measured value.
        limit: the upper bound, or the lower bound.
        least: whether the limit is a lower bound.
    """

    what: str
    value: float
    limit: float
    least: bool = False

    @property
    def met(self) -> bool:
        """Whether the value is within the bound; a NaN is not."""
        return self.value >= self.limit if self.least else self.value <= self.limit

    def to_json(self) -> dict[str, Any]:
        """The bound, JSON-able."""
        limit = {"at_least" if self.least else "at_most": self.limit}
        return {"what": self.what, "value": self.value, **limit, "met": self.met}


class Report:
    """The result file of one measurement.

    Args:
        path: the file; its folder is created if necessary.
        command: the command that repeats the measurement.
        setting: the training that is measured.
    """

    def __init__(self, path: Path, command: str, setting: Setting):
        self.path = path
        self.setting = setting
        self.content: dict[str, Any] = {"command": command, "seed": setting.seed, "setting": setting.to_json()}
        self.bounds: list[Bound] = []

    def write(
        self,
        kind: str,
        title: str,
        rows: Sequence[Mapping[str, Any]],
        figures: Mapping[str, Any],
        bounds: Sequence[Bound] = (),
        *,
        complete: bool = True,
    ) -> None:
        """Write the results so far.

        Args:
            kind: kind of the measurement.
            title: title of the table.
            rows: rows of the table, all with the same keys, which are the headings.
            figures: further results.
            bounds: the bounds checked so far.
            complete: whether the measurement is complete.
        """
        self.bounds = list(bounds)
        content = [bound.to_json() for bound in bounds]
        found = {"title": title, "complete": complete, "rows": list(rows), "figures": dict(figures), "bounds": content}
        about = environment()
        if self.setting.device != "cpu":
            about["hardware"]["device"] = torch.cuda.get_device_name(self.setting.device)
        self.content = {"kind": kind} | self.content | found | about
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path, _plain(self.content))


def shown(value: Any) -> str:
    """A value of a table, to three digits."""
    if value is None:
        return "-"
    if isinstance(value, list):
        return " to ".join(map(shown, value))
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _plain(value: Any) -> Any:
    """The value with None for numbers that are not finite, which JSON cannot represent."""
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
