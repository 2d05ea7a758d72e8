"""What is fuzzed: the readers of files, each with valid files from which damaged ones are made.

A reader may refuse a file by the errors that its documentation names, and by no other exception.
"""

import hashlib
import io
import itertools
import json
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import torch
from scipy import sparse

from energysolve import (
    SGD,
    Box,
    EnergyChange,
    EnergySolver,
    GradientNorm,
    MLPEnergy,
    Projected,
    Trainer,
    Truncated,
    Uniform,
)
from energysolve.baselines import files as baseline_files
from energysolve.baselines.feedforward import Feedforward
from energysolve.streaming.answers import AnswerFile
from energysolve.streaming.graphs import read_graph
from energysolve.streaming.problems import open_problems
from energysolve.tasks import Addition
from energysolve.training.checkpoints import CheckpointError, Checkpoints, encode
from energysolve.training.config import TrainingConfig
from energysolve.training.state import restore, snapshot

BLOCKS = 20
"""The most blocks of a file that are read."""


@dataclass(frozen=True)
class Target:
    """A reader: ``read(content, folder)`` reads a file with this content; ``seeds()`` gives valid contents."""

    read: Callable[[bytes, Path], Any]
    seeds: Callable[[], list[bytes]]
    errors: tuple[type[Exception], ...] = (ValueError,)


def _problems(suffix: str, **options: Any) -> Callable[[bytes, Path], None]:
    def read(content: bytes, folder: Path) -> None:
        path = folder / f"p{suffix}"
        path.write_bytes(content)
        opened = open_problems(path, **options)
        for block in itertools.islice(opened.blocks(min(1, opened.rows), 3), BLOCKS):
            block.astype(np.float64)
        for kept in itertools.islice(opened.kept_blocks(3), BLOCKS):
            for column in kept.values():
                column if isinstance(column, list) else column.to_pylist()

    return read


def _first_of(*readers: Callable[[bytes, Path], None]) -> Callable[[bytes, Path], None]:
    """One of the readers, chosen by the content."""
    return lambda content, folder: readers[sum(content[-8:]) % len(readers)](content, folder)


X = np.random.default_rng(0).uniform(-1, 1, (7, 3))


def _npy(x: Any = X) -> bytes:
    content = io.BytesIO()
    np.save(content, x, allow_pickle=True)
    return content.getvalue()


def _npz(compression: int = zipfile.ZIP_DEFLATED, **arrays: Any) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive:
        for name, x in (arrays or {"x": X}).items():
            archive.writestr(f"{name}.npy", _npy(x))
    return content.getvalue()


def _arrays() -> list[bytes]:
    objects = np.array([[print] * 3], dtype=object)
    stored = _npz(zipfile.ZIP_STORED)
    return [_npz(), stored, _npz(x=np.asfortranarray(X)), _npz(zipfile.ZIP_LZMA), _npz(a=X, x=objects)]


def _columns(suffix: str) -> list[bytes]:
    import pyarrow as pa
    from pyarrow import ipc, parquet

    key = pa.array([f"k{i}" for i in range(7)])
    tables = [
        pa.table({"id": key, "x": X.tolist()}),
        pa.table({"id": key.dictionary_encode(), "x": pa.array(X.tolist(), pa.list_(pa.float32(), 3))}),
        pa.table({"a": X[:, 0], "b": X[:, 1], "id": key}),
        pa.table({"x": [[[1, None], [2, 3]], None, [[1, 2], [3, 4]]]}),
        pa.table({"x": pa.FixedShapeTensorArray.from_numpy_ndarray(X), "s": [{"a": [1]}] * 7}),
    ]
    made = []
    for number, table in enumerate(tables):
        content = io.BytesIO()
        if suffix == ".parquet":
            parquet.write_table(table, content, row_group_size=3, compression=("snappy", "zstd", "none")[number % 3])
        else:
            options = ipc.IpcWriteOptions(compression=("lz4", "zstd", None)[number % 3])
            with ipc.new_file(content, table.schema, options=options) as writer:
                writer.write_table(table, max_chunksize=3)
        made.append(content.getvalue())
    return made


TABLES = [
    b"id,a,b\nk0,1,2\nk1,3.5,-4e3\n",
    b'"id",a,b\r\n"k,0",1,2\r\n"k""1",nan,inf\r\n',
    b"1,2\n3,4\n",
    "\ufeffid;a\n\n0;1\n".encode(),
    b",a,b\n0,1,2\n1,3,4\n2,5,6\n",
]


def _read_graph(suffix: str) -> Callable[[bytes, Path], None]:
    def read(content: bytes, folder: Path) -> None:
        path = folder / f"g{suffix}"
        path.write_bytes(content)
        graph = read_graph(path)
        from energysolve.user_graphs import to_batch

        if (graph.number_of_nodes() if isinstance(graph, nx.Graph) else graph.shape[0]) < 10_000:
            to_batch(graph)

    return read


def _graphml() -> list[bytes]:
    graph = nx.Graph()
    graph.add_weighted_edges_from([("a", "b", 1.0), ("b", "c", 2.5)])
    return ["\n".join(nx.generate_graphml(graph)).encode(), "\n".join(nx.generate_graphml(nx.DiGraph(graph))).encode()]


def _matrices() -> list[bytes]:
    made = []
    for form in ("csr", "csc", "coo", "dia", "bsr"):
        content = io.BytesIO()
        sparse.save_npz(content, sparse.random(5, 5, 0.5, form, rng=0), compressed=form != "csr")
        made.append(content.getvalue())
    return made


SETTINGS = {"chunk": 3}


def _read_answers(content: bytes, folder: Path) -> None:
    """``progress.json``, and after a zero byte the content of each array."""
    progress, *arrays = content.split(b"\0PART\0")
    partial = folder / "a.csv.partial"
    partial.mkdir(exist_ok=True)
    (partial / "progress.json").write_bytes(progress)
    for name, part in zip(("y", "energy", "steps", "status"), arrays, strict=False):
        (partial / f"{name}.raw").write_bytes(part)
    answers = AnswerFile(folder / "a.csv", resume=True, overwrite=False)
    answers.begin(SETTINGS)
    answers.counts()
    answers.measured("energy")
    path = folder / "p.npy"
    path.write_bytes(_npy(np.zeros((1, 1))))
    answers.finish(open_problems(path))


def _answers() -> list[bytes]:
    with tempfile.TemporaryDirectory() as name:
        answers = AnswerFile(Path(name) / "a.csv", resume=False, overwrite=False)
        answers.begin(SETTINGS)
        y, whole = X.astype(np.float32), np.zeros(7, np.int64)
        answers.append({"y": y, "energy": y[:, 0], "steps": whole, "status": whole})
        parts = [(answers.folder / name).read_bytes() for name in ("progress.json", "y.raw", "energy.raw")]
        return [b"\0PART\0".join([*parts, whole.tobytes(), whole.tobytes()])]


def _trainer() -> Trainer:
    torch.manual_seed(0)
    solver = EnergySolver(MLPEnergy(4, 2, width=3), SGD(1.0), init=Uniform((2,)), max_steps=2)
    trainer = Trainer(solver, Addition(size=2), batch_size=2, train_steps=1, differentiation=Truncated(1), replay=4)
    trainer.state.begin(3)
    return trainer


def _read_checkpoint(content: bytes, folder: Path) -> None:
    checkpoints = Checkpoints(folder)
    checkpoints.path(2).write_bytes(content)
    tensors, rest = checkpoints.load(checkpoints.path(2))
    trainer = _trainer()
    assert trainer.replay is not None
    restore(trainer.state, tensors, rest, trainer.batches.example())


def _checkpoints() -> list[bytes]:
    trainer = _trainer()
    for _ in range(2):
        trainer._iterate()
    return [encode(*snapshot(trainer.state))]


def _solver_folder(config: bytes | None, weights: bytes | None, folder: Path) -> None:
    """Load a solver whose files have these contents; weights get their checksum, as a forger would."""
    made = _saved_solver()
    config = made[0] if config is None else config
    if weights is not None:
        plain = json.loads(config)
        plain["weights"]["sha256"] = hashlib.sha256(weights).hexdigest()
        config = json.dumps(plain).encode()
    (folder / "config.json").write_bytes(config)
    (folder / "model.safetensors").write_bytes(made[1] if weights is None else weights)
    EnergySolver.from_pretrained(folder)


def _saved_solver() -> tuple[bytes, bytes]:
    if not _SAVED:
        torch.manual_seed(0)
        optimizer = Projected(SGD(1.0), Box(-1.0, 1.0))
        criterion = EnergyChange(rtol=0.1).patience(2) | GradientNorm(1e-3)
        solver = EnergySolver(MLPEnergy(4, 2, width=3), optimizer, init=Uniform((2,)), halting=criterion, max_steps=3)
        with tempfile.TemporaryDirectory() as name:
            solver.save_pretrained(name)
            _SAVED.append(((Path(name) / "config.json").read_bytes(), (Path(name) / "model.safetensors").read_bytes()))
    return _SAVED[0]


_SAVED: list[tuple[bytes, bytes]] = []


def _read_training_config(content: bytes, folder: Path) -> None:
    try:
        plain = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError("no JSON") from error
    TrainingConfig.from_json(plain)


def _read_baseline(content: bytes, folder: Path) -> None:
    config, _, weights = content.partition(b"\0PART\0")
    (folder / "config.json").write_bytes(config)
    (folder / "model.safetensors").write_bytes(weights)
    baseline_files.load(folder)


def _baselines() -> list[bytes]:
    with tempfile.TemporaryDirectory() as name:
        baseline_files.save(Feedforward(2, 2, width=3), name)
        return [b"\0PART\0".join((Path(name) / file).read_bytes() for file in ("config.json", "model.safetensors"))]


TARGETS = {
    "npz": Target(_problems(".npz"), _arrays),
    "npy": Target(_problems(".npy"), lambda: [_npy(), _npy(np.asfortranarray(X)), _npy(X.astype(">i2"))]),
    "csv": Target(
        _first_of(
            _problems(".csv"),
            _problems(".csv", keep=["id"]),
            _problems(".csv", index=True, missing=True),
            _problems(".csv", header=False, index=False),
        ),
        lambda: TABLES,
    ),
    "parquet": Target(_problems(".parquet"), lambda: _columns(".parquet")),
    "arrow": Target(_problems(".arrow"), lambda: _columns(".arrow")),
    "edges": Target(_read_graph(".csv"), lambda: [b"# edges\na,b,1.5\nb c 2\n", b"a\tb\n"]),
    "graphml": Target(_read_graph(".graphml"), _graphml),
    "matrix": Target(_read_graph(".npz"), _matrices),
    "answers": Target(_read_answers, _answers),
    "checkpoint": Target(_read_checkpoint, _checkpoints, (CheckpointError,)),
    "weights": Target(lambda content, folder: _solver_folder(None, content, folder), lambda: [_saved_solver()[1]]),
    "config": Target(lambda content, folder: _solver_folder(content, None, folder), lambda: [_saved_solver()[0]]),
    "training": Target(
        _read_training_config, lambda: [json.dumps(TrainingConfig().to_json()).encode()], (ValueError, TypeError)
    ),
    "baseline": Target(_read_baseline, _baselines),
}
