"""Times of functions that take turns, A B A B ...: what slows the machine down slows all of them."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch


def alternating(
    functions: Mapping[str, Callable[[], Any]], rounds: int, calls: int = 1, device: torch.device | str = "cpu"
) -> dict[str, list[float]]:
    """Seconds a call of each function in each round, after one round that warms up and is not counted.

    Args:
        functions: by name; in every round each is timed once, in this order.
        rounds: how many are counted.
        calls: of a function in a row, timed together.
        device: waited for before each look at the clock.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds + 1):
        for name, function in functions.items():
            begin = clock(device)
            for _ in range(calls):
                function()
            times[name].append((clock(device) - begin) / calls)
    return {name: seconds[1:] for name, seconds in times.items()}


def clock(device: torch.device | str = "cpu") -> float:
    """Seconds, once everything that was asked of the device is done."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def ratio(seconds: Sequence[float], reference: Sequence[float]) -> dict[str, Any]:
    """Median and quartiles of the ratio in each of two or more rounds."""
    low, middle, high = statistics.quantiles([a / b for a, b in zip(seconds, reference, strict=True)], n=4)
    return {"ratio": middle, "ratio_quartiles": [low, high]}


def paired(ours: Callable[[], Any], reference: Callable[[], Any], rounds: int, calls: int = 1) -> dict[str, Any]:
    """Median seconds a call of both, and the median and quartiles of their ratio over alternating rounds."""
    times = alternating({"ours": ours, "reference": reference}, rounds, calls)
    return {
        "ours_s": statistics.median(times["ours"]),
        "reference_s": statistics.median(times["reference"]),
        **ratio(times["ours"], times["reference"]),
        "rounds": rounds,
    }
