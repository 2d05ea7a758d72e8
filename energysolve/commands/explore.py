"""``energysolve explore``."""

import webbrowser
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor
from typer import Argument, Option

from ..explore import Session, Subject, energy_subject, solver_subject
from ..pretrained.files import names
from ..solver import EnergySolver
from ..streaming.problems import open_problems
from .common import CommandError, command_errors, load_model, named

_MOST = 10_000
"""The most problems of a file that are read."""


def explore(
    subject: Annotated[
        str,
        Argument(
            help=f"An energy of your own, as package.module:energy; the folder of a saved solver; or one of: "
            f"{', '.join(names())}.",
            metavar="SUBJECT",
        ),
    ],
    shape: Annotated[
        str | None, Option(help="Shape of one answer, such as 2 or 3,4; by default the energy's own, or 2.")
    ] = None,
    problem: Annotated[
        Path | None, Option(help="An .npz, .npy or .csv file of problems, the x of the energy; default zeros.")
    ] = None,
    seed: Annotated[int, Option(min=0, help="Seed, or row of the file, of the problem that is shown first.")] = 0,
    port: Annotated[int, Option(min=0, max=65535, help="Port on 127.0.0.1; 0 for any that is free.")] = 8050,
    browser: Annotated[bool, Option("--browser/--no-browser", help="Whether to open the page.")] = True,
):
    """Look at the landscape of an energy and at the descents of several optimizers, on a page in the browser."""
    try:
        from ..explore.serving import HOST, serve
    except ImportError as error:
        raise CommandError("explore needs Dash: pip install 'energysolve[explore]'.") from error
    with command_errors(ValueError):
        session = Session(_subject(subject, _shape(shape), _problems(problem)), seed)
    try:
        server = serve(session, port)
    except OSError as error:
        raise CommandError(f"Cannot open port {port}: {error}. --port 0 takes any that is free.") from error
    address = f"http://{HOST}:{server.port}"
    Console().print(f"Exploring {subject} at {address} (Ctrl-C ends it)", soft_wrap=True, highlight=False)
    if browser:
        webbrowser.open(address)
    _run(server)


def _run(server: Any) -> None:
    """Serve until Ctrl-C."""
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()


def _subject(name: str, shape: tuple[int, ...] | None, problems: Tensor | None) -> Subject:
    if ":" not in name:
        with command_errors(ValueError):
            return solver_subject(name, load_model(name), shape, problems)
    energy: Any = named(name)
    if isinstance(energy, type):
        with command_errors(TypeError, prefix=f"{name} is a class, and cannot be made without arguments: "):
            energy = energy()
    if isinstance(energy, EnergySolver):
        with command_errors(ValueError):
            return solver_subject(name, energy, shape, problems)
    if not callable(energy):
        raise CommandError(f"{name} is a {type(energy).__name__}; an energy is a function energy(x, y) -> (batch,).")
    size = getattr(energy, "dim", None)
    function: Any = energy  # any callable, until it is called
    return energy_subject(name, function, shape or ((size,) if isinstance(size, int) else (2,)), problems)


def _shape(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        shape = tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1 or np.prod(shape) < 2:
        raise CommandError(f"--shape is that of one answer of 2 or more numbers, such as 2 or 3,4; got {text!r}.")
    return shape


def _problems(path: Path | None) -> Tensor | None:
    if path is None:
        return None
    with command_errors(ValueError, OSError, ImportError):
        opened = open_problems(path)
        if not opened.rows:
            raise CommandError(f"{path} holds no problems.")
        return torch.from_numpy(np.array(next(iter(opened.blocks(0, _MOST)))))
