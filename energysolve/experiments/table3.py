"""Table 3: the step size of training, on addition."""

from pathlib import Path
from statistics import fmean
from typing import Any

from .runs import Laboratory, Run
from .tables import floor_rows, markdown, mean_error, origin, page, recorded

TABLE3: dict[float, dict[str, float]] = {
    10.0: {"same": 0.0003, "harder": 0.0021},
    30.0: {"same": 0.0003, "harder": 0.0020},
    100.0: {"same": 0.0003, "harder": 0.0021},
    300.0: {"same": 0.0004, "harder": 0.0023},
    1000.0: {"same": 0.0004, "harder": 0.0025},
}
"""The paper's errors, by the step size of training."""


def runs_of(laboratory: Laboratory, preset: str, seed: int, *, scaled: bool) -> dict[float, Run]:
    """The runs by the step size of training.

    The step size at test time is proportional to that of training; energies, and with them the tolerance, are inversely
    proportional to it.

    Args:
        laboratory: provides the preset and the number of iterations.
        preset: name of the preset with the other settings.
        seed: seed of the runs.
        scaled: whether the energy is scaled inversely to the step size.
    """
    settings = laboratory.preset(Run("addition", "irem", preset)).settings
    runs = {}
    for step_size in TABLE3:
        scale = step_size / settings["step_size"]
        variant: dict[str, float] = {"iterations": laboratory.iterations}
        if step_size != settings["step_size"]:
            variant["step_size"] = step_size
            variant["test_atol"] = settings["test_atol"] / scale
            variant["test_step_size"] = settings["test_step_size"] * scale
            if scaled:
                variant["energy_scale"] = 1 / scale
        runs[step_size] = Run("addition", "irem", preset, seed, tuple(variant.items()))
    return runs


def reproduce(laboratory: Laboratory, preset: str, seeds: int) -> list[Path]:
    """Make the missing runs and the table. Returns the paths of the written files."""
    for seed in range(seeds):
        for scaled in (True, False):
            for run in runs_of(laboratory, preset, seed, scaled=scaled).values():
                laboratory.result(run)
    return [laboratory.write_page("table3.md", table(laboratory, preset))]


def recorded_runs(laboratory: Laboratory, preset: str, *, scaled: bool) -> dict[float, list[dict[str, Any]]]:
    """The recorded results by the step size of training, restricted to the seeds that all step sizes have in common.

    Other tables may add seeds for some step sizes, but the spread over step sizes must not include a spread over seeds.
    """
    found = {
        step_size: recorded(laboratory.results, "addition", dict(run.variant)).get(("irem", preset), [])
        for step_size, run in runs_of(laboratory, preset, 0, scaled=scaled).items()
    }
    seeds = [{run["seed"] for run in runs} for runs in found.values() if runs]
    shared = set.intersection(*seeds) if seeds else set()
    kept = {step_size: [run for run in runs if run["seed"] in shared] for step_size, runs in found.items()}
    return {step_size: runs for step_size, runs in kept.items() if runs}


def table(laboratory: Laboratory, preset: str) -> str:
    """The table, as Markdown."""
    kinds = [recorded_runs(laboratory, preset, scaled=scaled) for scaled in (False, True)]
    everything = list({run["name"]: run for found in kinds for runs in found.values() for run in runs}.values())
    rows: list[list[Any]] = [
        [name, *(cell for d in _DIFFICULTIES for cell in (None, f"{errors[d]:.3g}", f"{errors[d]:.3g}"))]
        for name, errors in floor_rows(everything).items()
    ]
    for step_size in sorted(set().union(*kinds)):
        cells = [(TABLE3[step_size][d], *(_error(found.get(step_size), d) for found in kinds)) for d in _DIFFICULTIES]
        rows.append([f"{step_size:g}", *(cell for some in cells for cell in some)])
    papers = {d: f"{spread([errors[d] for errors in TABLE3.values()]):.2f}" for d in _DIFFICULTIES}
    spreads = [(papers[d], *(_spread(found, d) for found in kinds)) for d in _DIFFICULTIES]
    rows.append(["*largest over smallest*", *(cell for some in spreads for cell in some)])
    columns = ("paper", "energy as it is", "scaled")
    headings = ["step size", *(f"{column}: {d}" for d in _DIFFICULTIES for column in columns)]
    introduction = _INTRODUCTION.format(laboratory.iterations, preset)
    return page(introduction, markdown(headings, rows), origin(everything))


_DIFFICULTIES = ("same", "harder")
_INTRODUCTION = (
    "# Table 3: the step size of training, on addition\n\nMean squared error on 1,000 fresh problems per "
    "difficulty, after {:,} iterations with the `{}` settings (the paper: 10,000 with its own). The paper's numbers "
    "have one or two digits, so the ratio of its first column may be anything from 1.0 to 1.8.\n\n"
    "*Energy as it is*: only the step size changes. *Scaled*: the energy is multiplied by a constant, 100 over the "
    "step size. Training is then the same for all step sizes, except for rounding: the remaining spread is chance."
)


def _error(runs: list[dict[str, Any]] | None, difficulty: str) -> str | None:
    return mean_error(runs, difficulty) if runs else None


def _spread(found: dict[float, list[dict[str, Any]]], difficulty: str) -> str | None:
    means = [fmean(run["difficulties"][difficulty]["error"] for run in runs) for runs in found.values()]
    return f"{spread(means):.2f}" if found else None


def spread(values: list[float]) -> float:
    """The largest value over the smallest."""
    return max(values) / min(values)
