"""The time to train to the paper's accuracy: our settings, against the plain reference with the paper's settings."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from ..halting import EnergyChange
from ..layout import Dense
from ..optimizers import SGD
from ..seeding import stream
from ..training import Trainer
from .plain_run import PlainRun, Problems
from .report import Bound, Report
from .setting import Setting
from .steady import timed_fit

EVERY = 250
"""Iterations of the reference between evaluations."""
TARGETS = {"same": 4.5e-4, "harder": 2.6e-3}
"""Mean squared errors, slightly above those of the authors' release after 10,000 iterations."""
LR, BETAS, ITERATIONS = 2.5e-3, (0.9, 0.99), 1_000
"""Our settings: the highest learning rate of the one-cycle schedule, Adam's decays, and the iterations."""
RATIO = 1 / 8
_TESTED = {"optimizer": SGD(20.0), "halting": EnergyChange(atol=1e-5).patience(2), "max_steps": 300}
"""Our test-time settings, those of the shipped energy."""
_TITLE = "Training to the paper's accuracy"


def measure_target(
    setting: Setting,
    report: Report,
    run: PlainRun,
    *,
    iterations: int = ITERATIONS,
    reference_iterations: int = 12_000,
    problems: int = 1_000,
    log: Callable[[str], None] = lambda line: None,
) -> None:
    """Time our training before and after the reference's, with different seeds; the slower of the two counts.

    Our training has a fixed number of iterations and is evaluated once. It is not compiled: compilation would take
    longer than it saves. The reference is evaluated every 250 iterations, outside its measured time, and stops when it
    reaches both targets.

    Args:
        setting: the training to measure.
        report: receives the results, whenever there are new ones.
        run: the reference, new or resumed.
        iterations: number of our iterations.
        reference_iterations: maximum number of iterations of the reference.
        problems: number of problems of each difficulty to evaluate on.
        log: called with a line of progress.
    """
    fresh = _problems(setting, problems)
    fits = [_fit(setting, setting.seed, iterations, fresh)]
    _write(report, fits, run, complete=False)
    while run.reached(TARGETS) is None and run.iteration < reference_iterations:
        run.advance(fresh, min(EVERY, reference_iterations - run.iteration))
        log(f"plain reference, iteration {run.iteration:,}: {run.history[-1]['errors']}")
        _write(report, fits, run, complete=False)
    fits.append(_fit(setting, setting.seed + 1, iterations, fresh))
    _write(report, fits, run, complete=True)


def _problems(setting: Setting, count: int) -> Problems:
    task, problems = setting.task, {}
    for difficulty in task.difficulties:
        generator = stream(f"bench target {difficulty}", setting.seed, setting.device)
        x, target = task.sample(count, difficulty, generator, setting.device)
        problems[difficulty] = x, target, task.init(x, Dense(count), generator)
    return problems


def _fit(setting: Setting, seed: int, iterations: int, problems: Problems) -> dict[str, Any]:
    """One of our runs, as a row of the table; the seed replaces the setting's."""
    trainer = replace(setting, seed=seed).trainer(lr=LR, betas=BETAS)
    run = timed_fit(trainer, iterations)
    errors = _errors(trainer, problems)
    return {
        "what": f"ours, seed {seed}",
        "iterations": iterations,
        "seconds": run.seconds,
        "error_same": errors["same"],
        "error_harder": errors["harder"],
    }


@torch.no_grad()
def _errors(trainer: Trainer, problems: Problems) -> dict[str, float]:
    solver = trainer.solver.replace(energy=trainer.trained_model, **_TESTED)
    return {
        name: trainer.task.error(solver.minimize(x, y), target).mean().item()
        for name, (x, target, y) in problems.items()
    }


def _write(report: Report, fits: list[dict[str, Any]], run: PlainRun, *, complete: bool) -> None:
    reached = run.reached(TARGETS)
    figures = {
        "targets": TARGETS,
        "learning_rate": LR,
        "betas": BETAS,
        "reference_reached": reached is not None,
        "reference_history": run.history,
    }
    rows = list(fits)
    if run.history:
        rows.insert(1, _reference_row(run, reached))
    report.write("target", _TITLE, rows, figures, _bounds(fits, run) if complete else (), complete=complete)


def _reference_row(run: PlainRun, reached: dict[str, Any] | None) -> dict[str, Any]:
    at = reached or run.history[-1]
    best = {name: min(errors[name] for errors in at["errors"].values()) for name in TARGETS}
    return {
        "what": "plain reference" + ("" if reached else ", stopped before it reached the targets"),
        "iterations": at["iteration"],
        "seconds": at["seconds"],
        "error_same": best["same"],
        "error_harder": best["harder"],
    }


def _bounds(fits: list[dict[str, Any]], run: PlainRun) -> list[Bound]:
    slowest = max(fit["seconds"] for fit in fits)
    seconds = (run.reached(TARGETS) or run.history[-1])["seconds"]
    worst = {name: max(fit[f"error_{name}"] for fit in fits) for name in TARGETS}
    # If the reference has not reached the targets, its time is a lower bound, and the ratio an upper bound.
    return [
        Bound("time of our slower run over the reference's", slowest / seconds, RATIO),
        *(Bound(f"our larger error, {name!r}", worst[name], target) for name, target in TARGETS.items()),
    ]
