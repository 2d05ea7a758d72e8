"""Table 1: every method on graphs (left), and on addition, matrix completion and matrix inverse (right)."""

import json
from pathlib import Path
from typing import Any

from ..presets import DOMAINS, METHODS, Domain
from .runs import Laboratory
from .tables import digits, floor_rows, markdown, mean_error, origin, page, recorded

_HEADINGS = (
    "method",
    "settings",
    "seeds",
    "parameters",
    "paper: same",
    "ours: same",
    "paper: harder or larger",
    "ours: harder or larger",
    "standard error",
)


def reproduce(laboratory: Laboratory, preset: str, seeds: int) -> list[Path]:
    """Make the missing runs of a preset and the table of all recorded runs. Returns the paths of the written files."""
    laboratory.make_all(laboratory.algorithmic(), preset, seeds)
    return [laboratory.write_page("table1.md", table(laboratory.results))]


def table(results: Path) -> str:
    """The table of the runs recorded in a folder, with floors and limits, as Markdown."""
    blocks = ["# Table 1: algorithmic reasoning on vectors, matrices and graphs", _INTRODUCTION]
    for task, domain in DOMAINS.items():
        runs = recorded(results, task)
        if runs:
            blocks += [f"## {domain.title}", markdown(_HEADINGS, _rows(results, domain, runs))]
            blocks.append(origin([run for some in runs.values() for run in some]))
    return page(*blocks, *_changed_settings(results))


_INTRODUCTION = (
    "Mean squared error on 1,000 fresh problems per difficulty, evaluated once per seed; mean ± standard deviation "
    "over seeds. Trivial answers are evaluated on the same problems. *Standard error* is that of the mean over "
    "problems (same; harder), for the first seed. Settings: `paper` are the paper's; `tuned` is the paper's "
    "architecture with our training settings; `best` is an energy that uses prior knowledge about the problem, trained "
    "on problems of the same difficulty as the others."
)


def _rows(results: Path, domain: Domain, runs: dict[tuple[str, str], list[dict[str, Any]]]) -> list[list[Any]]:
    rows: list[list[Any]] = []
    both = ("same", domain.harder)
    for name, errors in floor_rows(run for some in runs.values() for run in some).items():
        rows.append([name, None, None, None, None, digits(errors, "same"), None, digits(errors, domain.harder), None])
    for (method, preset), some in runs.items():
        paper = domain.paper.get(method, {}) if preset == "paper" else {}
        errors = [some[0]["difficulties"][name]["standard_error"] for name in both]
        row = [METHODS[method], f"`{preset}`", len(some), f"{some[0]['parameters']:,}"]
        for d in both:
            row += [paper.get(d), mean_error(some, d)]
        rows.append([*row, f"{errors[0]:.1g}; {errors[1]:.1g}"])
    return [*rows, *_limit_rows(results, domain)]


def _changed_settings(results: Path) -> list[str]:
    """The table of the other methods with settings that differ from the paper's."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((results / "runs").glob("*.json"))]
    runs = [run for run in found if run["variant"] and run["method"] != "irem"]
    if not runs:
        return []
    rows = []
    for run in runs:
        domain = DOMAINS[run["task"]]
        paper = domain.paper[run["method"]]
        changes = ", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in run["variant"].items())
        cells = [cell for d in ("same", domain.harder) for cell in (paper[d], f"{run['difficulties'][d]['error']:.3g}")]
        rows.append([DOMAINS[run["task"]].title, METHODS[run["method"]], changes, *cells])
    headings = ("task", "method", "instead of 10,000 iterations with batches of 128", *_HEADINGS[4:8])
    return ["## Other methods with other settings", markdown(headings, rows), origin(runs)]


def _limit_rows(results: Path, domain: Domain) -> list[list[Any]]:
    """The row of the limit, if it is not zero."""
    path, name = results / "limits.json", domain.limit
    if name is None or not path.exists():
        return []
    limits = json.loads(path.read_text(encoding="utf-8"))["tasks"][domain.name]
    errors = {difficulty: found["limit"] for difficulty, found in limits.items()}
    cells = [f"{errors[name]['error']:.3g} ({errors[name]['ratio']:.3g} of copying)" for name in ("same", "harder")]
    bars = "; ".join(f"{errors[name]['standard_error']:.1g}" for name in ("same", "harder"))
    return [[name, None, None, None, None, cells[0], None, cells[1], bars]]
