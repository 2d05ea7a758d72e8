"""Files of answers, written a block of rows at a time, so that a run that is killed can be resumed.

Until the file is complete, a folder ``<file>.partial`` beside it holds the bytes of each array and ``progress.json``:
the number of valid rows, and the settings from which they were computed. Rows are flushed to disk before they are
counted; bytes beyond the counted rows are overwritten. The file itself appears whole at the end.
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

from ..files import write_json
from ..solution import Status

ARRAYS = ("y", "energy", "steps", "status")
FORMAT_VERSION = 1

_PROGRESS = "progress.json"
_WHOLE = "whole.tmp"
_OWN = (_PROGRESS, f".{_PROGRESS}.*.tmp", _WHOLE, *(f"{name}.raw" for name in ARRAYS))
_BLOCK = 1024
"""Rows of a table written at a time."""


class AnswerFile:
    """A ``.npz`` or ``.csv`` file of answers that is being written.

    Args:
        output: the file.
        resume: continue an interrupted run, if there is one.
        overwrite: replace an existing file, and discard an interrupted run.

    Attributes:
        folder: holds the answers until the file is complete.
        rows: the number of answers in the folder.

    Raises:
        FileExistsError: if the file or an interrupted run exists, and is neither resumed nor overwritten.
        ValueError: if the file is of another kind, or if both ``resume`` and ``overwrite`` are given.
    """

    def __init__(self, output: Path, *, resume: bool, overwrite: bool):
        writers = {".npz": self._write_arrays, ".csv": self._write_table}
        if output.suffix.lower() not in writers:
            raise ValueError(f"Answers are written to {' or '.join(writers)} files; got {output}.")
        if resume and overwrite:
            raise ValueError("resume continues an interrupted run and overwrite discards it: choose one of them.")
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
                f"{self.folder} keeps the answers of an interrupted run. Continue it with resume=True (--resume), or "
                "discard it with overwrite=True (--overwrite)."
            )
        # An interrupted run had the permission to write the file, and may have been killed just after writing it.
        if output.exists() and not (overwrite or interrupted):
            if resume:
                self._remove_folder()  # left by a run that was killed while it removed the folder
            raise FileExistsError(f"{output} exists. Choose another output, or pass overwrite=True (--overwrite).")

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Create the folder, or count the valid rows in an existing one.

        Args:
            settings: everything that the answers depend on, as plain JSON.

        Raises:
            ValueError: if the answers in the folder have other settings or are damaged.
            OSError: if the folder cannot be written.
        """
        self._settings = json.loads(json.dumps(settings))  # as it will be read back
        if self._overwrite:
            self._remove_folder()
        self.folder.mkdir(parents=True, exist_ok=True)
        if (self.folder / _PROGRESS).exists():
            self._continue()

    def append(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Write the next rows of every array. They are counted once all of them are on disk.

        Raises:
            OSError: if they cannot be written; earlier rows stay valid.
            ValueError: if the arrays have other dtypes or row shapes than before.
        """
        kinds = {name: (array.dtype, array.shape[1:]) for name, array in arrays.items()}
        if self._kinds and kinds != self._kinds:
            raise ValueError(f"Answers changed from {self._kinds} to {kinds} after {self.rows} rows.")
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
        """The number of answers with each status."""
        counts = np.zeros(len(Status), dtype=np.int64)
        for (status,) in self._blocks(("status",)):
            counts += np.bincount(status, minlength=len(Status))
        return {status: int(counts[status]) for status in Status}

    def finish(self) -> None:
        """Write the whole file, and remove the folder.

        Raises:
            OSError: if it cannot be written; the answers stay in the folder.
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
                # str of a NumPy number is the shortest text from which the same number is read.
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
        """The size in bytes of some rows of an array, by default of all valid ones."""
        dtype, shape = self._kinds[name]
        return (self.rows if rows is None else rows) * int(np.prod(shape)) * dtype.itemsize

    def _save_progress(self) -> None:
        kinds = {name: [dtype.str, list(shape)] for name, (dtype, shape) in self._kinds.items()}
        progress = {"format_version": FORMAT_VERSION, "rows": self.rows, "arrays": kinds, "settings": self._settings}
        write_json(self.folder / _PROGRESS, progress)

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
                f"{self.folder} keeps the answers of a run with other settings: {other}. Use the same settings to "
                "continue it, or start again with overwrite=True (--overwrite)."
            )
        self.rows, self._kinds = rows, kinds
        for name in kinds if rows else ():
            raw = self.folder / f"{name}.raw"
            if not raw.is_file() or raw.stat().st_size < self._size(name):
                raise ValueError(f"{raw} has lost answers. Start again with overwrite=True (--overwrite).")

    def _remove_folder(self) -> None:
        """Remove the files of this class, the progress first, and then the folder if it is empty."""
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
                f"are kept in {self.folder}; once the cause is removed, continue with resume=True (--resume)."
            ) from error


def _contents(path: Path, size: int) -> Iterator[bytes]:
    """The first bytes of a file, a buffer at a time."""
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
