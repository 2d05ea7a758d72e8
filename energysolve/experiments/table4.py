"""Table 4: additions composed, two, five and ten in a row (Section 4.4)."""

from pathlib import Path
from typing import Any

from .methods import METHODS
from .paper import TABLE4
from .runs import Laboratory, Run
from .tables import markdown, mean_and_std, origin, recorded

OPERATIONS = (2, 5, 10)


def reproduce(laboratory: Laboratory, preset: str, seeds: int) -> list[Path]:
    """Make what is missing of the runs of a preset, and the table of all the runs there are; the files written."""
    for method in METHODS if preset == "paper" else ["irem"]:
        for seed in range(seeds if method == "irem" else 1):
            laboratory.result(Run("addition", method, preset, seed))
    return [laboratory.write_page("table4.md", table(laboratory.results))]


def table(results: Path) -> str:
    """The table, as Markdown."""
    runs = recorded(results, "addition")
    rows: list[list[Any]] = [["predict zero", None, None, *(f"{zero(k):.3g}" for k in OPERATIONS for _ in range(2))]]
    for (method, preset), some in runs.items():
        cells = []
        for k in OPERATIONS:
            paper = TABLE4[method][k] if preset == "paper" else None
            cells += [paper, mean_and_std(some, lambda run, k=k: run["composition"][k - 1])]
        rows.append([METHODS[method].title, f"`{preset}`", len(some), *cells])
    headings = ["method", "settings", "seeds", *(f"{who}: {k}" for k in OPERATIONS for who in ("paper", "ours"))]
    everything = [run for some in runs.values() for run in some]
    return "\n\n".join([_INTRODUCTION, markdown(headings, rows), origin(everything)]) + "\n"


def zero(operations: int) -> float:
    """The error of answering zero: the variance of a sum of uniform numbers in (-1, 1), one more than operations."""
    return (operations + 1) / 3


_INTRODUCTION = (
    "# Table 4: composition of additions\n\nMean squared error of `y = (((x0 + x1) + x2) + ...)` on 1,000 fresh "
    "problems, each addition by the learned operator, with entries uniform in (-1, 1). Seeds and settings as in "
    "Table 1."
)
