"""Result files: what was measured, where, and what it had to be; written anew whenever there is more to tell."""

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
    """A number and what it may be.

    Attributes:
        what: in words.
        value: as measured.
        limit: the largest that it may be, or the least.
        least: whether the limit is the least.
    """

    what: str
    value: float
    limit: float
    least: bool = False

    @property
    def met(self) -> bool:
        """Whether it is as it should be; a NaN is not."""
        return self.value >= self.limit if self.least else self.value <= self.limit

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        limit = {"at_least" if self.least else "at_most": self.limit}
        return {"what": self.what, "value": self.value, **limit, "met": self.met}


class Report:
    """The result file of one measurement.

    Args:
        path: the file; its folder is made if need be.
        command: how to repeat it.
        setting: what was measured.
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
        """Write what is known by now.

        Args:
            kind: of the measurement.
            title: in words.
            rows: of the table, all with the same keys, which are its headings.
            figures: what else was found.
            bounds: checked so far.
            complete: whether nothing is missing.
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


def _plain(value: Any) -> Any:
    """With None for numbers that are not finite, which JSON does not know."""
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
