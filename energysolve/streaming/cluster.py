"""Solving on many cores, GPUs or machines: Ray Data distributes the work, and replaces workers that die."""

import copy
import logging
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import ray.data
import torch
from ray.exceptions import RayError, RayTaskError

from ..checks import check_whole
from ..differentiation import Detached
from ..recorders import Nothing
from ..solver import EnergySolver
from .chunks import Chunks, Engine, kind_of
from .rows import Columns, Graphs, Problem, solve_rows

__all__ = ["Columns", "Graphs", "Ray", "Shares", "shares", "solve_dataset"]

_COLUMN = Columns()
_ROW = "row of the file"
_BLOCKS = 2000
"""The most pieces into which a file is divided; a worker that dies loses one."""
_STORE = 1 << 30
"""Bytes of shared memory of a local cluster."""


@dataclass(frozen=True)
class Shares:
    """What each of the workers gets: ``cpus`` and ``gpus`` of the cluster, which may be fractions, and ``threads``.

    Examples:
        >>> from energysolve.streaming.cluster import shares
        >>> shares(cpus=3, gpus=0, workers=4, device="cpu")  # one core is left to reading, four workers share two
        Shares(workers=4, cpus=0.5, gpus=0.0, threads=1)
    """

    workers: int
    cpus: float
    gpus: float
    threads: int


def shares(cpus: float, gpus: float, workers: int | None, device: str) -> Shares:
    """Divide the cores and GPUs of a cluster among workers.

    One core is left to the tasks that read, or half of the only one. A GPU has one worker, or more if there are more
    workers than GPUs.

    Args:
        cpus: cores of the cluster.
        gpus: GPUs of the cluster.
        workers: the number of workers; by default one for each GPU, or for each core.
        device: ``"cpu"`` or ``"cuda"``.

    Raises:
        ValueError: for ``"cuda"`` on a cluster without a GPU.

    Examples:
        >>> from energysolve.streaming.cluster import shares
        >>> shares(cpus=16, gpus=4, workers=None, device="cuda")
        Shares(workers=4, cpus=1.0, gpus=1.0, threads=4)
        >>> shares(cpus=16, gpus=4, workers=8, device="cuda").gpus  # two workers on each GPU
        0.5
    """
    on_gpu = device == "cuda"
    if on_gpu and gpus < 1:
        raise ValueError("The cluster has no GPU. Solve on its cores (--device cpu), or add machines with GPUs.")
    workers = workers or max(1, int(gpus if on_gpu else cpus))
    of_gpu = 1 / math.ceil(workers / int(gpus)) if on_gpu else 0.0
    of_cpus = min(1.0, max(cpus - 1, cpus / 2) / workers)
    # Ray counts in units of 1/10,000.
    return Shares(workers, math.floor(of_cpus * 1e4) / 1e4, of_gpu, threads=max(1, int(cpus // workers)))


@dataclass(frozen=True)
class Ray(Engine):
    """The engine that solves the chunks of a file on a cluster of Ray.

    Each worker reads the chunks that it solves, so the file must be readable from every machine. The answers come back
    to this process in their order, and it writes them. They are those of `InProcess` to rounding.

    Args:
        address: of a cluster, such as ``"auto"`` or ``"ray://head:10001"``. By default one is started on this machine,
            and stopped at the end; a connection that the process has already is used as it is.
        workers: the number of workers; by default one for each GPU (``"cuda"``) or core of the cluster.
        device: ``"cpu"`` or ``"cuda"``, which this process need not have; by default that of the solver.

    Raises:
        ValueError: if ``workers`` is not a whole number of 1 or more.

    Examples:
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from energysolve import EnergySolver, Zeros
        >>> from energysolve.energies import Bowl
        >>> from energysolve.streaming.cluster import Ray
        >>> from energysolve.streaming.solve import solve_file
        >>> np.savez("problems.npz", x=np.array([[1.0, 2.0], [3.0, 4.0]]))
        >>> solver = EnergySolver(Bowl(), init=Zeros((2,)))
        >>> summary = solve_file(solver, Path("problems.npz").resolve(), "answers.npz", engine=Ray(workers=1))
        >>> np.load("answers.npz")["y"].round(3).tolist()
        [[1.0, 2.0], [3.0, 4.0]]
    """

    address: str | None = None
    workers: int | None = None
    device: str | None = None

    def __post_init__(self):
        if self.workers is not None:
            check_whole("Ray", least=1, workers=self.workers)

    def __call__(self, chunks: Chunks, firsts: Sequence[int]) -> Iterator[Mapping[str, np.ndarray]]:
        """Solve chunks.

        Raises:
            ConnectionError: if there is no cluster at the address, or it is lost.
            RuntimeError: if rows are missing or come twice.
        """
        if not chunks.problems.rows:
            yield chunks(0)  # nothing that a dataset could hold
            return
        device = self.device or kind_of(chunks.solver)[1].type
        with _connected(self.address), _quiet(), _own_errors():
            held = ray.put(_movable(chunks))  # this reference keeps it for workers that are replaced
            items = [{"first": first} for first in firsts]
            if not items:
                return
            dataset = ray.data.from_items(items, override_num_blocks=min(len(items), _BLOCKS))
            answers = _mapped(dataset, _FileWorker, held, (), None, self.workers, device)
            expected = firsts[0]
            for batch in answers.iter_batches(batch_size=chunks.size, batch_format="numpy", prefetch_batches=1):
                rows = batch.pop(_ROW)
                if not np.array_equal(rows, np.arange(expected, expected + len(rows))):
                    raise RuntimeError(f"Answers from row {expected} on are missing, or came twice.")
                expected += len(rows)
                yield batch
            if expected != chunks.problems.rows:
                raise RuntimeError(f"Answers from row {expected} on are missing.")


def solve_dataset(
    solver: EnergySolver,
    dataset: Any,
    *,
    problem: Problem = _COLUMN,
    chunk: int = 1024,
    seed: int = 0,
    workers: int | None = None,
    device: str | None = None,
) -> Any:
    """Solve the problems in the rows of a dataset of Ray Data, wherever its blocks are.

    Args:
        solver: any solver; it is sent to the workers by Ray, an energy class of the user's included. What it imports
            must be installed there.
        dataset: the problems.
        problem: how rows become problems: `Columns`, `Graphs`, or a function of a `pyarrow.Table`.
        chunk: the number of problems solved together.
        seed: determines the initial answers of each chunk, together with its problems.
        workers: the number of workers; by default one for each GPU (``"cuda"``) or core of the cluster.
        device: ``"cpu"`` or ``"cuda"``; by default that of the solver.

    Returns:
        A dataset of the same rows with the columns ``y``, ``energy``, ``steps`` and ``status`` beside those that came
        in. ``y`` holds lists; those of a graph have one entry for each edge. Answers that are trees of tensors have
        columns such as ``y.a``. Nothing is solved before the dataset is used.

    Raises:
        ValueError: for ``"cuda"`` on a cluster without a GPU; and where the dataset is used, if it lacks a column, or
            has one with the name of an answer.

    Examples:
        >>> import ray
        >>> from energysolve import EnergySolver, Zeros
        >>> from energysolve.energies import Bowl
        >>> from energysolve.streaming.cluster import solve_dataset
        >>> problems = ray.data.from_items([{"id": 7, "x": [1.0, 2.0]}, {"id": 8, "x": [3.0, 4.0]}])
        >>> answers = solve_dataset(EnergySolver(Bowl(), init=Zeros((2,))), problems, workers=1)
        >>> sorted((row["id"], [round(entry, 3) for entry in row["y"]]) for row in answers.take_all())
        [(7, [1.0, 2.0]), (8, [3.0, 4.0])]
    """
    check_whole("solve_dataset", least=1, chunk=chunk, **({} if workers is None else {"workers": workers}))
    if not ray.is_initialized():
        raise ConnectionError("Ray is not running here: call ray.init() first.")
    solver = solver.replace(differentiation=Detached(), recorder=Nothing())
    held = ray.put((_on_cpu(solver), problem))
    return _mapped(dataset, _RowsWorker, held, (seed,), chunk, workers, device or kind_of(solver)[1].type)


class _FileWorker:
    """Solves chunks of a file, each named by its first row."""

    def __init__(self, held: list[Any], paths: Sequence[str], threads: int, device: str):
        _prepare(paths, threads)
        self._chunks: Chunks = ray.get(held[0])
        self._chunks.solver = self._chunks.solver.to(device)

    def __call__(self, batch: Mapping[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        for first in batch["first"].tolist():
            with _failing():
                found = self._chunks(first)
            yield {_ROW: np.arange(first, first + len(found["status"])), **found}


class _RowsWorker:
    """Solves the problems in the rows of a table."""

    def __init__(self, held: list[Any], paths: Sequence[str], threads: int, device: str, seed: int):
        _prepare(paths, threads)
        solver, self._problem = ray.get(held[0])
        self._solver, self._seed = solver.to(device), seed

    def __call__(self, table: Any) -> Any:
        return solve_rows(self._solver, table, self._problem, self._seed)


def _prepare(paths: Sequence[str], threads: int) -> None:
    """Let a worker import what the process imports that sent the solver."""
    sys.path += [path for path in paths if path not in sys.path]
    torch.set_num_threads(threads)


def _mapped(
    dataset: Any, worker: type, held: Any, more: tuple[Any, ...], size: int | None, workers: int | None, device: str
) -> Any:
    """The dataset through a pool of workers, in its order."""
    found = ray.cluster_resources()
    share = shares(found.get("CPU", 1), found.get("GPU", 0), workers, device)
    dataset.context.execution_options.preserve_order = True
    return dataset.map_batches(
        worker,
        fn_constructor_args=([held], [path or os.getcwd() for path in sys.path], share.threads, device, *more),
        batch_size=size,
        batch_format="numpy" if size is None else "pyarrow",
        compute=ray.data.ActorPoolStrategy(size=share.workers),
        num_cpus=share.cpus,
        num_gpus=share.gpus or None,
    )


def _movable(chunks: Chunks) -> Chunks:
    moved = copy.copy(chunks)
    moved.solver = _on_cpu(chunks.solver)
    return moved


def _on_cpu(solver: EnergySolver) -> EnergySolver:
    """The solver on the CPU, from where every worker can take it to its own device."""
    return solver if kind_of(solver)[1].type == "cpu" else copy.deepcopy(solver).cpu()


@contextmanager
def _connected(address: str | None) -> Iterator[None]:
    if ray.is_initialized():
        yield
        return
    local: dict[str, Any] = {"include_dashboard": False, "object_store_memory": _STORE} if address is None else {}
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **local)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConnectionError(f"There is no Ray cluster at {address or 'this machine'}: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _quiet() -> Iterator[None]:
    """The command has a progress bar of its own."""
    context, logger = ray.data.DataContext.get_current(), logging.getLogger("ray.data")
    bars, level = context.enable_progress_bars, logger.level
    context.enable_progress_bars = False
    logger.setLevel(logging.CRITICAL)  # the error itself is raised
    try:
        yield
    finally:
        context.enable_progress_bars = bars
        logger.setLevel(level)


class _WorkerError(Exception):
    """Carries the error of a worker, ``args[0]``, which Ray would otherwise amend."""


@contextmanager
def _failing() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise _WorkerError(error) from error


@contextmanager
def _own_errors() -> Iterator[None]:
    """Raise what went wrong in a worker as it was raised there."""
    try:
        yield
    except (RayError, _WorkerError) as error:
        cause: BaseException | None = error
        while isinstance(cause, RayTaskError) or not isinstance(cause, _WorkerError | None):
            cause = cause.cause if isinstance(cause, RayTaskError) else cause.__cause__
        if cause is not None:
            raise cause.args[0] from error
        raise ConnectionError(f"The Ray cluster failed: {error}") from error
