"""``energysolve train``."""

import time
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..experiments.environment import environment
from ..experiments.evaluation import Evaluation, evaluate, stream
from ..experiments.recipes import Recipe
from ..experiments.report import print_evaluations
from ..pretrained.files import CONFIG, WEIGHTS, save
from ..training import Trainer
from ..training.trainer import NonfiniteLossError
from .common import CommandError, TaskName, check_free_to_write, command_line, entry_of

_EVALUATION_PROBLEMS = 1000


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
    entry = entry_of(task)
    folder = output or Path("out") / task
    check_free_to_write(folder, (WEIGHTS, CONFIG), overwrite)
    options["size"] = size or entry.size
    recipe = Recipe(**{field.name: options[field.name] for field in fields(Recipe)})
    try:
        source, trainer, solver = recipe.build(task, entry)
    except ValueError as error:
        raise CommandError(str(error)) from error
    console = Console()
    seconds = _fit(console, trainer, iterations)
    solver.eval()
    generator = stream(f"evaluate {task}", seed)
    evaluations = [evaluate(solver, source, name, _EVALUATION_PROBLEMS, generator) for name in source.difficulties]
    print_evaluations(console, evaluations, entry.paper, entry.error)
    save(solver, folder, training=_training_metadata(task, recipe, seconds, evaluations))
    console.print(f"\nSaved {folder / WEIGHTS} and {folder / CONFIG}", soft_wrap=True, highlight=False)


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
            raise CommandError(str(error)) from error
    return time.perf_counter() - started


def _training_metadata(task: str, recipe: Recipe, seconds: float, evaluations: list[Evaluation]) -> dict[str, Any]:
    return {
        "task": task,
        "command": command_line(),
        "settings": asdict(recipe),
        "seconds": round(seconds, 1),
        "evaluation": {each.difficulty: each.summary() for each in evaluations},
        **environment(),
    }
