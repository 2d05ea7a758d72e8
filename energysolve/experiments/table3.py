"""Table 3: the step size of training, on addition."""

from pathlib import Path
from typing import Any

from .paper import TABLE3
from .recipes import recipe_of
from .runs import Laboratory, Run
from .tables import floor_rows, markdown, mean_and_std, origin, recorded

ITERATIONS = 2000


def runs_of(preset: str, seed: int) -> dict[float, Run]:
    """The runs by the step size of training.

    The step size of test time stands in the same ratio to it as the preset's; so do, inversely, energies and with them
    the tolerance.
    """
    recipe = recipe_of("addition", preset)
    runs = {}
    for step_size in TABLE3:
        scale = step_size / recipe.step_size
        variant: dict[str, float] = {"iterations": ITERATIONS}
        if step_size != recipe.step_size:
            variant["step_size"] = step_size
            variant["test_atol"] = recipe.test_atol / scale
            variant["test_step_size"] = recipe.test_step_size * scale
        runs[step_size] = Run("addition", "irem", preset, seed, tuple(variant.items()))
    return runs


def reproduce(laboratory: Laboratory, preset: str, seeds: int) -> list[Path]:
    """Make what is missing of the runs, and the table. Returns the files written."""
    for seed in range(seeds):
        for run in runs_of(preset, seed).values():
            laboratory.result(run)
    return [laboratory.write_page("table3.md", table(laboratory.results, preset))]


def recorded_runs(results: Path, preset: str) -> dict[float, list[dict[str, Any]]]:
    """The results of the runs that are recorded, by the step size of training."""
    found = {
        step_size: recorded(results, "addition", dict(run.variant)).get(("irem", preset), [])
        for step_size, run in runs_of(preset, 0).items()
    }
    return {step_size: runs for step_size, runs in found.items() if runs}


def table(results: Path, preset: str) -> str:
    """The table, as Markdown."""
    found = recorded_runs(results, preset)
    everything = [run for runs in found.values() for run in runs]
    rows: list[list[Any]] = [
        [name, None, None, f"{errors['same']:.3g}", None, f"{errors['harder']:.3g}"]
        for name, errors in floor_rows(everything).items()
    ]
    for step_size, runs in found.items():
        cells = [mean_and_std(runs, lambda run, d=d: run["difficulties"][d]["error"]) for d in ("same", "harder")]
        paper = TABLE3[step_size]
        rows.append([f"{step_size:g}", len(runs), paper["same"], cells[0], paper["harder"], cells[1]])
    ours = {d: spread([_mean(runs, d) for runs in found.values()]) for d in ("same", "harder")}
    paper = {d: spread([TABLE3[step_size][d] for step_size in found]) for d in ("same", "harder")}
    cells = [f"{each[d]:.2f}" for d in ("same", "harder") for each in (paper, ours)]
    rows.append(["*largest over smallest*", None, *cells])
    headings = ("step size", "seeds", "paper: same", "ours: same", "paper: harder", "ours: harder")
    return "\n\n".join([_INTRODUCTION.format(preset), markdown(headings, rows), origin(everything)]) + "\n"


_INTRODUCTION = (
    "# Table 3: the step size of training, on addition\n\nMean squared error on 1,000 fresh problems of each "
    f"difficulty, after {ITERATIONS:,} iterations of the `{{}}` settings (the paper: 10,000 of its own). The paper's "
    "figures have one digit or two, so the ratio of its first column may be anything from 1.0 to 1.8."
)


def _mean(runs: list[dict[str, Any]], difficulty: str) -> float:
    return sum(run["difficulties"][difficulty]["error"] for run in runs) / len(runs)


def spread(values: list[float]) -> float:
    """The largest over the smallest."""
    return max(values) / min(values)
