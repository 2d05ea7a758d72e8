"""Solving the problems in a file chunk by chunk, in memory that does not grow with the file."""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..checks import check_whole
from ..differentiation import Detached
from ..files import tensors_digest
from ..recorders import Nothing
from ..seeding import stream
from ..solver import PARTS, EnergySolver
from ..version import __version__
from .answers import ARRAYS, AnswerFile
from .problems import ProblemFile, open_problems

Measure = Callable[[Tensor, Tensor], Tensor]
"""``measure(x, y) -> (batch,)``: a number for each answer ``y`` to a problem ``x``."""

_NO_SETTINGS = ("energy", "differentiation", "recorder", "select", "sync_every")
"""Parts of a solver that change no answer, and the energy, whose weights are compared."""


@dataclass(frozen=True)
class Summary:
    """The result of `solve_file`: the number of ``problems`` in the file, and of answers with each `Status`.

    These counts include the ``resumed`` answers of an interrupted run; ``seconds`` is the time of this run alone.
    ``measures`` holds the mean and the largest of each measure over the converged answers.
    """

    problems: int
    converged: int
    max_steps: int
    nonfinite: int
    resumed: int
    seconds: float
    stalled: int = 0
    rejected: int = 0
    measures: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def solve_file(
    solver: EnergySolver,
    input: str | Path | ProblemFile,
    output: str | Path,
    *,
    chunk: int = 1024,
    seed: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    measures: Mapping[str, Measure] | None = None,
) -> Summary:
    """Solve the problems in a file of any length, and write the answers to a file in the same order::

        summary = solve_file(solver, "problems.npz", "answers.npz", chunk=256, resume=True)
        print(summary.converged, "of", summary.problems)

    A run that is killed leaves its answers in the folder ``<output>.partial``. With ``resume`` and the same arguments
    it continues, and its output is identical to that of an uninterrupted run (same machine, same number of threads).

    Args:
        solver: a solver with an initializer.
        input: an ``.npz`` or ``.npy`` file with an array ``(problems, ...)`` of real numbers, a ``.csv`` file with one
            problem per line, or a file opened by `open_problems`. Problems are converted to the dtype of the energy's
            parameters.
        output: an ``.npz`` file, with the arrays ``y (problems, ...)``, ``energy``, ``steps`` and ``status``
            ``(problems,)``, or a ``.csv`` file with those columns.
        chunk: the number of problems solved together.
        seed: determines the initial answers of each chunk, together with the chunk's position in the file.
        resume: continue an interrupted run, if there is one.
        overwrite: replace the output, and discard an interrupted run.
        progress: called as ``progress(solved, problems)``, once before the first chunk and after each chunk.
        measures: further numbers of each answer by name, written to the output: functions of problems and answers.

    Raises:
        FileNotFoundError: if the input does not exist.
        FileExistsError: if the output or an interrupted run exists, and is neither resumed nor overwritten.
        ValueError: if the input is invalid or does not fit the energy, the output is of another kind, both ``resume``
            and ``overwrite`` are given, or the run to be resumed had other settings.
        OSError: if the output cannot be written; the answers written so far are kept and can be resumed.
    """
    started = time.perf_counter()
    check_whole("solve_file", least=1, chunk=chunk)
    problems = input if isinstance(input, ProblemFile) else open_problems(input)
    _check_shape(solver, problems)
    if Path(output).exists() and Path(output).samefile(problems.path):
        raise ValueError(f"{output} is the input; choose another output.")
    answers = AnswerFile(Path(output), resume=resume, overwrite=overwrite)
    solver = solver.replace(differentiation=Detached(), recorder=Nothing())
    answers.begin(_settings(solver, problems, chunk, seed, measures or {}))
    resumed = answers.rows
    report = progress or (lambda done, total: None)
    report(resumed, problems.rows)
    for block in problems.blocks(resumed, chunk):
        answers.append(_solved(solver, block, stream(f"solve file {answers.rows}", seed), measures or {}))
        report(answers.rows, problems.rows)
    counts = {status.name.lower(): count for status, count in answers.counts().items()}
    found = {name: answers.measured(name) for name in measures or {}}
    answers.finish()
    return Summary(problems.rows, **counts, resumed=resumed, seconds=time.perf_counter() - started, measures=found)


def _solved(
    solver: EnergySolver, block: np.ndarray, generator: torch.Generator, measures: Mapping[str, Measure]
) -> dict[str, np.ndarray]:
    dtype, device = _kind(solver)
    x = torch.from_numpy(block.astype(np.float64)).to(dtype).to(device)
    with torch.no_grad():
        solution = solver.minimize(x, generator=generator)
    if not isinstance(solution.y, Tensor) or len(solution.y) != len(block):
        raise ValueError("The answers to a file of problems must be one tensor with one row per problem.")
    found = {name: getattr(solution, name).cpu() for name in ARRAYS}
    found |= {name: measure(x, solution.y).cpu() for name, measure in measures.items()}
    # NumPy has no bfloat16.
    return {name: (each.float() if each.dtype is torch.bfloat16 else each).numpy() for name, each in found.items()}


def _kind(solver: EnergySolver) -> tuple[torch.dtype, torch.device]:
    """Dtype and device of the energy's parameters; the defaults for an energy without parameters."""
    floating = (parameter for parameter in solver.parameters() if parameter.is_floating_point())
    like = next(floating, torch.empty(0, device="cpu"))
    return like.dtype, like.device


def _check_shape(solver: EnergySolver, problems: ProblemFile) -> None:
    wanted = getattr(solver.energy, "x_dim", None)
    found = math.prod(problems.row_shape)
    if wanted is not None and (problems.rows or found) and found != wanted:
        raise ValueError(
            f"{problems.path} holds problems of {found} numbers (shape {problems.row_shape}), and this energy takes "
            f"{wanted}: save an array of shape (problems, {wanted}), or a table of {wanted} columns."
        )


def _settings(
    solver: EnergySolver, problems: ProblemFile, chunk: int, seed: int, measures: Mapping[str, Measure]
) -> dict[str, Any]:
    """Everything that the answers depend on, as plain JSON; functions are compared by name only."""
    dtype, device = _kind(solver)
    return {
        "chunk": chunk,
        "seed": seed,
        "problems": problems.digest(),
        "energy": type(solver.energy).__name__ if isinstance(solver.energy, nn.Module) else _described(solver.energy),
        "weights": tensors_digest(solver.state_dict()),
        **({"measures": list(measures)} if measures else {}),
        "solver": {name: _described(getattr(solver, name)) for name in PARTS if name not in _NO_SETTINGS},
        "dtype": str(dtype),
        "device": device.type,
        "versions": {"energysolve": __version__, "torch": torch.__version__},
    }


def _described(part: Any) -> Any:
    if isinstance(part, float) and not math.isfinite(part):
        return str(part)  # JSON has no infinities
    if part is None or isinstance(part, bool | int | float | str):
        return part
    if isinstance(part, tuple | list):
        return [_described(item) for item in part]
    named = part if hasattr(part, "__qualname__") else type(part)
    name = f"{named.__module__}.{named.__qualname__}"
    if not dataclasses.is_dataclass(part) or isinstance(part, type):
        return name
    return {"type": name} | {field.name: _described(getattr(part, field.name)) for field in dataclasses.fields(part)}
