"""``energysolve train``."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ..evaluation.evaluate import evaluate
from ..evaluation.report import print_evaluations
from ..presets import Domain, Preset, finished
from ..pretrained.files import CONFIG, WEIGHTS
from ..provenance import environment
from ..seeding import stream
from ..tasks import Task
from ..training import CheckpointError, Checkpoints, Constant, Cosine, NonfiniteLossError, OneCycle, Schedule
from ..training.accelerators import start_trackers
from .common import (
    CommandError,
    EnergyName,
    check_device,
    check_free_to_write,
    command_line,
    find_domain,
    task_help,
)
from .progress import ProgressBar

_EVALUATION_PROBLEMS = 1000
_SCHEDULES: dict[str, type[Schedule]] = {"one-cycle": OneCycle, "constant": Constant, "cosine": Cosine}
_COMMAND = (
    *("task", "preset", "energy", "output", "overwrite", "checkpoint_every", "keep_checkpoints", "resume", "tracker"),
    "device",
)
"""The options that are no settings of the preset."""


def train(
    task: Annotated[
        str, typer.Argument(help=task_help("; or a task of your own, package.module:Task"), metavar="TASK")
    ],
    preset: Annotated[str, typer.Option(help="paper, tuned or best; other options change its settings.")] = "tuned",
    energy: EnergyName = None,
    iterations: Annotated[int | None, typer.Option(min=1, help="Updates of the energy's parameters.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the initial weights, the problems and everything else.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Folder for the trained solver; default out/TASK.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what that folder holds.")] = False,
    checkpoint_every: Annotated[int, typer.Option(min=0, help="Iterations between checkpoints; 0: none.")] = 1000,
    keep_checkpoints: Annotated[int, typer.Option(min=1, help="How many of the newest, besides the best.")] = 2,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the latest checkpoint.")] = False,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate of Adam.")] = None,
    schedule: Annotated[
        str | None, typer.Option(help=f"Schedule of the learning rate: {', '.join(_SCHEDULES)}.")
    ] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Decoupled weight decay (AdamW).")] = None,
    clip_norm: Annotated[float | None, typer.Option(help="The largest norm of the gradient.")] = None,
    ema: Annotated[float | None, typer.Option(help="Decay of a moving average of the weights.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="New problems an iteration; as many replayed.")] = None,
    accumulate: Annotated[int | None, typer.Option(min=1, help="Batches an iteration.")] = None,
    train_steps: Annotated[int | None, typer.Option(min=1, help="Inner steps an iteration.")] = None,
    step_size: Annotated[float | None, typer.Option(help="Step size of the inner steps in training.")] = None,
    replay: Annotated[int | None, typer.Option(min=0, help="Capacity of the replay buffer; 0: none.")] = None,
    scratchpad: Annotated[int | None, typer.Option(min=0, help="Entries of a scratchpad z; 0: none.")] = None,
    precision: Annotated[str | None, typer.Option(help="no, bf16 or fp16.")] = None,
    compile: Annotated[bool | None, typer.Option("--compile/--no-compile", help="Compile the training step.")] = None,
    skip_nonfinite: Annotated[
        bool | None, typer.Option("--skip-nonfinite", help="Skip a batch whose loss is not finite.")
    ] = None,
    validate_every: Annotated[int | None, typer.Option(min=0, help="Iterations between validations; 0: none.")] = None,
    early_stopping: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many validations without a lower error.")
    ] = None,
    log_every: Annotated[int | None, typer.Option(min=1, help="Iterations between entries of trackers.")] = None,
    tracker: Annotated[list[str] | None, typer.Option(help="csv, tensorboard, ...; may be repeated.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; by default a GPU if there is one.")] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Size of the problems; by default the paper's.")] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Units of each hidden layer.")] = None,
    energy_scale: Annotated[float | None, typer.Option(help="Constant factor of the energy.")] = None,
    standardized: Annotated[
        bool | None, typer.Option("--standardized/--no-standardized", help="Standardize problems.")
    ] = None,
    start: Annotated[str | None, typer.Option(help="Initial weights and answers: paper or probes.")] = None,
    test_step_size: Annotated[float | None, typer.Option(help="Step size of the saved solver.")] = None,
    test_max_steps: Annotated[int | None, typer.Option(min=0, help="Most steps of the saved solver.")] = None,
    test_atol: Annotated[float | None, typer.Option(help="Tolerance of the saved solver, in the energy.")] = None,
    test_patience: Annotated[
        int | None, typer.Option(min=1, help="Iterates in a row within the tolerance at which it halts.")
    ] = None,
):
    """Train an energy, evaluate it once on fresh problems, and save it with its test-time settings."""
    settings = {name: value for name, value in locals().items() if name not in _COMMAND}
    own = ":" in task
    domain = find_domain(task, settings.pop("size") if own else None, energy)
    if device is not None:
        check_device(device)
    folder = output or Path("out") / domain.name
    checkpoints = Checkpoints(folder / "checkpoints", checkpoint_every, keep_checkpoints) if checkpoint_every else None
    _check_folder(folder, overwrite, resume, checkpoints)
    after = max(checkpoints.iterations(), default=0) if resume and checkpoints else 0
    try:
        chosen = _changed(domain.preset(preset), settings)
        source = domain.task_at(chosen)
        trainer, solver = chosen.prepare(
            domain.name, source, folder=folder, trackers=tuple(tracker or ()), cpu=device == "cpu", after=after
        )
    except ValueError as error:
        raise CommandError(str(error)) from error
    if tracker:
        start_trackers(trainer.accelerator, domain.name, chosen.to_json(), after)
    main = trainer.accelerator.is_main_process
    console = Console(quiet=not main)
    seconds = _fit(console, trainer, chosen.iterations, checkpoints, resume)
    trainer.accelerator.end_training()
    if main:
        about = {"task": domain.name, "preset": preset, "settings": chosen.to_json(), "seconds": round(seconds, 1)}
        about |= environment(trainer.accelerator.device.type)
        _evaluate_and_save(console, finished(trainer, solver), source, domain, folder, about, chosen.seed)


def _changed(preset: Preset, settings: dict[str, Any]) -> Preset:
    """The preset with the options that were given; a ValueError for those that it does not have."""
    name = settings["schedule"]
    if name is not None:
        if name not in _SCHEDULES:
            raise ValueError(f"Unknown schedule {name!r}; the schedules are: {', '.join(_SCHEDULES)}.")
        settings["schedule"] = _SCHEDULES[name]()
    return preset.changed(settings)


def _evaluate_and_save(
    console: Console, solver: Any, task: Task, domain: Domain, folder: Path, about: dict[str, Any], seed: int
) -> None:
    """Solve fresh problems once, print the results, and save the solver with them."""
    generator = stream(f"evaluate {domain.name}", seed)
    found = [evaluate(solver, task, name, _EVALUATION_PROBLEMS, generator) for name in task.difficulties]
    print_evaluations(console, found, domain.paper_irem, task.error_name)
    results = {"evaluation": {each.difficulty: each.summary() for each in found}}
    solver.save_pretrained(folder, training={"command": command_line(), **about, **results})
    console.print(f"\nSaved {folder / WEIGHTS} and {folder / CONFIG}", soft_wrap=True, highlight=False)


def _check_folder(folder: Path, overwrite: bool, resume: bool, checkpoints: Checkpoints | None) -> None:
    """Make the folder; a CommandError if something in it would be lost."""
    if resume and overwrite:
        raise CommandError("--resume continues what the folder holds and --overwrite deletes it: choose one.")
    if resume and checkpoints is None:
        raise CommandError("--resume needs checkpoints: leave out --checkpoint-every 0.")
    check_free_to_write(folder, (WEIGHTS, CONFIG), overwrite or resume)
    old = checkpoints.iterations() if checkpoints and not resume else []
    if checkpoints and old and not overwrite:
        raise CommandError(
            f"{checkpoints.folder} holds checkpoints of another run, the latest after iteration {old[-1]}. Continue "
            "it with --resume, start again with --overwrite, or choose another --output."
        )
    for iteration in old:
        checkpoints.path(iteration).unlink(missing_ok=True)  # pyright: ignore


def _fit(console: Console, trainer: Any, iterations: int, checkpoints: Checkpoints | None, resume: bool) -> float:
    """Train with a progress bar; returns the seconds that it took."""
    started = time.perf_counter()
    bar = ProgressBar(console)
    try:
        with bar:
            trainer.fit(iterations, callbacks=[bar], checkpoints=checkpoints, resume=resume)
    except KeyboardInterrupt:
        console.print(f"Interrupted after {bar.iteration} of {iterations} iterations; no solver was saved.")
        if bar.checkpoint:
            console.print(f"The same command with --resume continues from {bar.checkpoint}.", soft_wrap=True)
        raise typer.Exit(130) from None
    except (NonfiniteLossError, CheckpointError) as error:
        raise CommandError(str(error)) from error
    return time.perf_counter() - started
