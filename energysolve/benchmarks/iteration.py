"""The time of a training iteration, relative to the plain reference and to the peak rate of the machine."""

import statistics
from collections.abc import Callable
from typing import Any

from ..training import Trainer
from .products import Product, executed_flop, flop, iteration_products, multiplying
from .report import Bound, Report
from .setting import Setting
from .steady import count_waits, timed_fit
from .timing import alternating, clock, ratio

RATIO, SHARE = 0.75, 0.75
"""Bounds on the CPU: largest time relative to the reference, smallest fraction of the peak rate."""
GPU_RATIO, GPU_ITERATIONS, GPU_SECONDS = 1 / 20, 10_000, 10.0
PEAK = 2048
"""Rows and columns of the matrices that measure the peak rate."""
CALLS = 10
"""Consecutive iterations in each round."""
_FILLED = 40
"""The most iterations to fill the replay buffer: enough for the paper's."""
_TITLE = "A training iteration"
_PLAIN, _EAGER, _COMPILED = "plain reference", "ours", "ours, compiled"


def measure_iteration(setting: Setting, report: Report, *, rounds: int) -> None:
    """Time alternately our iteration, eager and compiled, the reference, the iteration's products, and large products.

    On a GPU, also time a long run and count how often the host waits for the device.

    Args:
        setting: the training to measure.
        report: receives the results.
        rounds: number of alternating rounds, 2 or more.
    """
    products = iteration_products(
        2 * setting.batch_size, 2 * setting.size, setting.size, setting.width, setting.depth, setting.train_steps
    )
    trainers = {_EAGER: setting.trainer()} | ({_COMPILED: setting.trainer(compile=True)} if setting.compile else {})
    functions: dict[str, Callable[[], Any]] = {name: trainer.step for name, trainer in trainers.items()}
    functions[_PLAIN] = setting.reference().step
    large, alone = f"{PEAK}³ products", "its products alone"
    figures: dict[str, Any] = {"flop_needed": flop(products)}
    figures["first_iterations_s"] = _warm_up(functions, setting)
    figures["flop_executed"] = {name: executed_flop(functions[name]) for name in (_EAGER, _PLAIN)}
    functions[alone] = multiplying(products, setting.device)
    functions[large] = multiplying([Product(PEAK, PEAK, PEAK)], setting.device)
    times = alternating(functions, rounds, CALLS, setting.device)
    work = dict.fromkeys(functions, flop(products)) | {large: 2 * PEAK**3}
    figures |= {"rounds": rounds, "iterations_a_round": CALLS}
    ours = _COMPILED if setting.compile else _EAGER
    rows = [_row(name, times, work, large) for name in functions]
    cpu = setting.device == "cpu"
    report.write("iteration", _TITLE, rows, figures, _cpu_bounds(ours, rows) if cpu else (), complete=cpu)
    if not cpu:
        found, bounds = _long_run(setting, ours, rows)
        report.write("iteration", _TITLE, rows, figures | found, bounds)


def _warm_up(functions: dict[str, Callable[[], Any]], setting: Setting) -> dict[str, float]:
    """Fill the replay buffers; returns the seconds of the first two iterations, the second of which compiles."""
    first = {}
    for name, function in functions.items():
        begin = clock(setting.device)
        for _ in range(2):
            function()
        first[name] = clock(setting.device) - begin
        for _ in range(min(_FILLED, setting.replay // (2 * setting.batch_size))):
            function()
    return first


def _row(name: str, times: dict[str, list[float]], work: dict[str, int], large: str) -> dict[str, Any]:
    """A row of the table; rates count the operations that the algorithm needs, not those that were executed."""
    seconds = times[name]
    against = ratio(seconds, times[_PLAIN]) if name != large else {"ratio": None, "ratio_quartiles": None}
    rate = [work[name] / each for each in seconds]
    peak = [work[large] / each for each in times[large]]
    return {
        "what": name,
        "ms": 1e3 * statistics.median(seconds),
        "over_reference": against["ratio"],
        "quartiles": against["ratio_quartiles"],
        "gflop_per_s": statistics.median(rate) / 1e9,
        "share_of_peak": statistics.median(a / b for a, b in zip(rate, peak, strict=True)),
    }


def _cpu_bounds(ours: str, rows: list[dict[str, Any]]) -> list[Bound]:
    row = next(row for row in rows if row["what"] == ours)
    return [
        Bound(f"time of an iteration, {ours}, over the plain reference's", row["over_reference"], RATIO),
        Bound(f"rate of an iteration, {ours}, over the machine's peak", row["share_of_peak"], SHARE, least=True),
    ]


def _long_run(setting: Setting, ours: str, rows: list[dict[str, Any]]) -> tuple[dict[str, Any], list[Bound]]:
    """Thousands of iterations in one run on a GPU, during which the host must never wait."""

    def trainer() -> Trainer:
        return setting.trainer(compile=ours == _COMPILED)

    run = timed_fit(trainer(), GPU_ITERATIONS)
    waits = count_waits(trainer)
    plain = next(row for row in rows if row["what"] == _PLAIN)["ms"] / 1e3
    bounds = [
        Bound(f"seconds of {GPU_ITERATIONS:,} iterations, after the start", run.steady_s, GPU_SECONDS),
        Bound("seconds of an iteration in a long run over the plain reference's", run.iteration_s / plain, GPU_RATIO),
        Bound("times that the host waited for the device", waits["synchronizations"], 0),
    ]
    found = {"run": {"iterations": GPU_ITERATIONS, "seconds": run.seconds, "start_s": run.start_s}, "waits": waits}
    return found, bounds
