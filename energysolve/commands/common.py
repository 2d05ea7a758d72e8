"""What the commands share: errors, devices, tasks and energies by name, trained solvers, and folders to write to."""

import os
import shlex
import sys
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from ..presets import DOMAINS, Domain, domain_for, domain_named
from ..solver import EnergySolver
from ..tasks import Task


class CommandError(Exception):
    """An error that is shown in one line."""

    exit_code = 1

    def format_message(self) -> str:
        """The message, in one line."""
        return " ".join(str(self).split())


Device = Annotated[str, typer.Option(help="cpu or cuda.")]
EnergyName = Annotated[
    str | None, typer.Option("--energy", help="An energy of your own, as package.module:Class.", metavar="NAME")
]


def task_help(more: str = "") -> str:
    """The help text of an argument that names a task."""
    return f"One of: {', '.join(DOMAINS)}{more}."


def find_domain(task: str, size: int | None = None, energy: str | None = None) -> Domain:
    """The domain of a task of the library, or of one of the user's own, ``package.module:Task``.

    Args:
        task: the name.
        size: of the user's task, its only argument; None for none.
        energy: of a user's task: ``package.module:name``, called with the task if it takes an argument.

    Raises:
        CommandError: if there is no such task, or it cannot be made.
    """
    if ":" not in task:
        if energy is not None and task in DOMAINS:
            raise CommandError(f"--energy is for a task of your own, package.module:Task; {task} has its presets.")
        try:
            return domain_named(task)
        except ValueError as error:
            raise CommandError(f"{error} For a task of your own, give package.module:Task.") from None
    source = _call(task, *(() if size is None else (size,))) if callable(named(task)) else named(task)
    if not isinstance(source, Task):
        raise CommandError(f"{task} is a {type(source).__name__}; a task is a subclass of energysolve.tasks.Task.")
    if energy is None:
        return domain_for(source)
    takes_task = bool(signature(named(energy)).parameters)
    return domain_for(source, lambda task: _call(energy, *((task,) if takes_task else ())))


def named(name: str) -> Any:
    """The object of a name ``package.module:name``, looked for in the current folder too."""
    module, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise CommandError(f"Cannot import {name}: {error}. Give package.module:name.") from error


def load_model(model: str, energy: str | None = None, device: str = "cpu") -> EnergySolver:
    """A trained solver, shipped, in a folder or on the hub.

    Args:
        model: the name, folder or id.
        energy: the class of an energy of the user's own, ``package.module:Class``.
        device: where to move it.
    """
    check_device(device)
    try:
        solver = EnergySolver.from_pretrained(model, energy=None if energy is None else named(energy))
    except (ImportError, OSError, ValueError, TypeError) as error:
        raise CommandError(f"Cannot load the model {model}: {error}") from error
    return solver.to(device)


def check_device(device: str) -> None:
    """Raise a CommandError for a device that is not there."""
    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise CommandError(f"No device {device!r}: --device is cpu, or cuda where torch finds a GPU.")


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


def _call(name: str, *arguments: Any) -> Any:
    try:
        return named(name)(*arguments)
    except TypeError as error:
        raise CommandError(f"{name} cannot be called with {arguments}: {error}.") from error
