"""``energysolve solve``."""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..energies.mlp import MLPEnergy
from ..evaluation.evaluate import Evaluation, evaluate
from ..evaluation.report import comparison, print_evaluations
from ..files import write_atomic
from ..presets.catalog import Entry
from ..presets.resizing import fitted
from ..pretrained.files import read_config
from ..pretrained.hub import locate
from ..provenance import environment
from ..seeding import stream
from ..solver import EnergySolver
from ..streaming.problems import open_problems
from ..streaming.solve import Summary, solve_file
from ..tasks import Task
from .common import CommandError, TaskName, command_line, entry_of, load_model

_PROBLEMS = 1000
_CHUNK = 1024


def solve(
    task: TaskName,
    problems: Annotated[
        int | None, typer.Option(min=1, help="Fresh problems of each difficulty; default 1000.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the problems and the initial answers.")] = 0,
    model: Annotated[str | None, typer.Option(help="A shipped name or a folder; by default the task's own.")] = None,
    max_steps: Annotated[int | None, typer.Option(min=0, help="In place of the model's.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for figure and numbers, default out/solve-TASK; with --input an .npz or .csv file."),
    ] = None,
    input: Annotated[Path | None, typer.Option(help="Problems to solve: an .npz, .npy or .csv file.")] = None,
    chunk: Annotated[
        int | None, typer.Option(min=1, help="Of --input, problems solved together; default 1024.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run over --input.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the answers to --input.")] = False,
):
    """Solve problems with a trained energy: those of a file, or fresh ones to see how well and how fast it does."""
    misplaced = {"--problems": problems is not None and input is not None} | {
        name: given and input is None
        for name, given in {"--chunk": chunk is not None, "--resume": resume, "--overwrite": overwrite}.items()
    }
    for name in (name for name, wrong in misplaced.items() if wrong):
        raise CommandError(f"{name} {'does not go with' if input else 'goes with'} --input, a file of problems.")
    if input is not None and output is None:
        raise CommandError("With --input, name a file for the answers: --output answers.npz, or answers.csv.")
    entry = entry_of(task)
    solver, source = load_model(model or task, entry, max_steps)
    if input is None or output is None:
        folder = output or Path("out") / f"solve-{task}"
        _solve_fresh(task, entry, model or task, solver, source, problems or _PROBLEMS, seed, folder)
    else:
        options = {"chunk": chunk or _CHUNK, "seed": seed, "resume": resume, "overwrite": overwrite}
        _solve_file(_for_files(task, solver, source, input), input, output, options)


def _solve_fresh(
    task: str,
    entry: Entry,
    model: str,
    solver: EnergySolver,
    source: Task,
    problems: int,
    seed: int,
    folder: Path,
) -> None:
    # Drawing with matplotlib takes a second to import, which the other commands need not wait for.
    from ..evaluation.figures import save_figure

    folder.mkdir(parents=True, exist_ok=True)
    console = Console()
    console.print(f"{entry.title}: {problems} fresh problems of each difficulty, seed {seed}, model {model}")
    console.print(
        f"{solver.optimizer}, {solver.halting}, at most {solver.max_steps} steps\n", soft_wrap=True, highlight=False
    )
    generator = stream(f"solve {task}", seed)
    started = time.perf_counter()
    evaluations = [evaluate(solver, source, difficulty, problems, generator) for difficulty in source.difficulties]
    seconds = time.perf_counter() - started
    print_evaluations(console, evaluations, entry.paper, entry.error)
    title = f"{entry.title}, {problems:,} fresh problems of each difficulty"
    paths = save_figure(folder, evaluations, entry.paper, title, entry.error)
    result = _solve_result(task, entry, evaluations, model)
    result |= {"seed": seed, "max_steps": solver.max_steps, "seconds": round(seconds, 2)} | environment()
    write_atomic(folder / "result.json", (json.dumps(result, indent=1, allow_nan=False) + "\n").encode())
    saved = ", ".join(map(str, [*paths, folder / "result.json"]))
    console.print(f"\nSaved {saved} ({seconds:.1f} s)", soft_wrap=True, highlight=False)


def _solve_result(task: str, entry: Entry, evaluations: list[Evaluation], model: str) -> dict[str, Any]:
    config = read_config(locate(model))
    return {
        "kind": "solve",
        "task": task,
        "title": entry.title,
        "command": command_line(),
        "model": {"name": model, "sha256": config["weights"]["sha256"], "solver": config["solver"]},
        "paper": dict(entry.paper),
        "difficulties": {each.difficulty: each.to_json() for each in evaluations},
        "comparison": comparison(evaluations),
    }


def _for_files(task: str, solver: EnergySolver, source: Task, input: Path) -> EnergySolver:
    # A compiled step cannot be compact.
    solver = solver.suited(source).replace(compact=not solver.compile)
    if isinstance(solver.energy, MLPEnergy):
        return solver
    try:
        return fitted(task, solver, open_problems(input).row_shape)
    except ValueError as error:
        raise CommandError(f"{input}: {error}") from error


def _solve_file(solver: EnergySolver, input: Path, output: Path, options: dict[str, Any]) -> None:
    console = Console()
    bar = _Bar(console)
    try:
        summary = solve_file(solver, input, output, progress=bar, **options)
    except KeyboardInterrupt:
        bar.stop()
        console.print(f"Interrupted after {bar.done:,} problems, which are kept. Go on with --resume.", soft_wrap=True)
        raise typer.Exit(130) from None
    except ValueError as error:
        raise CommandError(str(error)) from error
    finally:
        bar.stop()
    console.print(f"{_told(summary)}\nSaved {output}", soft_wrap=True, highlight=False)


def _told(summary: Summary) -> str:
    here = summary.problems - summary.resumed
    before = f" and {summary.resumed:,} before" if summary.resumed else ""
    return (
        f"Solved {here:,} problems{before} ({summary.seconds:.1f} s): {summary.converged:,} converged, "
        f"{summary.max_steps:,} used up their steps, {summary.nonfinite:,} met a NaN or an infinity"
    )


class _Bar:
    """A progress bar that appears with the first report and counts the speed from there."""

    def __init__(self, console: Console):
        speed = TextColumn("{task.fields[speed]} problems/s")
        self._progress = Progress(
            TextColumn("solving"), BarColumn(), MofNCompleteColumn(), speed, TimeRemainingColumn(), console=console
        )
        self.done = 0

    def __call__(self, done: int, total: int) -> None:
        if not self._progress.tasks:
            self._begun, self._first = time.perf_counter(), done
            self._progress.start()
            self._progress.add_task("solving", total=total, completed=done, speed="-")
        elif done:
            speed = (done - self._first) / (time.perf_counter() - self._begun)
            self._progress.update(self._progress.tasks[0].id, completed=done, speed=f"{speed:,.0f}")
        self.done = done

    def stop(self) -> None:
        if self._progress.live.is_started:
            self._progress.stop()
