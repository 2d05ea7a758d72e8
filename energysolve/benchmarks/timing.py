"""Times of functions that run alternately, A B A B ...: whatever slows down the machine slows down all of them."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch


def alternating(
    functions: Mapping[str, Callable[[], Any]], rounds: int, calls: int = 1, device: torch.device | str = "cpu"
) -> dict[str, list[float]]:
    """Seconds per call of each function in each round, after a warm-up round that does not count.

    Args:
        functions: functions by name; each round times them in this order.
        rounds: number of rounds that count.
        calls: consecutive calls of a function that are timed together.
        device: the device to synchronize before the clock is read.
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
    """The time in seconds, after all work on the device is done."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def ratio(seconds: Sequence[float], reference: Sequence[float]) -> dict[str, Any]:
    """Median and quartiles of the ratios over two or more rounds."""
    low, middle, high = statistics.quantiles([a / b for a, b in zip(seconds, reference, strict=True)], n=4)
    return {"ratio": middle, "ratio_quartiles": [low, high]}


def paired(ours: Callable[[], Any], reference: Callable[[], Any], rounds: int, calls: int = 1) -> dict[str, Any]:
    """Median seconds per call of both, and median and quartiles of their ratio over alternating rounds."""
    times = alternating({"ours": ours, "reference": reference}, rounds, calls)
    return {
        "ours_s": statistics.median(times["ours"]),
        "reference_s": statistics.median(times["reference"]),
        **ratio(times["ours"], times["reference"]),
        "rounds": rounds,
    }
