"""Table 3: the step size of training, on addition."""

from pathlib import Path
from typing import Any

from .runs import Laboratory, Run
from .tables import floor_rows, markdown, mean_and_std, origin, recorded

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

    The step size of test time stands in the same ratio to it as the preset's; so do, inversely, energies and with them
    the tolerance.

    Args:
        laboratory: that has the preset, and the number of iterations.
        preset: whose other settings are taken.
        seed: of the runs.
        scaled: whether the energy is scaled against the step size, or the same for all.
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
    """Make what is missing of the runs, and the table. Returns the files written."""
    for seed in range(seeds):
        for scaled in (True, False):
            for run in runs_of(laboratory, preset, seed, scaled=scaled).values():
                laboratory.result(run)
    return [laboratory.write_page("table3.md", table(laboratory, preset))]


def recorded_runs(laboratory: Laboratory, preset: str, *, scaled: bool) -> dict[float, list[dict[str, Any]]]:
    """The results of the runs that are recorded, by the step size of training, with the seeds that all of these have.

    Other tables may have more seeds of some of them; a spread over step sizes must not be one over seeds.
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
    spreads = [(_spread_of_paper(d), *(_spread(found, d) for found in kinds)) for d in _DIFFICULTIES]
    rows.append(["*largest over smallest*", *(cell for some in spreads for cell in some)])
    columns = ("paper", "energy as it is", "scaled")
    headings = ["step size", *(f"{column}: {d}" for d in _DIFFICULTIES for column in columns)]
    return (
        "\n\n".join([_INTRODUCTION.format(laboratory.iterations, preset), markdown(headings, rows), origin(everything)])
        + "\n"
    )


_DIFFICULTIES = ("same", "harder")
_INTRODUCTION = (
    "# Table 3: the step size of training, on addition\n\nMean squared error on 1,000 fresh problems of each "
    "difficulty, after {:,} iterations of the `{}` settings (the paper: 10,000 of its own). The paper's "
    "figures have one digit or two, so the ratio of its first column may be anything from 1.0 to 1.8.\n\n"
    "*Energy as it is*: nothing changes but the step size. *Scaled*: the energy is multiplied by a constant, 100 over "
    "the step size. Steps of any size then begin with the same descent and, but for rounding, go on alike: the spread "
    "that is left is chance."
)


def _error(runs: list[dict[str, Any]] | None, difficulty: str) -> str | None:
    return mean_and_std(runs, lambda run: run["difficulties"][difficulty]["error"]) if runs else None


def _mean(runs: list[dict[str, Any]], difficulty: str) -> float:
    return sum(run["difficulties"][difficulty]["error"] for run in runs) / len(runs)


def _spread(found: dict[float, list[dict[str, Any]]], difficulty: str) -> str | None:
    return f"{spread([_mean(runs, difficulty) for runs in found.values()]):.2f}" if found else None


def _spread_of_paper(difficulty: str) -> str:
    return f"{spread([errors[difficulty] for errors in TABLE3.values()]):.2f}"


def spread(values: list[float]) -> float:
    """The largest over the smallest."""
    return max(values) / min(values)
