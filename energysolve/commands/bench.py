"""``energysolve bench``."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from typer import Argument, Option

from ..benchmarks.iteration import measure_iteration
from ..benchmarks.memory import measure_memory
from ..benchmarks.plain_run import PlainRun
from ..benchmarks.report import Report, shown
from ..benchmarks.setting import Setting
from ..benchmarks.solving import measure_solving
from ..benchmarks.target import ITERATIONS, measure_target
from ..evaluation.report import plain_table
from .common import CommandError, Device, check_device, command_errors, command_line, load_model

_FOLDER = Path("out") / "bench"
_STATE = _FOLDER / "target-reference.safetensors"
_FILES = {"iteration": "iteration.json", "solve": "solving.json", "memory": "memory.json", "target": "target.json"}
"""The result file of each measurement; the longest measurement is last."""


def bench(
    what: Annotated[str, Argument(help="iteration, target, solve, memory or all.", metavar="WHAT")] = "all",
    rounds: Annotated[int | None, Option(min=2, help="Alternating rounds; default 21, for solve 5.")] = None,
    output: Annotated[
        Path | None, Option(help="Result file, or with all a folder; default out/bench/WHAT.json.")
    ] = None,
    device: Device = "cpu",
    seed: Annotated[int, Option(help="Seed of weights and problems.")] = 0,
    size: Annotated[int, Option(min=1, help="Size of the training problems.")] = 400,
    width: Annotated[int, Option(min=1, help="Units of each hidden layer.")] = 512,
    batch_size: Annotated[int, Option(min=1, help="New problems per iteration; as many are replayed.")] = 128,
    compile: Annotated[bool, Option("--compile/--no-compile", help="Measure compiled training.")] = True,
    iterations: Annotated[int, Option(min=2, help="target: number of our iterations.")] = ITERATIONS,
    reference_iterations: Annotated[int, Option(min=1, help="target: the most iterations of the reference.")] = 12_000,
    resume: Annotated[bool, Option("--resume", help="target: resume the run of the reference.")] = False,
    model: Annotated[str, Option(help="solve: a shipped name, a folder or a hub id.")] = "addition-mlp",
):
    """Measure speed and memory against a plain reference that runs alternately with the library."""
    if what not in (*_FILES, "all"):
        raise CommandError(f"Unknown measurement {what!r}; choose one of: {', '.join(_FILES)}, all.")
    check_device(device)
    setting = Setting(size, width, batch_size=batch_size, seed=seed, device=device, compile=compile)
    console = Console()

    def log(line: str) -> None:
        console.print(line, soft_wrap=True, highlight=False)

    def target(report: Report) -> None:
        run = PlainRun(setting, _STATE)
        if resume:
            with command_errors(ValueError):
                run.resume()
        limits = {"iterations": iterations, "reference_iterations": reference_iterations}
        measure_target(setting, report, run, **limits, log=log)

    measurements: dict[str, Callable[[Report], None]] = {
        "iteration": lambda report: measure_iteration(setting, report, rounds=rounds or 21),
        "solve": lambda report: measure_solving(load_model(model), setting, report, rounds=rounds or 5),
        "memory": lambda report: measure_memory(setting, report),
        "target": target,
    }
    for name in _FILES if what == "all" else [what]:
        path = (output or _FOLDER) / _FILES[name] if what == "all" or output is None else output
        report = Report(path, command_line(), setting)
        try:
            measurements[name](report)
        except KeyboardInterrupt:
            log(f"Interrupted; {path} keeps what was measured so far.")
            raise typer.Exit(130) from None
        _show(console, report)


def _show(console: Console, report: Report) -> None:
    console.print(report.content["title"], style="bold")
    rows = report.content["rows"]
    if rows:
        table = plain_table()
        for heading, first in rows[0].items():
            table.add_column(heading.replace("_", " "), justify="left" if isinstance(first, str) else "right")
        for row in rows:
            table.add_row(*map(shown, row.values()))
        console.print(table)
    lines = [
        f"{bound.what}: {bound.value:.3g}, {'at least' if bound.least else 'at most'} {bound.limit:.3g}: "
        f"{'met' if bound.met else 'MISSED'}"
        for bound in report.bounds
    ]
    console.print("\n".join([*lines, f"Saved {report.path}\n"]), soft_wrap=True, highlight=False)
