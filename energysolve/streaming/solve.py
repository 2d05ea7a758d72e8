"""Solving the problems in a file chunk by chunk, in memory that does not grow with the file."""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..checks import check_whole
from ..differentiation import Detached
from ..files import tensors_digest
from ..recorders import Nothing
from ..solver import PARTS, EnergySolver
from ..version import __version__
from .answers import AnswerFile, check_kept
from .chunks import ARRAYS, Chunks, Engine, InProcess, Measure, kind_of
from .problems import ProblemFile, open_problems

_NO_SETTINGS = ("energy", "differentiation", "recorder", "select", "sync_every")
"""Parts of a solver that change no answer, and the energy, whose weights are compared."""


@dataclass(frozen=True)
class Summary:
    """The result of `solve_file`: the number of ``problems`` in the file, and of answers with each `Status`.

    These counts include the ``resumed`` answers of an interrupted run; ``seconds`` is the time of this run alone.
    ``measures`` holds the mean and the largest of each measure over the converged answers.

    Examples:
        >>> from pathlib import Path
        >>> from energysolve import EnergySolver, Zeros
        >>> from energysolve.energies import Bowl
        >>> from energysolve.streaming.solve import solve_file
        >>> _ = Path("problems.csv").write_text("1,2\\n3,4\\n")
        >>> summary = solve_file(EnergySolver(Bowl(), init=Zeros((2,))), "problems.csv", "answers.csv")  # a `Summary`
        >>> summary.problems, summary.converged, summary.nonfinite
        (2, 2, 0)
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
    engine: Engine | None = None,
) -> Summary:
    """Solve the problems in a file of any length, and write the answers to a file in the same order.

    A run that is killed leaves its answers in the folder ``<output>.partial``. With ``resume`` and the same arguments
    it continues, and its output is identical to that of an uninterrupted run (same machine, same number of threads).

    Args:
        solver: a solver with an initializer.
        input: an ``.npz`` or ``.npy`` file with an array ``(problems, ...)`` of real numbers, a ``.csv`` file with one
            problem per line, a ``.parquet`` or ``.arrow`` file with a column of lists or several of numbers, or a file
            opened by `open_problems`. Problems are converted to the dtype of the energy's parameters.
        output: an ``.npz`` file, with the arrays ``y (problems, ...)``, ``energy``, ``steps`` and ``status``
            ``(problems,)``, or a ``.csv``, ``.parquet`` or ``.arrow`` file with those columns, beside the columns of
            the input that are kept.
        chunk: the number of problems solved together.
        seed: determines the initial answers of each chunk, together with the chunk's position in the file.
        resume: continue an interrupted run, if there is one.
        overwrite: replace the output, and discard an interrupted run.
        progress: called as ``progress(solved, problems)``, once before the first chunk and after each chunk.
        measures: further numbers of each answer by name, written to the output: functions of problems and answers.
        engine: what solves the chunks; by default this process. `energysolve.streaming.cluster.Ray` solves them on
            many cores, GPUs or machines. A run can be resumed by another engine.

    Raises:
        FileNotFoundError: if the input does not exist.
        FileExistsError: if the output or an interrupted run exists, and is neither resumed nor overwritten.
        ValueError: if the input is invalid or does not fit the energy, the output is of another kind, both ``resume``
            and ``overwrite`` are given, or the run to be resumed had other settings.
        OSError: if the output cannot be written; the answers written so far are kept and can be resumed.

    Examples:
        >>> import numpy as np
        >>> from energysolve import EnergySolver, Zeros
        >>> from energysolve.energies import Bowl
        >>> from energysolve.streaming.solve import solve_file
        >>> np.savez("problems.npz", x=np.arange(12.0).reshape(4, 3))
        >>> solver = EnergySolver(Bowl(), init=Zeros((3,)))
        >>> summary = solve_file(solver, "problems.npz", "answers.npz", chunk=2)
        >>> print(summary.converged, "of", summary.problems)
        4 of 4
        >>> np.load("answers.npz")["y"].round(3).tolist()
        [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0], [6.0, 7.0, 8.0], [9.0, 10.0, 11.0]]
    """
    started = time.perf_counter()
    check_whole("solve_file", least=1, chunk=chunk)
    problems = input if isinstance(input, ProblemFile) else open_problems(input)
    _check_shape(solver, problems)
    if isinstance(problems.path, Path) and Path(output).exists() and Path(output).samefile(problems.path):
        raise ValueError(f"{output} is the input; choose another output.")
    answers = AnswerFile(Path(output), resume=resume, overwrite=overwrite)
    check_kept(Path(output), problems, (*ARRAYS, *(measures or {})))
    solver = solver.replace(differentiation=Detached(), recorder=Nothing())
    engine, measures = engine or InProcess(), measures or {}
    answers.begin(_settings(solver, problems, chunk, seed, measures, engine))
    resumed = answers.rows
    report = progress or (lambda done, total: None)
    report(resumed, problems.rows)
    firsts = range(resumed, max(problems.rows, 1), chunk)
    for found in engine(Chunks(solver, problems, chunk, seed, measures), firsts):
        answers.append(found)
        report(answers.rows, problems.rows)
    counts = {status.name.lower(): count for status, count in answers.counts().items()}
    found = {name: answers.measured(name) for name in measures}
    answers.finish(problems)
    return Summary(problems.rows, **counts, resumed=resumed, seconds=time.perf_counter() - started, measures=found)


def _check_shape(solver: EnergySolver, problems: ProblemFile) -> None:
    wanted = getattr(solver.energy, "x_dim", None)
    found = math.prod(problems.row_shape)
    if wanted is not None and (problems.rows or found) and found != wanted:
        raise ValueError(
            f"{problems.path} holds problems of {found} numbers (shape {problems.row_shape}), and this energy takes "
            f"{wanted}: save an array of shape (problems, {wanted}), or a table of {wanted} columns."
        )


def _settings(
    solver: EnergySolver, problems: ProblemFile, chunk: int, seed: int, measures: Mapping[str, Measure], engine: Engine
) -> dict[str, Any]:
    """Everything that the answers depend on, as plain JSON; functions are compared by name only."""
    dtype, device = kind_of(solver)
    return {
        "chunk": chunk,
        "seed": seed,
        "problems": problems.digest(),
        "reading": problems.reading,
        "energy": type(solver.energy).__name__ if isinstance(solver.energy, nn.Module) else _described(solver.energy),
        "weights": tensors_digest(solver.state_dict()),
        **({"measures": list(measures)} if measures else {}),
        "solver": {name: _described(getattr(solver, name)) for name in PARTS if name not in _NO_SETTINGS},
        "dtype": str(dtype),
        "device": engine.device or device.type,
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
