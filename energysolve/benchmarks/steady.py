"""Whole training runs: their time, the share of the start-up in it, and whether the host waits for the device."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from ..training import Progress, Trainer
from .timing import clock

_START = 20
"""Iterations that count as start-up: in them code is compiled, and a GPU's launches are recorded."""
_WATCHED = 20
_WAITS = ("cudaStreamSynchronize", "cudaEventSynchronize", "Memcpy DtoH (Device -> Pageable)")
"""Profiler events of a waiting host. (The profiler itself synchronizes the whole device where it starts and stops.)"""


@dataclass(frozen=True)
class FitTime:
    """The time of a training run.

    Attributes:
        seconds: total time.
        start_s: extra time of the first iterations over the same number of later ones, mostly compilation.
        iteration_s: time of an iteration after the start-up.
    """

    seconds: float
    start_s: float
    iteration_s: float

    @property
    def steady_s(self) -> float:
        """The time of the run without start-up."""
        return self.seconds - self.start_s


def timed_fit(trainer: Trainer, iterations: int) -> FitTime:
    """Train a new trainer for two or more iterations, and measure the time."""
    start = min(_START, iterations // 2)
    started = None

    def on_iteration(progress: Progress) -> None:
        nonlocal started, start
        if started is None and progress.iteration >= start:
            # On a GPU this is called late, and the clock waits for the iterations launched since: they count as start.
            started, start = clock(trainer.device), trainer.iteration

    begin = clock(trainer.device)
    trainer.fit(iterations, on_iteration)
    end = clock(trainer.device)
    assert started is not None
    each = (end - started) / max(iterations - start, 1)
    return FitTime(end - begin, started - begin - start * each, each)


def count_waits(make: Callable[[], Trainer]) -> dict[str, Any]:
    """Count how often the host waits for a GPU after start-up, in a profiled run and in one where torch forbids it.

    Args:
        make: makes a new trainer.

    Returns:
        ``synchronizations``, the number of waits in the profiled iterations, plus one if torch stopped the other run;
        ``iterations``, the number of profiled iterations; and ``message``, torch's error.
    """
    message = None
    try:
        _watch(make(), lambda: torch.cuda.set_sync_debug_mode("error"), lambda: torch.cuda.set_sync_debug_mode(0))
    except RuntimeError as error:
        message = str(error)
    finally:
        torch.cuda.set_sync_debug_mode(0)
    profiler = profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA])
    _watch(make(), profiler.start, profiler.stop)
    seen = sum(event.name in _WAITS for event in profiler.events() or ())
    return {"synchronizations": seen + (message is not None), "iterations": _WATCHED, "message": message}


def _watch(trainer: Trainer, begin: Callable[[], Any], end: Callable[[], Any]) -> None:
    """Train; call ``begin`` after start-up and ``end`` some iterations later."""

    def on_iteration(progress: Progress) -> None:
        if progress.iteration == _START:
            begin()
        elif progress.iteration == _START + _WATCHED:
            end()

    trainer.fit(2 * _START + 2 * _WATCHED, on_iteration)  # further iterations: the end of a run may wait
