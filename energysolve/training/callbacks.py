"""What is told about a run while it goes on, and to whom."""

import csv
import os
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate.tracking import GeneralTracker, on_main_process
from torch import Tensor


@dataclass(frozen=True)
class Progress:
    """What a callback sees after an iteration.

    Attributes:
        iteration: from 1.
        iterations: how many there will be.
        loss: mean error over the new and the replayed samples.
        lr: the outer learning rate.
        skipped: whether the weights stayed as they were, since the loss or its gradient was not finite.
    """

    iteration: int
    iterations: int
    loss: float
    lr: float
    skipped: bool = False


@dataclass(frozen=True)
class Validated:
    """What a validation found, on the same problems every time.

    Attributes:
        iteration: after which it was made.
        error: mean error, by difficulty.
        energy_before: mean energy at the initial answers, by difficulty.
        energy_after: mean energy at the answers, by difficulty.
        steps: mean number of steps, by difficulty.
    """

    iteration: int
    error: Mapping[str, float]
    energy_before: Mapping[str, float]
    energy_after: Mapping[str, float]
    steps: Mapping[str, float]

    @property
    def score(self) -> float:
        """The error at the first difficulty, the one that is trained on: what early stopping looks at."""
        return next(iter(self.error.values()))

    def flat(self) -> dict[str, float]:
        """The numbers with names such as ``same/error``, for trackers."""
        kinds = ("error", "energy_before", "energy_after", "steps")
        return {f"{name}/{kind}": getattr(self, kind)[name] for name in self.error for kind in kinds}


class Callback:
    """Told of what happens in a run, on the main process. Subclasses override what they need."""

    def on_start(self, iteration: int, iterations: int) -> None:
        """Training is about to go on after ``iteration``, 0 for a new run."""

    def on_iteration(self, progress: Progress) -> None:
        """An iteration is over. On a GPU this is told a few iterations late, so that nothing waits."""

    def on_validation(self, validated: Validated) -> None:
        """A validation is over."""

    def on_checkpoint(self, path: Path) -> None:
        """A checkpoint was written."""


@dataclass
class Delayed:
    """Numbers on their way from the device: pushed without waiting, and returned once they have arrived.

    On the CPU they arrive at once.
    """

    _waiting: deque[tuple[Any, Tensor, Any]] = field(default_factory=deque)

    def push(self, label: Any, values: Tensor) -> None:
        """Send ``values``, detached, to the host."""
        if values.device.type != "cuda":
            self._waiting.append((label, values.cpu(), None))
            return
        arrived = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        arrived.copy_(values, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        self._waiting.append((label, arrived, event))

    def arrived(self, wait: bool = False) -> Iterator[tuple[Any, list[float]]]:
        """The labels and values that have arrived, in order; all of them with ``wait``."""
        while self._waiting:
            label, values, event = self._waiting[0]
            if event is not None:
                if wait:
                    event.synchronize()
                elif not event.query():
                    return
            self._waiting.popleft()
            yield label, values.tolist()


class CSVTracker(GeneralTracker):
    """A tracker for accelerate that writes a table, one row an entry; a resumed run goes on after its last row.

    Args:
        path: the file.
        after: rows of later iterations are dropped: those of a run that was killed after its last checkpoint.
    """

    name = "csv"
    requires_logging_directory = False

    @on_main_process
    def __init__(self, path: Path, after: int = 0):
        super().__init__()
        self._path = path
        rows = []
        if after and path.exists():
            with open(path, newline="") as file:
                rows = [row for row in csv.DictReader(file) if int(row["iteration"]) <= after]
        self._columns = list(rows[0]) if rows else []
        self._write(rows, "w")

    @property
    def tracker(self) -> Path:
        return self._path

    @on_main_process
    def store_init_configuration(self, values: dict) -> None:
        """The configuration is stored with the weights instead."""

    @on_main_process
    def log(self, values: dict, step: int | None = None, **options: Any) -> None:
        row = {"iteration": step, **values}
        new = [name for name in row if name not in self._columns]
        if new:  # rewrite with more columns
            with open(self._path, newline="") as file:
                rows = list(csv.DictReader(file))
            self._columns += new
            self._write([*rows, row], "w")
        else:
            self._write([row], "a")

    def _write(self, rows: list[dict], mode: str) -> None:
        target = self._path if mode == "a" else self._path.with_name(f".{self._path.name}.tmp")
        with open(target, mode, newline="") as file:
            writer = csv.DictWriter(file, self._columns, restval="")
            if mode == "w":
                writer.writeheader()
            writer.writerows(rows)
        if target != self._path:
            os.replace(target, self._path)
