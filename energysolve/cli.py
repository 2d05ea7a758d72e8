"""The ``energysolve`` command."""

import json
import shlex
import sys
import time
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from .experiments.catalog import TASKS, Entry
from .experiments.environment import environment
from .experiments.evaluation import Evaluation, evaluate, stream
from .experiments.recipes import Recipe
from .experiments.report import comparison, print_evaluations
from .pretrained.files import CONFIG, WEIGHTS, find, names, read_config, save, write_whole
from .solver import EnergySolver
from .tasks import Task
from .training import Trainer
from .training.trainer import NonfiniteLossError

app = typer.Typer(
    name="energysolve",
    help="Reasoning by energy minimization.",
    add_completion=False,
    rich_markup_mode=None,
)
_EVALUATION_PROBLEMS = 1000


class _CommandError(Exception):
    """An error to be told in one line."""

    exit_code = 1

    def format_message(self) -> str:
        return " ".join(str(self).split())


TaskName = Annotated[str, typer.Argument(help=f"One of: {', '.join(TASKS)}.", metavar="TASK")]


@app.command()
def solve(
    task: TaskName,
    problems: Annotated[int, typer.Option(min=1, help="Fresh problems of each difficulty.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the problems and the initial answers.")] = 0,
    model: Annotated[str | None, typer.Option(help="A shipped name or a folder; by default the task's own.")] = None,
    max_steps: Annotated[int | None, typer.Option(min=0, help="In place of the model's.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder for figure and numbers; default out/solve-TASK.")] = None,
):
    """Solve fresh problems with a trained energy: error against steps, convergence, distribution of steps."""
    from .experiments.figure import (
        save_figure,
    )  # matplotlib takes a second to import, which the other commands need not wait for

    entry = _entry(task)
    solver, source = _load(model or task, entry, max_steps)
    folder = output or Path("out") / f"solve-{task}"
    folder.mkdir(parents=True, exist_ok=True)
    console = Console()
    console.print(f"{entry.title}: {problems} fresh problems of each difficulty, seed {seed}, model {model or task}")
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
    result = _solve_result(task, entry, evaluations, model or task)
    result |= {"seed": seed, "max_steps": solver.max_steps, "seconds": round(seconds, 2)} | environment()
    write_whole(folder / "result.json", (json.dumps(result, indent=1, allow_nan=False) + "\n").encode())
    saved = ", ".join(map(str, [*paths, folder / "result.json"]))
    console.print(f"\nSaved {saved} ({seconds:.1f} s)", soft_wrap=True, highlight=False)


@app.command()
def train(
    task: TaskName,
    iterations: Annotated[int, typer.Option(min=1, help="Updates of the energy's parameters.")] = 6000,
    seed: Annotated[int, typer.Option(help="Of the initial weights, the problems and everything else.")] = 0,
    output: Annotated[Path | None, typer.Option(help="Folder for the trained solver; default out/TASK.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a trained solver in that folder.")] = False,
    lr: Annotated[float, typer.Option(help="Highest learning rate of Adam (one-cycle schedule).")] = 1e-3,
    batch_size: Annotated[int, typer.Option(min=1, help="New problems an iteration; as many are replayed.")] = 128,
    train_steps: Annotated[int, typer.Option(min=1, help="Inner steps an iteration.")] = 5,
    step_size: Annotated[float, typer.Option(help="Of the inner steps in training.")] = 100.0,
    replay: Annotated[int, typer.Option(min=0, help="Capacity of the replay buffer; 0 for none.")] = 10_000,
    scratchpad: Annotated[int, typer.Option(min=0, help="Entries of a scratchpad z; 0 for none.")] = 0,
    size: Annotated[int | None, typer.Option(min=1, help="Of the problems; by default the paper's.")] = None,
    width: Annotated[int, typer.Option(min=1, help="Units of each hidden layer.")] = 512,
    test_step_size: Annotated[float, typer.Option(help="Of the inner steps of the saved solver.")] = 20.0,
    test_max_steps: Annotated[int, typer.Option(min=0, help="Of the saved solver.")] = 300,
    test_atol: Annotated[float, typer.Option(help="Tolerance of the saved solver, in units of the energy.")] = 1e-5,
    test_patience: Annotated[int, typer.Option(min=1, help="Iterates in a row within that tolerance.")] = 2,
):
    """Train an energy, evaluate it once on fresh problems, and save it with its test-time settings."""
    options = dict(locals())  # those of the recipe have the names of its fields
    entry = _entry(task)
    folder = output or Path("out") / task
    _check_free_to_write(folder, overwrite)
    options["size"] = size or entry.size
    recipe = Recipe(**{field.name: options[field.name] for field in fields(Recipe)})
    try:
        source, trainer, solver = recipe.build(task, entry)
    except ValueError as error:
        raise _CommandError(str(error)) from error
    console = Console()
    seconds = _fit(console, trainer, iterations)
    solver.eval()
    generator = stream(f"evaluate {task}", seed)
    evaluations = [evaluate(solver, source, name, _EVALUATION_PROBLEMS, generator) for name in source.difficulties]
    print_evaluations(console, evaluations, entry.paper, entry.error)
    save(solver, folder, training=_training_metadata(task, recipe, seconds, evaluations))
    console.print(f"\nSaved {folder / WEIGHTS} and {folder / CONFIG}", soft_wrap=True, highlight=False)


@app.command()
def info():
    """Show versions, devices, and the trained energies that come with the library."""
    console = Console()
    about = environment()
    console.print("  ".join(f"{name} {number}" for name, number in about["versions"].items()), highlight=False)
    cuda = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    hardware = about["hardware"]
    console.print(
        f"CPU: {hardware['cpu']}, {hardware['cores']} cores, torch threads: {hardware['threads']}", highlight=False
    )
    console.print(f"CUDA: {', '.join(cuda) or 'not available'}", highlight=False)
    if not names():
        console.print("No trained energies come with this installation.")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for heading in ("name", "energy", "parameters", "iterations", "seed", "trained on", "error"):
        table.add_column(heading, justify="right" if heading in ("parameters", "iterations", "seed") else "left")
    for name in names():
        table.add_row(name, *_facts(name))
    console.print("\nTrained energies", style="bold")
    console.print(table)


def _facts(name: str) -> tuple[str, ...]:
    energy = EnergySolver.from_pretrained(name).energy
    count = sum(parameter.numel() for parameter in energy.parameters())  # pyright: ignore
    training = read_config(find(name)).get("training", {})
    settings = training.get("settings", {})
    errors = {key: numbers["error"] for key, numbers in training.get("evaluation", {}).items()}
    shown = "\n".join(f"{key} {'-' if error is None else f'{error:.1e}'}" for key, error in errors.items())
    known = (settings.get("iterations", "-"), settings.get("seed", "-"), training.get("date", "-")[:10])
    return type(energy).__name__, f"{count:,}", *map(str, known), shown or "-"


def main(arguments: list[str] | None = None) -> None:
    """Run the command and exit; an error is one line on stderr."""
    try:
        arguments = sys.argv[1:] if arguments is None else arguments
        code = app(args=arguments or ["--help"], prog_name="energysolve", standalone_mode=False)
    except OSError as error:
        _fail(f"{error.strerror or error}: {error.filename}" if error.filename else str(error), 1)
    except Exception as error:
        # Usage errors of typer, whichever module it keeps them in, are told like our own.
        if not hasattr(error, "format_message"):
            raise
        _fail(error.format_message(), error.exit_code)  # pyright: ignore
    else:
        sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> None:
    sys.stderr.write(f"energysolve: {' '.join(message.split())}\n")
    sys.exit(code)


def _entry(task: str) -> Entry:
    if task not in TASKS:
        raise _CommandError(f"Unknown task {task!r}; the tasks are: {', '.join(TASKS)}.")
    return TASKS[task]


def _load(model: str, entry: Entry, max_steps: int | None) -> tuple[EnergySolver, Task]:
    try:
        solver = EnergySolver.from_pretrained(model)
        source = entry.task_of(solver.energy)
    except (FileNotFoundError, ValueError) as error:
        raise _CommandError(f"Cannot load the model {model}: {error}") from error
    return (solver if max_steps is None else solver.replace(max_steps=max_steps)), source


def _check_free_to_write(folder: Path, overwrite: bool) -> None:
    existing = [name for name in (WEIGHTS, CONFIG) if (folder / name).exists()]
    if existing and not overwrite:
        raise _CommandError(
            f"{folder} already holds {' and '.join(existing)}. Choose another --output, or pass --overwrite."
        )
    folder.mkdir(parents=True, exist_ok=True)  # now, rather than fail after hours of training


def _fit(console: Console, trainer: Trainer, iterations: int) -> float:
    """Train with a progress bar; returns the seconds that it took."""
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}"),
        TimeRemainingColumn(),
    )
    started = time.perf_counter()
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("training", total=iterations, loss="-")
        try:
            trainer.fit(iterations, lambda at: progress.update(bar, advance=1, loss=f"{at.loss.item():.2e}"))
        except KeyboardInterrupt:
            done = int(progress.tasks[0].completed)
            progress.stop()
            console.print(f"Interrupted after {done} of {iterations} iterations; nothing was saved.")
            raise typer.Exit(130) from None
        except NonfiniteLossError as error:
            raise _CommandError(str(error)) from error
    return time.perf_counter() - started


def _solve_result(task: str, entry: Entry, evaluations: list[Evaluation], model: str) -> dict[str, Any]:
    config = read_config(find(model))
    return {
        "kind": "solve",
        "task": task,
        "title": entry.title,
        "command": _command(),
        "model": {"name": model, "sha256": config["weights"]["sha256"], "solver": config["solver"]},
        "paper": dict(entry.paper),
        "difficulties": {each.difficulty: each.to_json() for each in evaluations},
        "comparison": comparison(evaluations),
    }


def _training_metadata(task: str, recipe: Recipe, seconds: float, evaluations: list[Evaluation]) -> dict[str, Any]:
    return {
        "task": task,
        "command": _command(),
        "settings": asdict(recipe),
        "seconds": round(seconds, 1),
        "evaluation": {each.difficulty: each.summary() for each in evaluations},
        **environment(),
    }


def _command() -> str:
    return shlex.join(["energysolve", *sys.argv[1:]])


if __name__ == "__main__":
    main()
