"""What a scratchpad (Appendix B, Algorithm 3 of the paper) gains or loses, on addition and on the inverse."""

from pathlib import Path
from typing import Any

from ..presets import DOMAINS
from .runs import Laboratory, Run
from .tables import floor_rows, markdown, mean_and_std, origin, recorded

ENTRIES = (0, 128)
"""Of the scratchpad; 0 stands for none."""
_TASKS = ("addition", "inverse")


def reproduce(laboratory: Laboratory, preset: str, seeds: int) -> list[Path]:
    """Make what is missing of the runs, and the table. Returns the files written."""
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
            rows.append([DOMAINS[task].title, name, None, None, *(_cell(errors, d) for d in ("same", "harder"))])
        for entries, some in found.items():
            if some:
                cells = [
                    mean_and_std(some, lambda run, d=d: run["difficulties"][d]["error"]) for d in ("same", "harder")
                ]
                name = f"scratchpad of {entries}" if entries else "no scratchpad"
                rows.append([DOMAINS[task].title, name, len(some), f"{some[0]['parameters']:,}", *cells])
    headings = ("task", "what", "seeds", "parameters", "same", "harder")
    return (
        "\n\n".join([_INTRODUCTION.format(laboratory.iterations, preset), markdown(headings, rows), origin(everything)])
        + "\n"
    )


_INTRODUCTION = (
    "# The scratchpad\n\nMean squared error on 1,000 fresh problems of each difficulty after "
    "{:,} iterations of the `{}` settings, with and without a scratchpad that is minimized along with the "
    "answer."
)


def _variant(laboratory: Laboratory, entries: int) -> dict[str, float]:
    variant: dict[str, float] = {"iterations": laboratory.iterations}
    return variant | {"scratchpad": entries} if entries else variant


def _cell(errors: dict[str, float], difficulty: str) -> str | None:
    return f"{errors[difficulty]:.3g}" if difficulty in errors else None
