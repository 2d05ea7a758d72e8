"""Optimizers that choose their steps against those of other libraries."""

import os
import statistics
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from typing import Any

import torch

from .. import optimizers
from ..energies.more_garbow_hillstrom import SumOfSquares, more_garbow_hillstrom
from ..energy import LeastSquares
from ..halting import GradientNorm
from ..optimizers import InnerOptimizer
from ..solver import EnergySolver
from .collection import compared, lbfgsb, minpack, scipy_collection, solve_collection
from .equilibria import equilibria, measure_equilibria
from .families import Family, families
from .peers import LIMIT, Answers, Peer, peers
from .progress import progress, save_progress
from .report import Bound, Report
from .setting import Setting
from .timing import alternating, ratio

OURS = ("LBFGS", "NewtonCG", "LevenbergMarquardt")
RTOL = 1e-5
"""Of the gradient at the start; SciPy's and BoTorch's criteria look at its largest entry, the others at its norm."""
SOLVED = 1e-4
"""An answer is counted as solved where the norm of the gradient is at most this share of that at the start."""
WORKERS = os.cpu_count() or 1
LEAST_RATIOS = {
    ("exponential curves", "LBFGS", "SciPy L-BFGS-B on the torch energy"): 15.0,
    ("exponential curves", "LBFGS", "pytorch-minimize l-bfgs, one by one"): 20.0,
    ("exponential curves", "LBFGS, compact", "BoTorch batched L-BFGS-B"): 3.0,
    ("exponential curves", "LevenbergMarquardt", "SciPy least_squares lm"): 6.0,
}
"""How many times faster ours has to be. BoTorch, too, leaves out problems that have converged."""
MOST_EVALUATIONS = 1.2
_TITLE = "Optimizers that choose their steps, on one core"
_NOTES = (
    "SciPy and pytorch-minimize solve one problem after the other. Gradients by hand are in NumPy, for each kind "
    "of problem. Compilation by JAX is not counted. SciPy on the torch energy and pytorch-minimize are timed on a "
    "twentieth of the problems. Processes are started before the clock."
)


def measure_optimizers(
    setting: Setting,
    report: Report,
    *,
    rounds: int,
    count: int = 1000,
    large: int = 10_000,
    collection: int | None = None,
) -> None:
    """Time and evaluations on batches of small problems, and the problems of Moré, Garbow and Hillstrom.

    Args:
        setting: its seed.
        report: where the results go.
        rounds: of alternation, 2 or more.
        count: problems in a batch.
        large: variables of the large problem.
        collection: how many of the problems of Moré, Garbow and Hillstrom; None for all.
    """
    figures: dict[str, Any] = {"rounds": rounds, "rtol": RTOL, "notes": _NOTES}
    bounds = _measure_collection(more_garbow_hillstrom()[:collection], figures)
    rows: list[dict[str, Any]] = []
    kinds = families(count, large, setting.seed)
    small = [family.part(slice(count // 5 + 1)) for family in kinds[:-1]]
    figures["progress"] = {family.name: progress(family) for family in small}
    save_progress(report.path, figures["progress"])
    with _one_thread(), ProcessPoolExecutor(WORKERS, get_context("spawn")) as pool:
        others = peers(pool, WORKERS)
        figures["skipped"] = [f"{peer.name}: not installed" for peer in others if not peer.installed]
        for problems in equilibria(count, setting.seed):
            found, skipped = measure_equilibria(problems, rounds)
            rows += found
            figures["skipped"] = sorted({*figures["skipped"], *skipped})
        for family in kinds:
            rows += _measure_family(family, [peer for peer in others if peer.installed], rounds, bounds)
            report.write("optimizers", _TITLE, rows, figures, bounds, complete=family is kinds[-1])


def available() -> dict[str, InnerOptimizer]:
    """The optimizers of this library that choose their steps."""
    found = {name: getattr(optimizers, name, None) for name in OURS}
    return {name: optimizer() for name, optimizer in found.items() if optimizer is not None}


def _measure_collection(problems: tuple[SumOfSquares, ...], figures: dict[str, Any]) -> list[Bound]:
    references = {name: scipy_collection(problems, run) for name, run in (("lbfgsb", lbfgsb), ("minpack", minpack))}
    bounds = []
    for name, optimizer in available().items():
        reference = "minpack" if name == "LevenbergMarquardt" else "lbfgsb"
        found = compared(solve_collection(problems, optimizer), references[reference])
        figures[f"collection_{name}"] = {"reference": f"SciPy {reference}"} | dict(found)
        if name == "LBFGS":
            solved, theirs = found["solved"], found["solved_by_reference"]
            ratio = found["evaluations_over_reference"]
            bounds.append(Bound("Moré-Garbow-Hillstrom: cases solved by LBFGS", solved, theirs, least=True))
            bounds.append(Bound("evaluations over L-BFGS-B's, geometric mean", ratio, MOST_EVALUATIONS))
    return bounds


def _measure_family(family: Family, others: list[Peer], rounds: int, bounds: list[Bound]) -> list[dict[str, Any]]:
    single, squares = len(family.x) == 1, isinstance(family.energy, LeastSquares)
    functions: dict[str, Callable[[], Answers]] = {}
    shares: dict[str, int] = {}
    for name, optimizer in available().items():
        if squares or name != "LevenbergMarquardt":
            functions[name] = partial(_solve, family, optimizer)
    if not single:
        functions["LBFGS, compact"] = partial(_solve, family, available()["LBFGS"], compact=True)
    for peer in others:
        unsuited = ("processes" in peer.name and single) or ("least_squares" in peer.name and family.residuals is None)
        if unsuited or family.y0.shape[1] > peer.largest:
            continue
        shares[peer.name] = max(1, round(peer.share * len(family.x)))
        functions[peer.name] = partial(peer.solve, family.part(slice(shares[peer.name])), RTOL)
    times = alternating(functions, rounds)
    rows = []
    for name, function in functions.items():
        scale = len(family.x) / shares.get(name, len(family.x))
        times[name] = [scale * seconds for seconds in times[name]]
        rows.append(_row(family, name, function(), times[name], ratio(times[name], times["LBFGS"])["ratio"]))
    for (kind, ours, theirs), least in LEAST_RATIOS.items():
        if kind == family.name and {ours, theirs} <= times.keys():
            faster = ratio(times[theirs], times[ours])["ratio"]
            bounds.append(Bound(f"{kind}: {ours} faster than {theirs}", faster, least, least=True))
    return rows


def _solve(family: Family, optimizer: InnerOptimizer, compact: bool = False) -> Answers:
    halting = GradientNorm(rtol=RTOL)
    solver = EnergySolver(family.energy, optimizer, halting=halting, max_steps=LIMIT, compact=compact)
    solution = solver.minimize(family.x, family.y0)
    assert solution.evaluations is not None
    return Answers(solution.y, solution.evaluations.double().mean().item())


def _row(family: Family, name: str, answers: Answers, seconds: list[float], over: float) -> dict[str, Any]:
    solved, count = family.part(slice(len(answers.y))), len(family.x)
    small = solved.gradient_norm(answers.y) <= SOLVED * solved.gradient_norm(solved.y0)
    return {
        "problems": f"{f'{count:,} ' if count > 1 else ''}{family.name}, {family.y0.shape[1]:,} variables",
        "method": name,
        "solved": small.double().mean().item(),
        "evaluations": answers.evaluations,
        "seconds": statistics.median(seconds),
        "over_lbfgs": over,
    }


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
