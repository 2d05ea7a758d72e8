"""The effect of a scratchpad (Appendix B, Algorithm 3 of the paper) on addition and the inverse."""

from pathlib import Path
from typing import Any

from ..presets import DOMAINS
from .runs import Laboratory, Run
from .tables import digits, floor_rows, markdown, mean_error, origin, page, recorded

ENTRIES = (0, 128)
"""Sizes of the scratchpad; 0 for none."""
_TASKS = ("addition", "inverse")


def reproduce(laboratory: Laboratory, preset: str, seeds: int) -> list[Path]:
    """Make the missing runs and the table. Returns the paths of the written files."""
    for task in _TASKS:
        for entries in ENTRIES:
            for seed in range(seeds):
                laboratory.result(Run(task, "irem", preset, seed, tuple(_variant(laboratory, entries).items())))
    return [laboratory.write_page("scratchpad.md", table(laboratory, preset))]


def table(laboratory: Laboratory, preset: str) -> str:
    """The table, as Markdown."""
    rows: list[list[Any]] = []
    everything = []
    for task in _TASKS:
        found = {
            n: recorded(laboratory.results, task, _variant(laboratory, n)).get(("irem", preset), []) for n in ENTRIES
        }
        runs = [run for some in found.values() for run in some]
        everything += runs
        for name, errors in floor_rows(runs).items():
            rows.append([DOMAINS[task].title, name, None, None, *(digits(errors, d) for d in ("same", "harder"))])
        for entries, some in found.items():
            if some:
                cells = [mean_error(some, d) for d in ("same", "harder")]
                name = f"scratchpad of {entries}" if entries else "no scratchpad"
                rows.append([DOMAINS[task].title, name, len(some), f"{some[0]['parameters']:,}", *cells])
    headings = ("task", "what", "seeds", "parameters", "same", "harder")
    introduction = _INTRODUCTION.format(laboratory.iterations, preset)
    return page(introduction, markdown(headings, rows), origin(everything))


_INTRODUCTION = (
    "# The scratchpad\n\nMean squared error on 1,000 fresh problems per difficulty, after {:,} iterations with the "
    "`{}` settings, with and without a scratchpad that is minimized together with the answer."
)


def _variant(laboratory: Laboratory, entries: int) -> dict[str, float]:
    variant: dict[str, float] = {"iterations": laboratory.iterations}
    return variant | {"scratchpad": entries} if entries else variant
