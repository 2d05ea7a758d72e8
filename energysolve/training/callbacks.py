"""Callbacks, progress events and trackers."""

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
    """The event after an iteration.

    Attributes:
        iteration: the number of the iteration, from 1.
        iterations: the length of the run.
        loss: the mean error over the new and the replayed samples.
        lr: the learning rate of the iteration.
        skipped: whether the update was skipped, because the loss or its gradient was not finite.

    Examples:
        >>> from energysolve import SGD, EnergySolver, Trainer
        >>> from energysolve.energies import SharedQuadratic
        >>> from energysolve.tasks import Addition
        >>> from energysolve.training import make_accelerator
        >>> solver = EnergySolver(SharedQuadratic(size=3), SGD(0.5))
        >>> trainer = Trainer(solver, Addition(3), accelerator=make_accelerator(cpu=True))
        >>> trainer.fit(2, lambda progress: print(progress.iteration, progress.iterations, progress.skipped))
        1 2 False
        2 2 False
    """

    iteration: int
    iterations: int
    loss: float
    lr: float
    skipped: bool = False


@dataclass(frozen=True)
class Validated:
    """The event after a validation.

    Attributes:
        iteration: the iteration before the validation.
        error: the mean error, by difficulty.
        energy_before: the mean energy at the initial answers, by difficulty.
        energy_after: the mean energy at the answers, by difficulty.
        steps: the mean number of steps, by difficulty.

    Examples:
        >>> from energysolve import SGD, EnergySolver, Trainer
        >>> from energysolve.energies import SharedQuadratic
        >>> from energysolve.tasks import Addition
        >>> from energysolve.training import Callback, Validation, make_accelerator
        >>> class Log(Callback):
        ...     def on_validation(self, validated):
        ...         print(validated.iteration, *validated.error, validated.score == validated.flat()["same/error"])
        >>> solver = EnergySolver(SharedQuadratic(size=3), SGD(0.5)).suited(Addition(3))
        >>> validation = Validation(solver, every=2, problems=4)
        >>> trainer = Trainer(solver, Addition(3), validation=validation, accelerator=make_accelerator(cpu=True))
        >>> trainer.fit(4, callbacks=[Log()])
        2 same harder True
        4 same harder True
    """

    iteration: int
    error: Mapping[str, float]
    energy_before: Mapping[str, float]
    energy_after: Mapping[str, float]
    steps: Mapping[str, float]

    @property
    def score(self) -> float:
        """The error at the first difficulty, which is that of training; early stopping compares it."""
        return next(iter(self.error.values()))

    def flat(self) -> dict[str, float]:
        """The numbers by names such as ``same/error``, for trackers."""
        kinds = ("error", "energy_before", "energy_after", "steps")
        return {f"{name}/{kind}": getattr(self, kind)[name] for name in self.error for kind in kinds}


class Callback:
    """Receives the events of a run, on the main process. Subclasses override the methods that they need.

    class Log(Callback):
        def on_validation(self, validated):
            print(validated.iteration, validated.error)

    trainer.fit(1_000, callbacks=[Log()])

    Examples:
        >>> from energysolve import SGD, EnergySolver, Trainer
        >>> from energysolve.energies import SharedQuadratic
        >>> from energysolve.tasks import Addition
        >>> from energysolve.training import Callback, make_accelerator
        >>> class Log(Callback):
        ...     def on_start(self, iteration, iterations):
        ...         print("from", iteration, "to", iterations)
        ...
        ...     def on_iteration(self, progress):
        ...         print("done", progress.iteration)
        >>> solver = EnergySolver(SharedQuadratic(size=3), SGD(0.5))
        >>> Trainer(solver, Addition(3), accelerator=make_accelerator(cpu=True)).fit(2, callbacks=[Log()])
        from 0 to 2
        done 1
        done 2
    """

    def on_start(self, iteration: int, iterations: int) -> None:
        """Called before the first iteration; ``iteration`` is the one that a resumed run continues from, else 0."""

    def on_iteration(self, progress: Progress) -> None:
        """Called after an iteration; on a GPU a few iterations late, so that the host does not wait for the loss."""

    def on_validation(self, validated: Validated) -> None:
        """Called after a validation."""

    def on_checkpoint(self, path: Path) -> None:
        """Called after a checkpoint was written to ``path``."""


@dataclass
class Delayed:
    """A queue of values that are copied from the device asynchronously. On the CPU they arrive immediately."""

    _waiting: deque[tuple[Any, Tensor, Any]] = field(default_factory=deque)

    def push(self, label: Any, values: Tensor) -> None:
        """Start to copy ``values``, which are detached, to the host."""
        if values.device.type != "cuda":
            self._waiting.append((label, values.cpu(), None))
            return
        arrived = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        arrived.copy_(values, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        self._waiting.append((label, arrived, event))

    def arrived(self, wait: bool = False) -> Iterator[tuple[Any, list[float]]]:
        """Remove and yield the labels and values that have arrived, in order; with ``wait``, all of them."""
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
    """A tracker for accelerate that writes a CSV table, one row per entry.

    Args:
        path: the file.
        after: the iteration that a resumed run continues from, 0 for a new table; rows of later iterations are dropped.
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
        """Does nothing: the configuration is stored with the weights."""

    @on_main_process
    def log(self, values: dict, step: int | None = None, **options: Any) -> None:
        row = {"iteration": step, **values}
        new = [name for name in row if name not in self._columns]
        if new:  # the whole table is written again, with the new columns
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
