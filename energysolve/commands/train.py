"""``energysolve train``."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ..evaluation.evaluate import evaluate
from ..evaluation.report import print_evaluations
from ..presets.catalog import Entry
from ..presets.recipes import PRESETS, Recipe, recipe_of
from ..presets.starts import STARTS
from ..presets.structured import best, train_best
from ..pretrained.files import CONFIG, WEIGHTS, save
from ..provenance import environment
from ..seeding import stream
from ..solver import EnergySolver
from ..tasks import Task
from ..training import CheckpointError, Checkpoints, Constant, Cosine, NonfiniteLossError, OneCycle, Trainer
from ..training.accelerators import start_trackers
from .common import CommandError, TaskName, check_free_to_write, command_line, entry_of
from .progress import ProgressBar

_BEST = "best"
_EVALUATION_PROBLEMS = 1000
_SCHEDULES = {"one-cycle": OneCycle, "constant": Constant, "cosine": Cosine}
_COMMAND = ("task", "preset", "output", "overwrite", "checkpoint_every", "keep_checkpoints", "resume", "tracker", "cpu")
"""The options that are no settings of the recipe."""


def train(
    task: TaskName,
    preset: Annotated[
        str, typer.Option(help=f"{', '.join(PRESETS)}, which other options change, or {_BEST}.")
    ] = "tuned",
    iterations: Annotated[int | None, typer.Option(min=1, help="Updates of the energy's parameters.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the initial weights, the problems and everything else.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder for the trained solver; default out/TASK.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what that folder holds.")] = False,
    checkpoint_every: Annotated[int, typer.Option(min=0, help="Iterations between checkpoints; 0: none.")] = 1000,
    keep_checkpoints: Annotated[int, typer.Option(min=1, help="How many of the newest, besides the best.")] = 2,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the latest checkpoint in that folder.")] = False,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate of Adam.")] = None,
    schedule: Annotated[str | None, typer.Option(help=f"Of the learning rate: {', '.join(_SCHEDULES)}.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Decoupled (AdamW).")] = None,
    clip_norm: Annotated[float | None, typer.Option(help="The largest norm of the gradient.")] = None,
    ema: Annotated[float | None, typer.Option(help="Decay of a moving average of the weights.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="New problems an iteration; as many replayed.")] = None,
    accumulate: Annotated[int | None, typer.Option(min=1, help="Batches an iteration.")] = None,
    train_steps: Annotated[int | None, typer.Option(min=1, help="Inner steps an iteration.")] = None,
    step_size: Annotated[float | None, typer.Option(help="Of the inner steps in training.")] = None,
    replay: Annotated[int | None, typer.Option(min=0, help="Capacity of the replay buffer; 0: none.")] = None,
    scratchpad: Annotated[int | None, typer.Option(min=0, help="Entries of a scratchpad z; 0: none.")] = None,
    precision: Annotated[str | None, typer.Option(help="no, bf16 or fp16.")] = None,
    compile: Annotated[bool | None, typer.Option("--compile/--no-compile", help="Compile the training step.")] = None,
    skip_nonfinite: Annotated[
        bool | None, typer.Option("--skip-nonfinite", help="Go on without a batch whose loss is not finite.")
    ] = None,
    validate_every: Annotated[int | None, typer.Option(min=0, help="Iterations between validations; 0: none.")] = None,
    early_stopping: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many validations in a row without a lower error.")
    ] = None,
    log_every: Annotated[int | None, typer.Option(min=1, help="Iterations between entries of trackers.")] = None,
    tracker: Annotated[list[str] | None, typer.Option(help="csv, tensorboard, ...; may be repeated.")] = None,
    cpu: Annotated[bool, typer.Option("--cpu", help="Stay on the CPU though there is a GPU.")] = False,
    size: Annotated[int | None, typer.Option(min=1, help="Of the problems; by default the paper's.")] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Units of each hidden layer.")] = None,
    energy_scale: Annotated[float | None, typer.Option(help="Of the energy: what it is multiplied by.")] = None,
    standardized: Annotated[
        bool | None,
        typer.Option("--standardized/--as-they-are", help="Standardize problems, or take them as they are."),
    ] = None,
    start: Annotated[str | None, typer.Option(help=f"Initial weights and answers: {', '.join(STARTS)}.")] = None,
    test_step_size: Annotated[float | None, typer.Option(help="Of the inner steps of the saved solver.")] = None,
    test_max_steps: Annotated[int | None, typer.Option(min=0, help="Of the saved solver.")] = None,
    test_atol: Annotated[float | None, typer.Option(help="Tolerance of the saved solver, in the energy.")] = None,
    test_patience: Annotated[int | None, typer.Option(min=1, help="Iterates in a row within it.")] = None,
):
    """Train an energy, evaluate it once on fresh problems, and save it with its test-time settings."""
    settings = {name: value for name, value in locals().items() if name not in _COMMAND}
    entry = entry_of(task)
    folder = output or Path("out") / task
    if preset == _BEST:
        _train_best(task, entry, settings, folder, overwrite)
        return
    checkpoints = Checkpoints(folder / "checkpoints", checkpoint_every, keep_checkpoints) if checkpoint_every else None
    _check_folder(folder, overwrite, resume, checkpoints)
    after = max(checkpoints.iterations(), default=0) if resume and checkpoints else 0
    try:
        recipe = _recipe(task, preset, settings)
        source, trainer, solver = recipe.build(
            task, entry, folder=folder, trackers=tuple(tracker or ()), cpu=cpu, after=after
        )
    except ValueError as error:
        raise CommandError(str(error)) from error
    if tracker:
        start_trackers(trainer.accelerator, task, recipe.to_json(), after)
    main = trainer.accelerator.is_main_process
    console = Console(quiet=not main)
    seconds = _fit(console, trainer, recipe.iterations, checkpoints, resume)
    trainer.accelerator.end_training()
    if not main:
        return
    solver = solver.replace(energy=trainer.trained_model).to("cpu").eval()
    about = {"task": task, "preset": preset, "settings": recipe.to_json(), "seconds": round(seconds, 1)}
    _evaluate_and_save(console, solver, source, entry, folder, about, recipe.seed)


def _train_best(task: str, entry: Entry, settings: dict[str, Any], folder: Path, overwrite: bool) -> None:
    """The preset of structured energies, whose settings are fixed."""
    given = sorted(name for name, value in settings.items() if value is not None and name != "seed")
    if given:
        raise CommandError(
            f"--{given[0].replace('_', '-')} does not go with --preset {_BEST}, whose settings are fixed; see "
            "energysolve.presets.structured to change them."
        )
    check_free_to_write(folder, (WEIGHTS, CONFIG), overwrite)
    seed = settings["seed"] or 0
    started = time.perf_counter()
    solver = train_best(task, seed)
    chosen = best(task)
    about = {"task": task, "preset": _BEST, "settings": chosen.to_json() | {"seed": seed}}
    about["seconds"] = round(time.perf_counter() - started, 1)
    _evaluate_and_save(Console(), solver, chosen.task, entry, folder, about, seed)


def _evaluate_and_save(
    console: Console, solver: EnergySolver, task: Task, entry: Entry, folder: Path, about: dict[str, Any], seed: int
) -> None:
    """Solve fresh problems once, print what came of it, and save the solver with it."""
    generator = stream(f"evaluate {about['task']}", seed)
    evaluations = [evaluate(solver, task, name, _EVALUATION_PROBLEMS, generator) for name in task.difficulties]
    print_evaluations(console, evaluations, entry.paper, entry.error)
    results = {"evaluation": {each.difficulty: each.summary() for each in evaluations}}
    save(solver, folder, training={"command": command_line(), **about, **results, **environment()})
    console.print(f"\nSaved {folder / WEIGHTS} and {folder / CONFIG}", soft_wrap=True, highlight=False)


def _recipe(task: str, preset: str, settings: dict[str, Any]) -> Recipe:
    if preset not in PRESETS:
        raise CommandError(f"Unknown preset {preset!r}; the presets are: {', '.join([*PRESETS, _BEST])}.")
    name = settings["schedule"]
    if name is not None:
        if name not in _SCHEDULES:
            raise CommandError(f"Unknown schedule {name!r}; the schedules are: {', '.join(_SCHEDULES)}.")
        settings["schedule"] = _SCHEDULES[name]()
    return recipe_of(task, preset).changed(settings)


def _check_folder(folder: Path, overwrite: bool, resume: bool, checkpoints: Checkpoints | None) -> None:
    """Make the folder; a CommandError if something in it would be lost."""
    if resume and overwrite:
        raise CommandError("--resume goes on with what the folder holds and --overwrite throws it away: choose one.")
    if resume and checkpoints is None:
        raise CommandError("--resume needs checkpoints: leave out --checkpoint-every 0.")
    check_free_to_write(folder, (WEIGHTS, CONFIG), overwrite or resume)
    old = checkpoints.iterations() if checkpoints and not resume else []
    if checkpoints and old and not overwrite:
        raise CommandError(
            f"{checkpoints.folder} holds checkpoints of another run, the latest after iteration {old[-1]}. Go on from "
            "it with --resume, begin anew with --overwrite, or choose another --output."
        )
    for iteration in old:
        checkpoints.path(iteration).unlink(missing_ok=True)  # pyright: ignore


def _fit(console: Console, trainer: Trainer, iterations: int, checkpoints: Checkpoints | None, resume: bool) -> float:
    """Train with a progress bar; returns the seconds that it took."""
    started = time.perf_counter()
    bar = ProgressBar(console)
    try:
        with bar:
            trainer.fit(iterations, callbacks=[bar], checkpoints=checkpoints, resume=resume)
    except KeyboardInterrupt:
        console.print(f"Interrupted after {bar.iteration} of {iterations} iterations; no solver was saved.")
        if bar.checkpoint:
            console.print(f"The same command with --resume goes on from {bar.checkpoint}.", soft_wrap=True)
        raise typer.Exit(130) from None
    except (NonfiniteLossError, CheckpointError) as error:
        raise CommandError(str(error)) from error
    return time.perf_counter() - started
