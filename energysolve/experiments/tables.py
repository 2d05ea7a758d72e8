"""Shared parts of the tables: results of runs over seeds, and Markdown."""

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..presets import METHODS

PRESETS = ("paper", "tuned", "best")
"""In the order of the tables."""

Key = tuple[str, str]
"""A method and a preset."""


def recorded(results: Path, task: str, variant: Mapping[str, float] | None = None) -> dict[Key, list[dict[str, Any]]]:
    """The results of all runs of a task with this variant, in the order of the tables."""
    found: dict[Key, list[dict[str, Any]]] = defaultdict(list)
    for path in sorted((results / "runs").glob(f"{task}-*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        if result["task"] == task and result["variant"] == dict(variant or {}):
            found[result["method"], result["preset"]].append(result)
    methods = list(METHODS)
    return dict(sorted(found.items(), key=lambda item: (methods.index(item[0][0]), PRESETS.index(item[0][1]))))


def mean_and_std(runs: Sequence[dict[str, Any]], value: Callable[[dict[str, Any]], float | None]) -> str:
    """Mean ± standard deviation of a number over runs, where None counts as infinite; the mean alone for one run."""
    values = [math.inf if (found := value(run)) is None else found for run in runs]
    mean = statistics.fmean(values)
    return f"{mean:.3g}" if len(values) == 1 or math.isinf(mean) else f"{mean:.3g} ± {statistics.stdev(values):.1g}"


def mean_error(runs: Sequence[dict[str, Any]], difficulty: str) -> str:
    """Mean ± standard deviation of the error over runs."""
    return mean_and_std(runs, lambda run: run["difficulties"][difficulty]["error"])


def page(*blocks: str) -> str:
    """A Markdown page of blocks."""
    return "\n\n".join(blocks) + "\n"


def digits(errors: Mapping[str, float], difficulty: str) -> str | None:
    """The error to three digits, or None if there is none."""
    return f"{errors[difficulty]:.3g}" if difficulty in errors else None


def markdown(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; None is shown as a dash."""
    lines = [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
    lines += [f"| {' | '.join('-' if cell is None else str(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines)


def floor_rows(runs: Iterable[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean errors of trivial answers over the problems of all runs, by name and difficulty."""
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        for difficulty, found in run["difficulties"].items():
            for name, error in found["floors"].items():
                values[name][difficulty].append(error)
    return {name: {key: statistics.fmean(each) for key, each in found.items()} for name, found in values.items()}


def origin(runs: Sequence[dict[str, Any]]) -> str:
    """A sentence on the origin of the runs of a table."""
    dates = sorted({run["date"][:10] for run in runs})
    versions = sorted(
        {f"energysolve {run['versions']['energysolve']}, torch {run['versions']['torch']}" for run in runs}
    )
    hardware = sorted({f"{run['hardware']['cores']} cores of {run['hardware']['cpu']}" for run in runs})
    shown = "; ".join([", ".join(versions), ", ".join(hardware), " to ".join(dict.fromkeys((dates[0], dates[-1])))])
    return f"From {len(runs)} result files in `docs/results/runs`, each with its command, seed and settings: {shown}."
