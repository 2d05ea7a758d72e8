"""Shared parts of the commands: errors, devices, tasks and energies by name, trained solvers, output folders."""

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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
    """An error that is shown as one line."""

    exit_code = 1

    def format_message(self) -> str:
        """The message, in one line."""
        return " ".join(str(self).split())


@contextmanager
def command_errors(*kinds: type[Exception], prefix: str = "") -> Iterator[None]:
    """Turn errors of these kinds into a CommandError with the same message, after a prefix."""
    try:
        yield
    except kinds as error:
        raise CommandError(f"{prefix}{error}") from error


Device = Annotated[str, typer.Option(help="cpu or cuda.")]
EnergyName = Annotated[
    str | None, typer.Option("--energy", help="A custom energy, as package.module:Class.", metavar="NAME")
]


def task_help(more: str = "") -> str:
    """The help text of an argument that names a task."""
    return f"One of: {', '.join(DOMAINS)}{more}."


def find_domain(task: str, size: int | None = None, energy: str | None = None) -> Domain:
    """The domain of a registered task, or of a user's task ``package.module:Task``.

    Args:
        task: the name.
        size: the only argument of the user's task; None if it takes none.
        energy: the energy of a user's task, ``package.module:name``; called with the task if it takes an argument.

    Raises:
        CommandError: if there is no such task, or it cannot be constructed.
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
    """Import ``package.module:name``, also from the current folder."""
    module, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise CommandError(f"Cannot import {name}: {error}. Give package.module:name.") from error


def load_model(model: str, energy: str | None = None, device: str = "cpu") -> EnergySolver:
    """Load a trained solver that is shipped, in a folder or on the hub.

    Args:
        model: a shipped name, a folder or a hub id.
        energy: the class of a user's energy, ``package.module:Class``.
        device: the device to move it to.
    """
    check_device(device)
    with command_errors(ImportError, OSError, ValueError, TypeError, prefix=f"Cannot load the model {model}: "):
        return EnergySolver.from_pretrained(model, energy=None if energy is None else named(energy)).to(device)


def check_device(device: str) -> None:
    """Raise a CommandError for a device that is not available."""
    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise CommandError(f"No device {device!r}: --device is cpu, or cuda if torch finds a GPU.")


def check_free_to_write(folder: Path, names: tuple[str, ...], overwrite: bool) -> None:
    """Create the folder before hours of work; raise a CommandError if it contains one of the files."""
    existing = [name for name in names if (folder / name).exists()]
    if existing and not overwrite:
        raise CommandError(
            f"{folder} already holds {' and '.join(existing)}. Choose another --output, or pass --overwrite."
        )
    folder.mkdir(parents=True, exist_ok=True)


def command_line() -> str:
    """The command line, for result files."""
    return shlex.join(["energysolve", *sys.argv[1:]])


def _call(name: str, *arguments: Any) -> Any:
    try:
        return named(name)(*arguments)
    except TypeError as error:
        raise CommandError(f"{name} cannot be called with {arguments}: {error}.") from error
