"""Table 1, right: every method on addition, matrix completion and matrix inverse."""

import json
from pathlib import Path
from typing import Any

from ..presets import DOMAINS, METHODS
from .runs import Laboratory, Run
from .tables import floor_rows, markdown, mean_and_std, origin, recorded

_HEADINGS = (
    "method",
    "settings",
    "seeds",
    "parameters",
    "paper: same",
    "ours: same",
    "paper: harder",
    "ours: harder",
    "standard error",
)


def reproduce(laboratory: Laboratory, preset: str, seeds: int) -> list[Path]:
    """Make what is missing of the runs of a preset, and the table of all the runs there are.

    Returns:
        The files written.
    """
    for task in laboratory.domains:
        for method in METHODS if preset == "paper" else ["irem"]:
            for seed in range(seeds if method == "irem" else 1):
                laboratory.result(Run(task, method, preset, seed))
    return [laboratory.write_page("table1.md", table(laboratory.results))]


def table(results: Path) -> str:
    """The table of the runs that are recorded in a folder, with floors and limits, as Markdown."""
    blocks = ["# Table 1: algorithmic reasoning on vectors and matrices", _INTRODUCTION]
    for task, domain in DOMAINS.items():
        runs = recorded(results, task)
        if runs:
            blocks += [f"## {domain.title}", markdown(_HEADINGS, _rows(results, task, runs))]
            blocks.append(origin([run for some in runs.values() for run in some]))
    return "\n\n".join([*blocks, *_changed_settings(results)]) + "\n"


_INTRODUCTION = (
    "Mean squared error on 1,000 fresh problems of each difficulty, evaluated once for each seed; mean ± standard "
    "deviation over seeds. Trivial answers are judged on the same problems. *Standard error*: of the mean over the "
    "problems (same; harder), for the first seed. Settings: `paper` are the paper's; `tuned` is the paper's "
    "architecture with our recipe; `best` is an energy that uses what is known about the problem, fitted on the same "
    "difficulty as the others."
)


def _rows(results: Path, task: str, runs: dict[tuple[str, str], list[dict[str, Any]]]) -> list[list[Any]]:
    rows: list[list[Any]] = []
    for name, errors in floor_rows(run for some in runs.values() for run in some).items():
        rows.append([name, None, None, None, None, _cell(errors, "same"), None, _cell(errors, "harder"), None])
    for (method, preset), some in runs.items():
        paper = DOMAINS[task].paper.get(method, {})
        errors = [some[0]["difficulties"][name]["standard_error"] for name in ("same", "harder")]
        cells = [mean_and_std(some, lambda run, d=d: run["difficulties"][d]["error"]) for d in ("same", "harder")]
        rows.append(
            [
                METHODS[method],
                f"`{preset}`",
                len(some),
                f"{some[0]['parameters']:,}",
                paper.get("same") if preset == "paper" else None,
                cells[0],
                paper.get("harder") if preset == "paper" else None,
                cells[1],
                f"{errors[0]:.1g}; {errors[1]:.1g}",
            ]
        )
    return [*rows, *_limit_rows(results, task)]


def _changed_settings(results: Path) -> list[str]:
    """The other methods once more, each with its own changes to the paper's settings."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((results / "runs").glob("*.json"))]
    runs = [run for run in found if run["variant"] and run["method"] != "irem"]
    if not runs:
        return []
    rows = []
    for run in runs:
        paper = DOMAINS[run["task"]].paper[run["method"]]
        changes = ", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in run["variant"].items())
        cells = [cell for d in ("same", "harder") for cell in (paper[d], f"{run['difficulties'][d]['error']:.3g}")]
        rows.append([DOMAINS[run["task"]].title, METHODS[run["method"]], changes, *cells])
    headings = ("task", "method", "instead of 10,000 iterations with 128", *_HEADINGS[4:8])
    return ["## Other methods with other settings", markdown(headings, rows), origin(runs)]


def _limit_rows(results: Path, task: str) -> list[list[Any]]:
    """The limit, where it is not zero."""
    path, name = results / "limits.json", DOMAINS[task].limit
    if name is None or not path.exists():
        return []
    limits = json.loads(path.read_text(encoding="utf-8"))["tasks"][task]
    errors = {difficulty: found["limit"] for difficulty, found in limits.items()}
    cells = [f"{errors[name]['error']:.3g} ({errors[name]['ratio']:.3g} of copying)" for name in ("same", "harder")]
    bars = "; ".join(f"{errors[name]['standard_error']:.1g}" for name in ("same", "harder"))
    return [[name, None, None, None, None, cells[0], None, cells[1], bars]]


def _cell(errors: dict[str, float], difficulty: str) -> str | None:
    return f"{errors[difficulty]:.3g}" if difficulty in errors else None
