"""Whole training runs: how long they take, what of it is the start, and whether the host waits for the device."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from ..training import Progress, Trainer
from .timing import clock

_START = 20
"""Iterations that count as the start: in them everything is compiled, and a GPU's launches are recorded."""
_WATCHED = 20
_WAITS = ("cudaStreamSynchronize", "cudaEventSynchronize", "Memcpy DtoH (Device -> Pageable)")
"""What a profiler calls a host that waits. It synchronizes the whole device itself, where it begins and ends."""


@dataclass(frozen=True)
class Run:
    """How long a training run took.

    Attributes:
        seconds: all of it.
        start_s: of these, what the first iterations took beyond what as many took later: compilation, for the most.
        iteration_s: an iteration after the start.
    """

    seconds: float
    start_s: float
    iteration_s: float

    @property
    def steady_s(self) -> float:
        """What the run would have taken without the start."""
        return self.seconds - self.start_s


def timed_fit(trainer: Trainer, iterations: int) -> Run:
    """Train, and take the time.

    Args:
        trainer: a new one.
        iterations: two or more.
    """
    start = min(_START, iterations // 2)
    started = None

    def look(progress: Progress) -> None:
        nonlocal started, start
        if started is None and progress.iteration >= start:
            # On a GPU this is told late, so the iterations launched since then are finished here too.
            started, start = clock(trainer.device), trainer.iteration

    begin = clock(trainer.device)
    trainer.fit(iterations, look)
    end = clock(trainer.device)
    assert started is not None
    each = (end - started) / max(iterations - start, 1)
    return Run(end - begin, started - begin - start * each, each)


def count_waits(make: Callable[[], Trainer]) -> dict[str, Any]:
    """Watch two runs on a GPU after their start: one in which torch forbids to wait, and one by the profiler.

    Args:
        make: gives a new trainer.

    Returns:
        ``synchronizations``, how many times the host waited in the iterations that were profiled, plus one if torch
        stopped the other run; ``iterations``; and torch's ``message``.
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
    """Train; call ``begin`` after the start and ``end`` some iterations later."""

    def look(progress: Progress) -> None:
        if progress.iteration == _START:
            begin()
        elif progress.iteration == _START + _WATCHED:
            end()

    trainer.fit(2 * _START + 2 * _WATCHED, look)  # the end of a run waits for the device, which is no fault
