"""``energysolve solve``."""

import time
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from typer import Argument, Option

from ..evaluation.evaluate import evaluate
from ..evaluation.report import comparison, print_evaluations
from ..files import write_json
from ..presets import Domain, FileJob, domain_of
from ..pretrained.files import read_config
from ..pretrained.hub import locate
from ..provenance import environment
from ..seeding import stream
from ..solver import EnergySolver
from ..streaming.problems import ProblemFile, TableFile, open_problems
from ..streaming.solve import solve_file
from ..tasks import Task
from .common import CommandError, Device, EnergyName, command_errors, command_line, find_domain, load_model, task_help
from .options import check_options, with_file_options
from .summary import in_words
from .tables import complete_file

_CHUNK = 1024


@with_file_options
def solve(
    task: Annotated[
        str | None, Argument(help=task_help("; not needed with --model and --input"), metavar="[TASK]")
    ] = None,
    problems: Annotated[
        int | None, Option(min=1, help="Fresh problems per difficulty; default 1000, fewer for images.")
    ] = None,
    seed: Annotated[int, Option(help="Seed of the problems and the initial answers.")] = 0,
    model: Annotated[
        str | None, Option(help="A shipped name, a folder or a hub id; by default the task's name.")
    ] = None,
    energy: EnergyName = None,
    max_steps: Annotated[int | None, Option(min=0, help="Maximum number of steps; by default the model's.")] = None,
    device: Device = "cpu",
    output: Annotated[
        Path | None, Option(help="Folder for results, default out/solve-TASK; with --input a file for the answers.")
    ] = None,
    input: Annotated[
        str | None,
        Option(
            help="Problems to solve: an .npz, .npy, .csv, .parquet or .arrow file, a folder of .parquet files, or an "
            "address such as s3://...; or a file of the task's own kind, such as a graph or an image.",
            metavar="FILE",
        ),
    ] = None,
    chunk: Annotated[int | None, Option(min=1, help="Problems of --input to solve together; default 1024.")] = None,
    resume: Annotated[bool, Option("--resume", help="Continue an interrupted run over --input.")] = False,
    overwrite: Annotated[bool, Option("--overwrite", help="Replace existing answers to --input.")] = False,
    header: Annotated[
        bool | None, Option("--header/--no-header", help="Whether the first line of a .csv file holds names.")
    ] = None,
    index: Annotated[
        bool | None, Option("--index/--no-index", help="Whether the first column of a .csv file holds names.")
    ] = None,
    keep: Annotated[
        list[str] | None,
        Option(help="A column to pass on beside the answers; repeat it for several. A .parquet file passes on all."),
    ] = None,
    columns: Annotated[
        list[str] | None, Option(help="A column of a .parquet or .arrow file that holds the problems; repeatable.")
    ] = None,
    engine: Annotated[
        str | None, Option(help="What solves --input: plain, this process (the default), or ray, many workers.")
    ] = None,
    address: Annotated[
        str | None, Option(help="A Ray cluster, such as auto or ray://head:10001; by default a new one, here.")
    ] = None,
    workers: Annotated[int | None, Option(min=1, help="Workers of --engine ray; by default one a core or GPU.")] = None,
    table: Annotated[
        bool, Option("--table", help="Completion: --input is one table, with empty fields or NaN for what is missing.")
    ] = False,
    *,
    own: dict[str, Any],
):
    """Solve problems with a trained energy: those in a file, or fresh ones to measure errors and steps."""
    given = {"--chunk": chunk, "--resume": resume or None, "--overwrite": overwrite or None, "--table": table or None}
    given |= {"--header": header, "--index": index, "--keep": keep or None, "--columns": columns or None}
    given |= {"--engine": engine, "--address": address, "--workers": workers}
    own = {name: value for name, value in own.items() if value is not None}
    given |= {f"--{name}": value for name, value in own.items()}
    given = [name for name, value in given.items() if value is not None]
    _check_input(input, given, problems)
    if input is not None and output is None:
        raise CommandError("With --input, name a file for the answers: --output answers.npz, or answers.csv.")
    domain = None if task is None else find_domain(task)
    name = model or (domain.name if domain else None)
    if name is None:
        raise CommandError("Name a task, or a trained model with --model.")
    chosen = _engine(engine, address, workers, device)
    solver = load_model(name, energy, "cpu" if chosen else device)  # the workers have their own devices
    solver = solver if max_steps is None else solver.replace(max_steps=max_steps)
    domain = domain or domain_of(solver)
    with command_errors(ValueError, prefix=f"Cannot load the model {name}: "):
        source = None if domain is None else domain.task_of(solver)
    if input is not None and output is not None:
        if domain is not None and domain.solve_file is not None:
            generator = torch.Generator(next(solver.parameters()).device).manual_seed(seed)
            job = FileJob(Path(input), output, generator, overwrite, own)
            _solve_own_file(domain, solver, job, given)
            return
        check_options((), own, domain.name if domain else name)
        with command_errors(ValueError, ImportError):
            opened = open_problems(
                input, header=header, index=index, missing=table, keep=keep or None, columns=columns or None
            )
        if table:
            _complete(solver, opened, output, seed, overwrite, given)
            return
        options = {"chunk": chunk or _CHUNK, "seed": seed, "resume": resume, "overwrite": overwrite, "engine": chosen}
        _solve_file(solver, domain, source, opened, output, options)
    elif domain is None or source is None:
        raise CommandError(f"The model {name} belongs to no known task: name a TASK, or pass a file as --input.")
    else:
        folder = output or Path("out") / f"solve-{domain.name}"
        _solve_fresh(domain, name, solver, source, problems or domain.problems, seed, folder, device)


def _engine(name: str | None, address: str | None, workers: int | None, device: str) -> Any:
    """The engine of this name; None for this process."""
    if name not in (None, "plain", "ray"):
        raise CommandError(f"No engine {name!r}: --engine is plain or ray.")
    if name != "ray":
        if address or workers:
            raise CommandError(f"{'--address' if address else '--workers'} goes with --engine ray.")
        return None
    if device not in ("cpu", "cuda"):
        raise CommandError(f"No device {device!r}: --device is cpu or cuda.")
    try:
        from ..streaming.cluster import Ray
    except ImportError as error:
        raise CommandError("--engine ray needs Ray: pip install 'energysolve[ray]'.") from error
    return Ray(address, workers, device)


def _check_input(input: str | None, given: list[str], problems: int | None) -> None:
    """Raise an error for options that go with ``--input`` without it, or the other way round."""
    misplaced = given if input is None else [] if problems is None else ["--problems"]
    for name in misplaced:
        raise CommandError(f"{name} {'does not go with' if input else 'goes with'} --input, a file of problems.")


def _solve_fresh(
    domain: Domain, model: str, solver: EnergySolver, source: Task, problems: int, seed: int, folder: Path, device: str
) -> None:
    # Imported on demand: matplotlib takes a second to import.
    from ..evaluation.figures import save_figure

    folder.mkdir(parents=True, exist_ok=True)
    console = Console()
    console.print(f"{domain.title}: {problems} fresh problems of each difficulty, seed {seed}, model {model}")
    console.print(
        f"{solver.optimizer}, {solver.halting}, at most {solver.max_steps} steps\n", soft_wrap=True, highlight=False
    )
    generator = stream(f"solve {domain.name}", seed, device)
    started = time.perf_counter()
    found = [evaluate(solver, source, difficulty, problems, generator) for difficulty in source.difficulties]
    seconds = time.perf_counter() - started
    print_evaluations(console, found, domain.paper_irem, source.error_name)
    title = f"{domain.title}, {problems:,} fresh problems of each difficulty"
    paths = save_figure(folder, found, domain.paper_irem, title, source.error_name)
    config = read_config(locate(model))
    result = {
        "kind": "solve",
        "task": domain.name,
        "title": domain.title,
        "command": command_line(),
        "model": {"name": model, "sha256": config["weights"]["sha256"], "solver": config["solver"]},
        "paper": dict(domain.paper_irem),
        "difficulties": {each.difficulty: each.to_json() for each in found},
        "comparison": comparison(found),
        "seed": seed,
        "max_steps": solver.max_steps,
        "seconds": round(seconds, 2),
    }
    write_json(folder / "result.json", result | environment(device))
    saved = ", ".join(map(str, [*paths, folder / "result.json"]))
    console.print(f"\nSaved {saved} ({seconds:.1f} s)", soft_wrap=True, highlight=False)


def _solve_file(
    solver: EnergySolver,
    domain: Domain | None,
    source: Task | None,
    problems: ProblemFile,
    output: Path,
    options: dict[str, Any],
) -> None:
    if not problems.rows:
        named = isinstance(problems, TableFile) and problems.names
        hint = " Its only line was taken for names, since it holds no number between commas." if named else ""
        raise CommandError(f"{problems.path} holds no problems.{hint}")
    solver = solver.replace(compact=not solver.compile)  # a compiled step cannot be compact
    console = Console()
    console.print(_read(problems), soft_wrap=True, highlight=False)
    bar, measures = _Bar(console), {}
    try:
        with command_errors(ValueError, ConnectionError, ImportError):
            if domain is not None and source is not None:
                with command_errors(ValueError, prefix=f"{problems.path}: "):
                    solver = domain.at_size(solver.suited(source), problems.row_shape)
                measures = domain.checks(solver)
            with _errors_of_energy(solver, domain, problems):
                summary = solve_file(solver, problems, output, progress=bar, measures=measures, **options)
    except KeyboardInterrupt:
        bar.stop()
        console.print(
            f"Interrupted after {bar.done:,} problems, which are kept. Continue with --resume.", soft_wrap=True
        )
        raise typer.Exit(130) from None
    finally:
        bar.stop()
    lines = in_words(summary, solver)
    console.print("\n".join([*lines, f"Saved {output}"]), soft_wrap=True, highlight=False)
    if not summary.converged + summary.stalled:
        raise typer.Exit(1)


def _errors_of_energy(
    solver: EnergySolver, domain: Domain | None, problems: ProblemFile
) -> AbstractContextManager[None]:
    """Says which file a user's energy fails on; it may not be made for problems of that shape."""
    kinds = (RuntimeError, IndexError, TypeError) if domain is None else ()
    name, shape = type(solver.energy).__name__, tuple(problems.row_shape)
    return command_errors(*kinds, prefix=f"{problems.path}: the energy {name} failed on problems of shape {shape}: ")


def _complete(
    solver: EnergySolver, opened: ProblemFile, output: Path, seed: int, overwrite: bool, given: list[str]
) -> None:
    for name in ("--resume", "--chunk", "--engine", "--keep", "--columns"):
        if name in given:
            raise CommandError(f"A table is solved at once, as a whole: leave out {name}.")
    complete_file(solver, opened, output, seed, overwrite)


def _solve_own_file(domain: Domain, solver: EnergySolver, job: FileJob, given: list[str]) -> None:
    """Solve a file of the domain's own kind, which holds one problem."""
    check_options(domain.file_options, job.options, domain.name)
    for name in given:
        if name != "--overwrite" and name.removeprefix("--") not in job.options:
            raise CommandError(f"{name} is for files of many problems; a file of {domain.name} holds one.")
    if job.output.is_file() and not job.overwrite:
        raise CommandError(f"{job.output} exists. Choose another --output, or pass --overwrite.")
    assert domain.solve_file is not None
    console = Console()
    bar = _Bar(console, "parts")
    try:
        with command_errors(ValueError, FileNotFoundError, ImportError):
            said, paths = domain.solve_file(solver, replace(job, progress=bar))
    finally:
        bar.stop()
    saved = ", ".join(map(str, [job.output, *paths]))
    console.print(f"{said}\nSaved {saved}", soft_wrap=True, highlight=False)


def _read(problems: ProblemFile) -> str:
    shape = " x ".join(map(str, problems.row_shape))
    line = f"Read {problems.rows:,} problem{'s' * (problems.rows != 1)} of {shape} numbers from {problems.path}"
    if isinstance(problems, TableFile):
        line += "; its first line " + ("is a problem" if problems.names is None else "holds the names of the columns")
    return f"{line}."


class _Bar:
    """A progress bar that appears with the first report and measures the speed from there."""

    def __init__(self, console: Console, unit: str = "problems"):
        speed = TextColumn(f"{{task.fields[speed]}} {unit}/s")
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
            shown = f"{speed:,.0f}" if speed >= 10 else f"{speed:.2g}"
            self._progress.update(self._progress.tasks[0].id, completed=done, total=total, speed=shown)
        self.done = done

    def stop(self) -> None:
        if self._progress.live.is_started:
            self._progress.stop()
