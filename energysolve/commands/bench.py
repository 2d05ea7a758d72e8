"""``energysolve bench``."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from ..benchmarks.iteration import measure_iteration
from ..benchmarks.memory import measure_memory
from ..benchmarks.optimizers import measure_optimizers
from ..benchmarks.plain_run import PlainRun
from ..benchmarks.report import Report
from ..benchmarks.setting import Setting
from ..benchmarks.solving import measure_solving
from ..benchmarks.target import ITERATIONS, measure_target
from .common import CommandError, Device, check_device, command_line, load_model

_FOLDER = Path("out") / "bench"
_STATE = _FOLDER / "target-reference.safetensors"


@dataclass(frozen=True)
class _Options:
    """Those of the command that single measurements look at."""

    rounds: int | None
    iterations: int
    reference_iterations: int
    resume: bool
    model: str
    problems: int
    collection: int | None


def bench(
    what: Annotated[
        str, typer.Argument(help="iteration, target, solve, memory, optimizers or all.", metavar="WHAT")
    ] = "all",
    rounds: Annotated[
        int | None, typer.Option(min=2, help="Rounds of alternation; default 21, for solve 5, for optimizers 3.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Result file, for all a folder; default out/bench/WHAT.json.")
    ] = None,
    device: Device = "cpu",
    seed: Annotated[int, typer.Option(help="Seed of weights and problems.")] = 0,
    size: Annotated[int, typer.Option(min=1, help="Size of the training problems.")] = 400,
    width: Annotated[int, typer.Option(min=1, help="Units of each hidden layer.")] = 512,
    batch_size: Annotated[int, typer.Option(min=1, help="New problems an iteration; as many are replayed.")] = 128,
    compile: Annotated[bool, typer.Option("--compile/--no-compile", help="Measure compiled training.")] = True,
    iterations: Annotated[int, typer.Option(min=2, help="target: iterations of this library.")] = ITERATIONS,
    reference_iterations: Annotated[int, typer.Option(min=1, help="target: the reference's limit.")] = 12_000,
    resume: Annotated[bool, typer.Option("--resume", help="target: continue the run of the reference.")] = False,
    model: Annotated[str, typer.Option(help="solve: a shipped name or a folder.")] = "addition-mlp",
    problems: Annotated[int, typer.Option(min=1, help="optimizers: problems in a batch.")] = 1000,
    collection: Annotated[
        int | None, typer.Option(min=1, help="optimizers: only so many problems of Moré, Garbow and Hillstrom.")
    ] = None,
):
    """Measure speed and memory against a plain reference that runs in turn with the library."""
    chosen = list(_MEASUREMENTS) if what == "all" else [what]
    if unknown := [name for name in chosen if name not in _MEASUREMENTS]:
        raise CommandError(f"Unknown measurement {unknown[0]!r}; choose one of: {', '.join(_MEASUREMENTS)}, all.")
    check_device(device)
    setting = Setting(size, width, batch_size=batch_size, seed=seed, device=device, compile=compile)
    options = _Options(rounds, iterations, reference_iterations, resume, model, problems, collection)
    console = Console()
    for name in chosen:
        measure, file = _MEASUREMENTS[name]
        path = (output or _FOLDER) / file if what == "all" or output is None else output
        report = Report(path, command_line(), setting)
        try:
            measure(setting, report, options, console)
        except KeyboardInterrupt:
            console.print(f"Interrupted; {path} keeps what was measured until now.", soft_wrap=True)
            raise typer.Exit(130) from None
        _show(console, report)


def _iteration(setting: Setting, report: Report, options: _Options, console: Console) -> None:
    measure_iteration(setting, report, rounds=options.rounds or 21)


def _target(setting: Setting, report: Report, options: _Options, console: Console) -> None:
    run = PlainRun(setting, _STATE)
    if options.resume:
        try:
            run.resume()
        except ValueError as error:
            raise CommandError(str(error)) from error
    measure_target(
        setting,
        report,
        run,
        iterations=options.iterations,
        reference_iterations=options.reference_iterations,
        log=lambda line: console.print(line, soft_wrap=True, highlight=False),
    )


def _solve(setting: Setting, report: Report, options: _Options, console: Console) -> None:
    measure_solving(load_model(options.model), setting, report, rounds=options.rounds or 5)


def _memory(setting: Setting, report: Report, options: _Options, console: Console) -> None:
    measure_memory(setting, report)


def _optimizers(setting: Setting, report: Report, options: _Options, console: Console) -> None:
    sizes = {"count": options.problems, "large": 10 * options.problems, "collection": options.collection}
    measure_optimizers(setting, report, rounds=options.rounds or 3, **sizes)


_MEASUREMENTS: dict[str, tuple[Callable[[Setting, Report, _Options, Console], None], str]] = {
    "iteration": (_iteration, "iteration.json"),
    "solve": (_solve, "solving.json"),
    "memory": (_memory, "memory.json"),
    "optimizers": (_optimizers, "optimizers.json"),
    "target": (_target, "target.json"),
}
"""What can be measured, with the names of the result files; the longest last."""


def _show(console: Console, report: Report) -> None:
    content = report.content
    console.print(content["title"], style="bold")
    rows = content["rows"]
    if rows:
        _print_table(console, list(rows[0]), [list(row.values()) for row in rows])
    for bound in report.bounds:
        sense = "at least" if bound.least else "at most"
        verdict = "as it should be" if bound.met else "MISSED"
        console.print(
            f"{bound.what}: {bound.value:.3g}, {sense} {bound.limit:.3g}: {verdict}", soft_wrap=True, highlight=False
        )
    console.print(f"Saved {report.path}\n", soft_wrap=True, highlight=False)


def _print_table(console: Console, headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for heading, first in zip(headings, rows[0], strict=True):
        table.add_column(heading.replace("_", " "), justify="left" if isinstance(first, str) else "right")
    for row in rows:
        table.add_row(*map(_cell, row))
    console.print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return " to ".join(map(_cell, value))
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
