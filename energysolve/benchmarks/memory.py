"""The memory that a training iteration needs, for different numbers of inner steps."""

import gc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from .report import Bound, Report
from .setting import Setting

STEPS = (5, 50, 500)
RATIO = 1.05
_TITLE = "Peak memory of a training iteration under Truncated(1)"


def measure_memory(setting: Setting, report: Report) -> None:
    """Measure the peak memory of tensors in an iteration, beyond the memory in use before it.

    Args:
        setting: the training to measure; its number of inner steps is ignored.
        report: receives the results.
    """
    rows: list[dict[str, Any]] = []
    for count in STEPS:
        trainer = replace(setting, train_steps=count).trainer()
        for _ in range(2):
            trainer.step()  # allocates the replay buffer and the optimizer's state
        rows.append({"train_steps": count, "peak_mib": peak_bytes(trainer.step, setting.device) / 2**20})
        peaks = [row["peak_mib"] for row in rows]
        bound = Bound("largest peak over the smallest", max(peaks) / min(peaks), RATIO)
        report.write("memory", _TITLE, rows, {}, [bound], complete=count == STEPS[-1])


def peak_bytes(function: Callable[[], Any], device: str = "cpu") -> int:
    """The peak memory of tensors during a call, in bytes, beyond the memory in use before it."""
    gc.collect()
    if device != "cpu":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        function()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as session:
        function()
    recorded: list[Any] = session.profiler.kineto_results.events()  # pyright: ignore[reportOptionalMemberAccess]
    events = sorted((event for event in recorded if event.name() == "[memory]"), key=lambda event: event.start_ns())
    live = peak = 0
    for event in events:
        live += event.nbytes()
        peak = max(peak, live)
    return peak
