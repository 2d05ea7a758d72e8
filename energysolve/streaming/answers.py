"""Files of answers, written a block of rows at a time so that a run that is killed can go on.

Beside the file to be written stands a folder ``<file>.partial`` with the bytes of each array and ``progress.json``: how
many rows are valid, and the settings that they came from. Rows are written where they belong, made durable, and only
then counted, so whatever lies beyond the counted rows is written again. The file itself appears whole at the end.
"""

import json
import os
import reprlib
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..files import write_atomic
from ..solution import Status

ARRAYS = ("y", "energy", "steps", "status")
FORMAT_VERSION = 1

_PROGRESS = "progress.json"
_WHOLE = "whole.tmp"
_OWN = (_PROGRESS, f".{_PROGRESS}.*.tmp", _WHOLE, *(f"{name}.raw" for name in ARRAYS))
_BLOCK = 1024
"""Rows of a table that are written at a time."""


class AnswerFile:
    """A ``.npz`` or ``.csv`` file of answers in the making.

    Args:
        output: the file.
        resume: go on with what a run that was interrupted has left, if there is something.
        overwrite: replace an existing file, and drop what an interrupted run has left.

    Attributes:
        folder: where the answers are kept until the file is whole.
        rows: how many answers are kept there.

    Raises:
        FileExistsError: if there is something that is neither to be gone on with nor overwritten.
        ValueError: if the file is of another kind, or if the arguments contradict each other.
    """

    def __init__(self, output: Path, *, resume: bool, overwrite: bool):
        writers = {".npz": self._write_arrays, ".csv": self._write_table}
        if output.suffix.lower() not in writers:
            raise ValueError(f"Answers are written to {' or '.join(writers)} files; got {output}.")
        if resume and overwrite:
            raise ValueError("resume goes on with an interrupted run and overwrite drops it: choose one of them.")
        self.folder = output.with_name(f"{output.name}.partial")
        self.rows = 0
        self._output, self._write, self._overwrite = output, writers[output.suffix.lower()], overwrite
        self._kinds: dict[str, tuple[np.dtype, tuple[int, ...]]] = {}
        self._settings: Any = None
        if output.is_dir():
            raise FileExistsError(f"{output} is a folder; name a file for the answers.")
        interrupted = (self.folder / _PROGRESS).exists()
        if interrupted and not (resume or overwrite):
            raise FileExistsError(
                f"{self.folder} keeps the answers of a run that was interrupted. Go on with it by resume=True "
                "(--resume), or drop it by overwrite=True (--overwrite)."
            )
        # An interrupted run was free to write the file, and may have been killed just after doing so.
        if output.exists() and not (overwrite or interrupted):
            if resume:
                self._remove_folder()  # of a run that was killed while it did just this
            raise FileExistsError(f"{output} exists. Choose another output, or pass overwrite=True (--overwrite).")

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Make the folder, or find the rows in it that are valid.

        Args:
            settings: everything that the answers depend on, JSON-able.

        Raises:
            ValueError: if the answers in the folder came from other settings or are damaged.
            OSError: if the folder cannot be written to.
        """
        self._settings = json.loads(json.dumps(settings))  # as it will be read
        if self._overwrite:
            self._remove_folder()
        self.folder.mkdir(parents=True, exist_ok=True)
        if (self.folder / _PROGRESS).exists():
            self._continue()

    def append(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep the next rows of every array; they count once they are all on disk.

        Raises:
            OSError: if they cannot be written; the rows kept before stay valid.
        """
        kinds = {name: (array.dtype, array.shape[1:]) for name, array in arrays.items()}
        if self._kinds and kinds != self._kinds:
            raise ValueError(f"Answers changed their kind from {self._kinds} to {kinds} after {self.rows} rows.")
        with self._keeping():
            self._kinds = kinds
            for name, array in arrays.items():
                path = self.folder / f"{name}.raw"
                path.touch()
                with open(path, "r+b") as file:
                    file.seek(self._size(name))
                    file.write(array.tobytes())
                    file.flush()
                    os.fsync(file.fileno())
            self.rows += len(arrays["status"])
            self._save_progress()

    def counts(self) -> dict[Status, int]:
        """How many of the answers ended with each status."""
        counts = np.zeros(len(Status), dtype=np.int64)
        for (status,) in self._blocks(("status",)):
            counts += np.bincount(status, minlength=len(Status))
        return {status: int(counts[status]) for status in Status}

    def finish(self) -> None:
        """Write the file, whole, and remove the folder.

        Raises:
            OSError: if it cannot be written; the answers are still in the folder.
        """
        with self._keeping():
            with open(self.folder / _WHOLE, "wb") as file:
                self._write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(self.folder / _WHOLE, self._output)
        self._remove_folder()

    def _write_arrays(self, file: IO[bytes]) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, (dtype, row_shape) in self._kinds.items():
                header = {
                    "descr": np.lib.format.dtype_to_descr(dtype),
                    "fortran_order": False,
                    "shape": (self.rows, *row_shape),
                }
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array_header_1_0(member, header)
                    for content in _contents(self.folder / f"{name}.raw", self._size(name)):
                        member.write(content)

    def _write_table(self, file: IO[bytes]) -> None:
        columns = int(np.prod(self._kinds["y"][1]))
        file.write((",".join([*(f"y{column}" for column in range(columns)), *ARRAYS[1:]]) + "\n").encode())
        for y, *rest in self._blocks(ARRAYS):
            for answer, *numbers in zip(y.reshape(len(y), columns), *rest, strict=True):
                # str of a NumPy number is the shortest text that reads back as the same number.
                file.write((",".join(map(str, [*answer, *numbers])) + "\n").encode())

    def _blocks(self, names: tuple[str, ...]) -> Iterator[list[np.ndarray]]:
        """The kept rows of some arrays, a block at a time."""
        for first in range(0, self.rows, _BLOCK):
            count = min(_BLOCK, self.rows - first)
            block = []
            for name in names:
                dtype, shape = self._kinds[name]
                content = np.fromfile(
                    self.folder / f"{name}.raw", dtype, count * int(np.prod(shape)), offset=self._size(name, first)
                )
                block.append(content.reshape(count, *shape))
            yield block

    def _size(self, name: str, rows: int | None = None) -> int:
        """The bytes that some rows of an array take; by default all that are kept."""
        dtype, shape = self._kinds[name]
        return (self.rows if rows is None else rows) * int(np.prod(shape)) * dtype.itemsize

    def _save_progress(self) -> None:
        kinds = {name: [dtype.str, list(shape)] for name, (dtype, shape) in self._kinds.items()}
        progress = {"format_version": FORMAT_VERSION, "rows": self.rows, "arrays": kinds, "settings": self._settings}
        write_atomic(self.folder / _PROGRESS, json.dumps(progress, indent=1).encode())

    def _continue(self) -> None:
        path = self.folder / _PROGRESS
        try:
            progress = json.loads(path.read_text(encoding="utf-8"))
            version, rows, settings = progress["format_version"], progress["rows"], progress["settings"]
            kinds = {name: (np.dtype(kind), tuple(shape)) for name, (kind, shape) in progress["arrays"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is damaged ({error}). Start again with overwrite=True (--overwrite).") from error
        if version != FORMAT_VERSION or settings != self._settings:
            other = (
                f"format version {version!r}" if version != FORMAT_VERSION else _differences(settings, self._settings)
            )
            raise ValueError(
                f"{self.folder} keeps the answers of a run with other settings: {other}. Give the same ones to go on "
                "with it, or start again with overwrite=True (--overwrite)."
            )
        self.rows, self._kinds = rows, kinds
        for name in kinds if rows else ():
            raw = self.folder / f"{name}.raw"
            if not raw.is_file() or raw.stat().st_size < self._size(name):
                raise ValueError(f"{raw} has lost answers. Start again with overwrite=True (--overwrite).")

    def _remove_folder(self) -> None:
        """Remove what this class writes, the progress first, and the folder if nothing else is in it."""
        for pattern in _OWN:
            for path in self.folder.glob(pattern):
                path.unlink()
        with suppress(OSError):
            self.folder.rmdir()

    @contextmanager
    def _keeping(self) -> Iterator[None]:
        kept = self.rows
        try:
            yield
        except OSError as error:
            raise OSError(
                f"Cannot write {error.filename or self.folder}: {error.strerror or error}. The first {kept} answers "
                f"are kept in {self.folder}; when this is mended, go on by resume=True (--resume)."
            ) from error


def _contents(path: Path, size: int) -> Iterator[bytes]:
    """The first bytes of a file, some at a time."""
    with open(path, "rb") as file:
        while size:
            content = file.read(min(size, 1 << 20))
            if not content:
                raise OSError(f"{size} bytes are missing at the end of {path}")
            yield content
            size -= len(content)


def _differences(then: Any, now: Any) -> str:
    then, now = _flat(then), _flat(now)
    shown = reprlib.Repr()
    names = [name for name in {**then, **now} if then.get(name) != now.get(name)]
    return ", ".join(f"{name} ({shown.repr(then.get(name))} then, {shown.repr(now.get(name))} now)" for name in names)


def _flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(settings, dict):
        return {prefix.rstrip("."): settings}
    return {key: value for name in settings for key, value in _flat(settings[name], f"{prefix}{name}.").items()}
