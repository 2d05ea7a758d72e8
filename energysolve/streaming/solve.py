"""Problems of a file solved a chunk at a time, in memory that does not grow with the file."""

import dataclasses
import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..checks import check_whole
from ..differentiation import Detached
from ..recorders import Nothing
from ..seeding import stream
from ..solution import Status
from ..solver import _DEFAULTS as _FIELDS
from ..solver import EnergySolver
from ..version import __version__
from .answers import ARRAYS, AnswerFile
from .problems import ProblemFile, open_problems

_NO_SETTINGS = ("energy", "differentiation", "recorder", "sync_every")
"""Parts of a solver that change no answer, and the energy, whose weights are compared."""


@dataclass(frozen=True)
class Summary:
    """What `solve_file` did.

    Attributes:
        problems: how many there were.
        converged: the answers whose criterion fired.
        max_steps: those that used up their steps.
        nonfinite: those that met a NaN or an infinity, in the problem itself or on the way.
        resumed: the answers that an interrupted run had left; they are among those counted above.
        seconds: that this run took.
    """

    problems: int
    converged: int
    max_steps: int
    nonfinite: int
    resumed: int
    seconds: float


def solve_file(
    solver: EnergySolver,
    input: str | Path,
    output: str | Path,
    *,
    chunk: int = 1024,
    seed: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Summary:
    """Solve the problems in a file, of any length, into a file of answers in the same order.

    A run that is killed leaves its answers in the folder ``<output>.partial``; with ``resume`` and the same arguments
    it goes on, and ends with the very arrays of a run that was never killed (same machine, same number of threads).

    Args:
        solver: with initial answers of its own.
        input: an ``.npz`` or ``.npy`` file with an array ``(problems, ...)`` of real numbers, or a ``.csv`` file with
            a problem a line. They are converted to the dtype of the energy's parameters.
        output: an ``.npz`` file, with the arrays ``y (problems, ...)``, ``energy``, ``steps`` and ``status``
            ``(problems,)``, or a ``.csv`` file with those columns.
        chunk: problems solved together.
        seed: of the initial answers: each chunk draws its own from the seed and its place in the file.
        resume: go on with an interrupted run, if there is one.
        overwrite: replace the output, and drop an interrupted run.
        progress: called with the number of problems solved and of all problems, first before anything is solved.

    Raises:
        FileNotFoundError: if there is no input.
        FileExistsError: if there is an output, or an interrupted run, that is neither resumed nor overwritten.
        ValueError: if the input is not of its format or does not fit the energy, or if a run is to be resumed that had
            other settings.
        OSError: if the output cannot be written; answers written before are kept, ready to be resumed.
    """
    started = time.perf_counter()
    check_whole("solve_file", least=1, chunk=chunk)
    problems = open_problems(Path(input))
    _check_shape(solver, problems)
    if Path(output).exists() and Path(output).samefile(input):
        raise ValueError(f"{output} is the input; choose another output.")
    answers = AnswerFile(Path(output), resume=resume, overwrite=overwrite)
    solver = solver.replace(differentiation=Detached(), recorder=Nothing())
    answers.begin(_settings(solver, problems, chunk, seed))
    resumed = answers.rows
    report = progress or (lambda done, total: None)
    report(resumed, problems.rows)
    for block in problems.blocks(resumed, chunk):
        answers.append(_solved(solver, block, stream(f"solve file {answers.rows}", seed)))
        report(answers.rows, problems.rows)
    counts = answers.counts()
    answers.finish()
    return Summary(
        problems=problems.rows,
        converged=counts[Status.CONVERGED],
        max_steps=counts[Status.MAX_STEPS],
        nonfinite=counts[Status.NONFINITE],
        resumed=resumed,
        seconds=time.perf_counter() - started,
    )


def _solved(solver: EnergySolver, block: np.ndarray, generator: torch.Generator) -> dict[str, np.ndarray]:
    dtype, device = _kind(solver)
    x = torch.from_numpy(block.astype(np.float64)).to(dtype).to(device)
    with torch.no_grad():
        solution = solver.minimize(x, generator=generator)
    if not isinstance(solution.y, Tensor) or len(solution.y) != len(block):
        raise ValueError("Answers to a file of problems must be one tensor with a row for each problem.")
    return {name: _as_numpy(getattr(solution, name)) for name in ARRAYS}


def _as_numpy(values: Tensor) -> np.ndarray:
    values = values.detach().cpu()
    return (values.float() if values.dtype is torch.bfloat16 else values).numpy()  # NumPy has no bfloat16


def _kind(solver: EnergySolver) -> tuple[torch.dtype, torch.device]:
    """Dtype and device of the energy's parameters; the defaults for an energy that has none."""
    floating = (parameter for parameter in solver.parameters() if parameter.is_floating_point())
    like = next(floating, None)
    return (torch.get_default_dtype(), torch.device("cpu")) if like is None else (like.dtype, like.device)


def _check_shape(solver: EnergySolver, problems: ProblemFile) -> None:
    wanted = getattr(solver.energy, "x_dim", None)
    found = math.prod(problems.row_shape)
    if wanted is not None and (problems.rows or found) and found != wanted:
        raise ValueError(
            f"{problems.path} holds problems of {found} numbers (shape {problems.row_shape}), and this energy takes "
            f"{wanted}: save an array of shape (problems, {wanted}), or a table of {wanted} columns."
        )


def _settings(solver: EnergySolver, problems: ProblemFile, chunk: int, seed: int) -> dict[str, Any]:
    """Everything that the answers depend on, as plain JSON; of functions only the name can be compared."""
    dtype, device = _kind(solver)
    digest = hashlib.sha256()
    with open(problems.path, "rb") as file:
        while content := file.read(1 << 20):
            digest.update(content)
    return {
        "chunk": chunk,
        "seed": seed,
        "problems": digest.hexdigest(),
        "energy": type(solver.energy).__name__ if isinstance(solver.energy, nn.Module) else _described(solver.energy),
        "weights": _weights_digest(solver),
        "solver": {name: _described(getattr(solver, name)) for name in _FIELDS if name not in _NO_SETTINGS},
        "dtype": str(dtype),
        "device": device.type,
        "versions": {"energysolve": __version__, "torch": torch.__version__},
    }


def _weights_digest(solver: EnergySolver) -> str:
    digest = hashlib.sha256()
    for name, value in solver.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _described(part: Any) -> Any:
    if part is None or isinstance(part, bool | int | float | str):
        return part
    if isinstance(part, tuple | list):
        return [_described(item) for item in part]
    named = part if hasattr(part, "__qualname__") else type(part)
    name = f"{named.__module__}.{named.__qualname__}"
    if not dataclasses.is_dataclass(part) or isinstance(part, type):
        return name
    return {"type": name} | {field.name: _described(getattr(part, field.name)) for field in dataclasses.fields(part)}
