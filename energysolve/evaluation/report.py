"""Evaluations as tables in the terminal."""

from collections.abc import Mapping, Sequence
from itertools import count, pairwise, takewhile

from rich import box
from rich.console import Console
from rich.table import Table

from .evaluate import Performance, step_edges

_BINS = 12
_BAR = 24


def print_evaluations(console: Console, evaluations: Sequence[Performance], paper: Mapping[str, float], error: str):
    """Print error against steps, the summary, the distribution of steps and the comparison of difficulties.

    Args:
        console: the console to print to.
        evaluations: one evaluation per difficulty.
        paper: the errors that the paper reports, by difficulty.
        error: name of the error.
    """
    halted = f"{error.capitalize()} at the solver's own halting, one evaluation"
    _print_table(console, f"{error.capitalize()} against steps", _error_table(evaluations))
    _print_table(console, halted, _summary_table(evaluations, paper))
    _print_table(console, "How many problems took how many steps", _histogram(evaluations))
    failures = [
        f"{each.nonfinite} of the {each.difficulty!r} problems met a NaN or infinity and kept the last finite answer."
        for each in evaluations
        if each.nonfinite
    ]
    for line in [*comparison(evaluations), *failures]:
        console.print(line, soft_wrap=True, highlight=False)


def comparison(evaluations: Sequence[Performance]) -> list[str]:
    """Sentences that compare the mean number of steps of each harder difficulty with the easiest."""
    easy, *others = evaluations
    mean = easy.statistics()["mean"]
    lines = []
    for other in others:
        harder = other.statistics()["mean"]
        same = f"{harder:.1f}" == f"{mean:.1f}"  # as printed
        verdict = "as many steps" if same else f"{'more' if harder > mean else 'fewer'} steps"
        lines.append(
            f"At the same tolerance, the {other.difficulty!r} problems took {verdict} on average "
            f"{'as' if same else 'than'} the {easy.difficulty!r} ones: {harder:.1f} against {mean:.1f}."
        )
    return lines


def milestones(last: int) -> list[int]:
    """The steps that a table shows: 0, 1, 2, 5, 10, 20, 50, ... and the last."""
    steps = (digit * 10**power for power in count() for digit in (1, 2, 5))
    return [0, *takewhile(lambda step: step < last, steps), *([last] if last else [])]


def _print_table(console: Console, title: str, table: Table) -> None:
    # Printed separately: rich would wrap the table's own title to the width of the table.
    console.print(title, style="bold")
    console.print(table)


def plain_table() -> Table:
    """An empty table in the style of the commands."""
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)


def _error_table(evaluations: Sequence[Performance]) -> Table:
    table = plain_table()
    table.add_column("steps", justify="right")
    for evaluation in evaluations:
        table.add_column(evaluation.difficulty, justify="right", min_width=9)
    for step in milestones(max(len(evaluation.error_by_step) for evaluation in evaluations) - 1):
        curves = (evaluation.error_by_step for evaluation in evaluations)
        table.add_row(str(step), *(f"{curve[min(step, len(curve) - 1)]:.2e}" for curve in curves))
    return table


def _summary_table(evaluations: Sequence[Performance], paper: Mapping[str, float]) -> Table:
    table = plain_table()
    table.add_column("\nproblems")
    floors = list(dict.fromkeys(name for each in evaluations for name in each.floors))
    table.add_column("\nerror", justify="right", min_width=8)
    for heading in (*(["paper's\nIREM"] if paper else []), *map(_two_lines, floors), "con-\nverged"):
        table.add_column(heading, justify="right")
    for heading in ("steps:\nmean", "\nmedian", "\nmin", "\nmax"):
        table.add_column(heading, justify="right")
    for evaluation in evaluations:
        steps = evaluation.statistics()
        reported = paper.get(evaluation.difficulty)
        table.add_row(
            evaluation.difficulty,
            f"{evaluation.error:.2e}",
            *(["-" if reported is None else f"{reported:.1e}"] if paper else []),
            *(f"{evaluation.floors[name]:.3g}" if name in evaluation.floors else "-" for name in floors),
            f"{evaluation.converged:.1%}",
            f"{steps['mean']:.1f}",
            *(f"{steps[name]:g}" for name in ("median", "min", "max")),
        )
    return table


def _histogram(evaluations: Sequence[Performance]) -> Table:
    edges = step_edges(evaluations, _BINS)
    bins = list(pairwise(edges))
    counts = {
        each.difficulty: [sum(low <= step < high for step in each.steps) for low, high in bins] for each in evaluations
    }
    most = max(max(column) for column in counts.values())
    table = plain_table()
    table.add_column("steps", justify="right")
    for difficulty in counts:
        table.add_column(difficulty, width=_BAR + 7)
    for row, (low, high) in enumerate(bins):
        label = str(low) if high - low == 1 else f"{low}-{high - 1}"
        table.add_row(label, *(_bar(column[row], most) for column in counts.values()))
    return table


def _bar(value: int, most: int) -> str:
    filled = round(_BAR * value / most)
    return "█" * max(filled, 1) + f" {value}" if value else ""


def _two_lines(name: str) -> str:
    """A heading of two lines, broken at the last space."""
    return "\n".join(["", *name.rsplit(" ", 1)][-2:])
