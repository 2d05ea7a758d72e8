"""``energysolve reproduce``."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from typer import Argument, Option

from ..experiments.measure import PROBLEMS
from ..experiments.runs import Laboratory
from ..experiments.tables import PRESETS
from ..training import CheckpointError, NonfiniteLossError
from .common import CommandError, Device, check_device, command_errors, command_line

TARGETS = (
    *("table1", "table2", "table3", "table4", "table5", "scratchpad", "sizes", "psnr", "filters"),
    *("figure1", "figure2", "figure3", "figure4", "figure5", "figure6", "figure7", "figure8"),
)

_TRAINED = ("table2", "table3", "scratchpad")
"""The tables that compare settings of training."""


def reproduce(
    what: Annotated[str, Argument(help=f"One of: {', '.join(TARGETS)}.", metavar="WHAT")],
    preset: Annotated[str, Option(help=f"{', '.join(PRESETS)}.")] = "tuned",
    seeds: Annotated[int, Option(min=1, help="Number of runs of the energy model; other methods have one.")] = 1,
    output: Annotated[Path, Option(help="Folder for result files, tables and figures.")] = Path("out/results"),
    problems: Annotated[int, Option(min=2, help="Problems per difficulty to evaluate on.")] = PROBLEMS,
    iterations: Annotated[
        int,
        Option(min=1, help="Iterations of the runs that compare settings of training (table2, table3, scratchpad)."),
    ] = 2000,
    models: Annotated[Path, Option(help="Folder for weights and checkpoints.")] = Path("out/reproduce"),
    device: Device = "cpu",
    train_data: Annotated[Path | None, Option(help="Images: folder to train on; default: scikit-image's.")] = None,
    test_data: Annotated[Path | None, Option(help="Images: folder to evaluate on; default: scikit-image's.")] = None,
):
    """Make a table or figure of the paper: train the missing models, resuming interrupted runs, and evaluate them."""
    if what not in TARGETS:
        raise CommandError(f"Unknown table or figure {what!r}; choose one of: {', '.join(TARGETS)}.")
    if preset not in PRESETS:
        raise CommandError(f"Unknown preset {preset!r}; the presets are: {', '.join(PRESETS)}.")
    if preset == "best" and what in _TRAINED:
        raise CommandError(f"{what} changes settings that preset 'best' does not have; take paper or tuned.")
    check_device(device)
    for folder in (output / "runs", models):
        try:  # before hours of training
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CommandError(f"{folder} cannot be made: {error.strerror}. Choose another folder.") from error
    console = Console()

    def log(line: str) -> None:
        console.print(line, soft_wrap=True, highlight=False)

    # Imported on demand: the modules of figures import matplotlib.
    make: Callable[[Laboratory, str, int], list[Path]] = import_module(f"energysolve.experiments.{what}").reproduce
    laboratory = Laboratory(
        *(models, output, command_line(), problems, log, device),
        iterations=iterations,
        train_data=train_data,
        test_data=test_data,
    )
    try:
        with command_errors(NonfiniteLossError, CheckpointError, ValueError):
            paths = make(laboratory, preset, seeds)
    except KeyboardInterrupt:
        log("Interrupted; the same command continues from the last checkpoint.")
        raise typer.Exit(130) from None
    log(f"Saved {', '.join(map(str, paths))}")
