"""What the commands share: their errors, the tasks by name, trained solvers, and folders to write to."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..presets.catalog import TASKS, Entry
from ..solver import EnergySolver
from ..tasks import Task


class CommandError(Exception):
    """An error to be told in one line."""

    exit_code = 1

    def format_message(self) -> str:
        """The message, in one line."""
        return " ".join(str(self).split())


TaskName = Annotated[str, typer.Argument(help=f"One of: {', '.join(TASKS)}.", metavar="TASK")]


def entry_of(task: str) -> Entry:
    """The entry of a task in the catalog; a CommandError if there is none."""
    if task not in TASKS:
        raise CommandError(f"Unknown task {task!r}; the tasks are: {', '.join(TASKS)}.")
    return TASKS[task]


def load_model(model: str, entry: Entry, max_steps: int | None = None) -> tuple[EnergySolver, Task]:
    """A trained solver, shipped or in a folder, and the task that it solves."""
    try:
        solver = EnergySolver.from_pretrained(model)
        source = entry.task_of(solver)
    except (ImportError, OSError, ValueError) as error:
        raise CommandError(f"Cannot load the model {model}: {error}") from error
    return (solver if max_steps is None else solver.replace(max_steps=max_steps)), source


def check_free_to_write(folder: Path, names: tuple[str, ...], overwrite: bool) -> None:
    """Make the folder, now rather than fail after hours of work; a CommandError if it holds one of the files."""
    existing = [name for name in names if (folder / name).exists()]
    if existing and not overwrite:
        raise CommandError(
            f"{folder} already holds {' and '.join(existing)}. Choose another --output, or pass --overwrite."
        )
    folder.mkdir(parents=True, exist_ok=True)


def command_line() -> str:
    """The command as it was given, for result files."""
    return shlex.join(["energysolve", *sys.argv[1:]])
