"""Table 4: two, five and ten composed additions (Section 4.4)."""

from pathlib import Path
from typing import Any

from ..presets import METHODS
from .runs import Laboratory
from .tables import markdown, mean_and_std, origin, page, recorded

OPERATIONS = (2, 5, 10)
TABLE4: dict[str, dict[int, float]] = {
    "feedforward": {2: 0.0445, 5: 0.2717, 10: 0.8898},
    "recurrent": {2: 2.1377, 5: 3.1861, 10: 4.8706},
    "programmatic": {2: 0.0203, 5: 0.1068, 10: 0.4587},
    "unrolled": {2: 0.0826, 5: 0.5930, 10: 3.6004},
    "iterative": {2: 0.0826, 5: 0.5930, 10: 3.6004},
    "irem": {2: 0.0014, 5: 0.0078, 10: 0.0422},
}
"""The paper's errors by method and number of operations; both our iterative networks compare to its single one."""


def reproduce(laboratory: Laboratory, preset: str, seeds: int) -> list[Path]:
    """Make the missing runs of a preset and the table of all recorded runs. Returns the paths of the written files."""
    laboratory.make_all(["addition"], preset, seeds)
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
        rows.append([METHODS[method], f"`{preset}`", len(some), *cells])
    headings = ["method", "settings", "seeds", *(f"{who}: {k}" for k in OPERATIONS for who in ("paper", "ours"))]
    everything = [run for some in runs.values() for run in some]
    return page(_INTRODUCTION, markdown(headings, rows), origin(everything))


def zero(operations: int) -> float:
    """The error of answering zero: the variance of a sum of ``operations + 1`` uniform numbers in (-1, 1)."""
    return (operations + 1) / 3


_INTRODUCTION = (
    "# Table 4: composition of additions\n\nMean squared error of `y = (((x0 + x1) + x2) + ...)` on 1,000 fresh "
    "problems with entries uniform in (-1, 1); the learned operator computes each addition. Seeds and settings as in "
    "Table 1."
)
