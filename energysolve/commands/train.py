"""``energysolve train``."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer import Argument, Option

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
    command_errors,
    command_line,
    find_domain,
    task_help,
)

_SCHEDULES: dict[str, type[Schedule]] = {"one-cycle": OneCycle, "constant": Constant, "cosine": Cosine}
_CHECKPOINTING = ("checkpoint_every", "keep_checkpoints", "resume")
_COMMAND = ("task", "preset", "energy", "output", "overwrite", "tracker", "device", "data", *_CHECKPOINTING)
"""The options that are not settings of the preset."""


def train(
    task: Annotated[str, Argument(help=task_help("; or a custom task, package.module:Task"), metavar="TASK")],
    preset: Annotated[str, Option(help="paper, tuned or best; other options change its settings.")] = "tuned",
    energy: EnergyName = None,
    iterations: Annotated[int | None, Option(min=1, help="Number of parameter updates.")] = None,
    seed: Annotated[int | None, Option(help="Seed of all random numbers.")] = None,
    output: Annotated[Path | None, Option(help="Folder for the trained solver; default out/TASK.")] = None,
    overwrite: Annotated[bool, Option("--overwrite", help="Replace the contents of that folder.")] = False,
    checkpoint_every: Annotated[int, Option(min=0, help="Iterations between checkpoints; 0: none.")] = 1000,
    keep_checkpoints: Annotated[int, Option(min=1, help="Latest checkpoints to keep, besides the best.")] = 2,
    resume: Annotated[bool, Option("--resume", help="Continue from the latest checkpoint.")] = False,
    lr: Annotated[float | None, Option(help="Highest learning rate of Adam.")] = None,
    schedule: Annotated[str | None, Option(help=f"Schedule of the learning rate: {', '.join(_SCHEDULES)}.")] = None,
    weight_decay: Annotated[float | None, Option(help="Decoupled weight decay (AdamW).")] = None,
    clip_norm: Annotated[float | None, Option(help="Maximum norm of the gradient.")] = None,
    ema: Annotated[float | None, Option(help="Decay rate of a moving average of the weights.")] = None,
    batch_size: Annotated[int | None, Option(min=1, help="New problems per iteration; as many are replayed.")] = None,
    accumulate: Annotated[int | None, Option(min=1, help="Batches per iteration.")] = None,
    train_steps: Annotated[int | None, Option(min=1, help="Inner steps per iteration.")] = None,
    step_size: Annotated[float | None, Option(help="Step size of the inner steps in training.")] = None,
    replay: Annotated[int | None, Option(min=0, help="Capacity of the replay buffer; 0: none.")] = None,
    scratchpad: Annotated[int | None, Option(min=0, help="Number of entries of a scratchpad z; 0: none.")] = None,
    precision: Annotated[str | None, Option(help="Mixed precision: no, bf16 or fp16.")] = None,
    compile: Annotated[bool | None, Option("--compile/--no-compile", help="Compile the training step.")] = None,
    skip_nonfinite: Annotated[
        bool | None, Option("--skip-nonfinite", help="Skip batches whose loss is not finite.")
    ] = None,
    validate_every: Annotated[int | None, Option(min=0, help="Iterations between validations; 0: none.")] = None,
    early_stopping: Annotated[
        int | None, Option(min=1, help="Stop after this many validations without a lower error.")
    ] = None,
    log_every: Annotated[int | None, Option(min=1, help="Iterations between log entries of trackers.")] = None,
    tracker: Annotated[
        list[str] | None, Option(help="Experiment tracker: csv, tensorboard, ...; may be repeated.")
    ] = None,
    device: Annotated[str | None, Option(help="cpu or cuda; by default a GPU if there is one.")] = None,
    data: Annotated[Path | None, Option(help="Folder of data to train on, for tasks that take data: images.")] = None,
    size: Annotated[int | None, Option(min=1, help="Size of the problems; default: the paper's.")] = None,
    width: Annotated[int | None, Option(min=1, help="Units of each hidden layer.")] = None,
    energy_scale: Annotated[float | None, Option(help="Constant factor of the energy.")] = None,
    standardized: Annotated[
        bool | None, Option("--standardized/--no-standardized", help="Standardize problems.")
    ] = None,
    start: Annotated[str | None, Option(help="Initial weights and answers: paper or probes.")] = None,
    test_step_size: Annotated[
        float | None, Option(help="Step size of the saved solver; by default in the preset's ratio to --step-size.")
    ] = None,
    test_max_steps: Annotated[int | None, Option(min=0, help="Maximum number of steps of the saved solver.")] = None,
    test_atol: Annotated[float | None, Option(help="Energy tolerance of the saved solver.")] = None,
    test_patience: Annotated[
        int | None, Option(min=1, help="Consecutive iterates within the tolerance before it halts.")
    ] = None,
):
    """Train an energy, evaluate it once on fresh problems, and save it with its test-time settings."""
    settings = {name: value for name, value in locals().items() if name not in _COMMAND}
    domain = find_domain(task, settings.pop("size") if ":" in task else None, energy)
    if device is not None:
        check_device(device)
    folder = output or Path("out") / domain.name
    checkpoints = Checkpoints(folder / "checkpoints", checkpoint_every, keep_checkpoints) if checkpoint_every else None
    _check_folder(folder, overwrite, resume, checkpoints)
    after = max(checkpoints.iterations(), default=0) if resume and checkpoints else 0
    with command_errors(ValueError):
        chosen = _changed(domain.preset(preset), settings)
        source = domain.task_at(chosen, data)
        trainer, solver = chosen.prepare(
            domain.name, source, folder=folder, trackers=tuple(tracker or ()), cpu=device == "cpu", after=after
        )
    if tracker:
        start_trackers(trainer.accelerator, domain.name, chosen.to_json(), after)
    main = trainer.accelerator.is_main_process
    console = Console(quiet=not main)
    seconds = _fit(console, trainer, chosen.iterations, checkpoints, resume, overwrite)
    trainer.accelerator.end_training()
    if main:
        about = {"task": domain.name, "preset": preset, "settings": chosen.to_json(), "seconds": round(seconds, 1)}
        about |= environment(trainer.accelerator.device.type)
        _evaluate_and_save(console, finished(trainer, solver), source, domain, folder, about, chosen.seed)


def _changed(preset: Preset, settings: dict[str, Any]) -> Preset:
    """The preset with the given options; a ValueError for options that it does not have."""
    name = settings["schedule"]
    if name is not None:
        if name not in _SCHEDULES:
            raise ValueError(f"Unknown schedule {name!r}; the schedules are: {', '.join(_SCHEDULES)}.")
        settings["schedule"] = _SCHEDULES[name]()
    step_size, test = settings["step_size"], "test_step_size"
    if step_size is not None and settings[test] is None and {"step_size", test} <= preset.settings.keys():
        # Energies are learned for the size of the steps of training; those at test time keep their ratio to it.
        settings[test] = step_size * preset.settings[test] / preset.settings["step_size"]
    return preset.changed(settings)


def _evaluate_and_save(
    console: Console, solver: Any, task: Task, domain: Domain, folder: Path, about: dict[str, Any], seed: int
) -> None:
    """Solve fresh problems once, print the results, and save the solver with them."""
    generator = stream(f"evaluate {domain.name}", seed)
    found = [evaluate(solver, task, name, domain.problems, generator) for name in task.difficulties]
    print_evaluations(console, found, domain.paper_irem, task.error_name)
    results = {"evaluation": {each.difficulty: each.summary() for each in found}}
    solver.save_pretrained(folder, training={"command": command_line(), **about, **results})
    console.print(f"\nSaved {folder / WEIGHTS} and {folder / CONFIG}", soft_wrap=True, highlight=False)


def _check_folder(folder: Path, overwrite: bool, resume: bool, checkpoints: Checkpoints | None) -> None:
    """Create the folder; raise a CommandError if something in it would be lost."""
    if resume and overwrite:
        raise CommandError("--resume continues the run in the folder and --overwrite deletes it: choose one.")
    if resume and checkpoints is None:
        raise CommandError("--resume needs checkpoints: leave out --checkpoint-every 0.")
    check_free_to_write(folder, (WEIGHTS, CONFIG), overwrite or resume)
    if checkpoints and not (resume or overwrite):
        with command_errors(CheckpointError):
            checkpoints.check_free()


def _fit(
    console: Console, trainer: Any, iterations: int, checkpoints: Checkpoints | None, resume: bool, overwrite: bool
) -> float:
    """Train with a progress bar; returns the time in seconds."""
    started = time.perf_counter()
    overwrite = overwrite and checkpoints is not None
    try:
        with command_errors(NonfiniteLossError, CheckpointError):
            trainer.fit(iterations, checkpoints=checkpoints, resume=resume, overwrite=overwrite, progress=True)
    except KeyboardInterrupt as error:
        console.print(f"{error} No solver was saved.", soft_wrap=True, highlight=False)
        raise typer.Exit(130) from None
    return time.perf_counter() - started
