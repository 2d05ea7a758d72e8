"""Files of answers, written a block of rows at a time, so that a run that is killed can be resumed.

Until the file is complete, a folder ``<file>.partial`` beside it holds the bytes of each array and ``progress.json``:
the number of valid rows, and the settings from which they were computed. Rows are flushed to disk before they are
counted; bytes beyond the counted rows are overwritten. The file itself appears whole at the end.
"""

import csv
import io
import json
import math
import os
import re
import reprlib
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import repeat
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..files import write_json
from ..solution import Status
from .base import ProblemFile
from .chunks import ARRAYS

FORMAT_VERSION = 1

_PROGRESS = "progress.json"
_WHOLE = "whole.tmp"
_OWN = (_PROGRESS, f".{_PROGRESS}.*.tmp", _WHOLE, "*.raw")
_BLOCK = 1024
"""Rows that are read back at a time."""


class AnswerFile:
    """A file of answers that is being written; ``rows`` counts the answers on disk so far.

    The arguments and the errors of the constructor are those of `energysolve.streaming.solve.solve_file`.
    """

    def __init__(self, output: Path, *, resume: bool, overwrite: bool):
        writers = {".npz": self._write_arrays, ".csv": self._write_table}
        writers |= dict.fromkeys((".parquet", ".arrow", ".feather"), self._write_columns)
        if output.suffix.lower() not in writers:
            raise ValueError(f"Answers are written to {', '.join(writers)} files; got {output}.")
        if writers[output.suffix.lower()] == self._write_columns:
            _column_writer()  # an ImportError before anything is solved
        if resume and overwrite:
            raise ValueError("resume continues an interrupted run and overwrite discards it: choose one of them.")
        self.folder = output.with_name(f"{output.name}.partial")
        self.rows = 0
        self._output, self._write, self._overwrite = output, writers[output.suffix.lower()], overwrite
        self._kinds: dict[str, np.dtype] = {}  # of one row of each array
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

        Raises:
            ValueError: if the answers in the folder have other ``settings`` (plain JSON) or are damaged.
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
        kinds = {name: np.dtype((array.dtype, array.shape[1:])) for name, array in arrays.items()}
        if self._kinds and kinds != self._kinds:
            raise ValueError(f"Answers changed from {self._kinds} to {kinds} after {self.rows} rows.")
        with self._keeping():
            self._kinds = kinds
            for name, array in arrays.items():
                path = self.folder / f"{name}.raw"
                path.touch()
                with open(path, "r+b") as file:
                    file.seek(self.rows * kinds[name].itemsize)
                    file.write(array.tobytes())
                    file.flush()
                    os.fsync(file.fileno())
            self.rows += len(arrays["status"])
            plain = {name: [kind.base.str, kind.shape] for name, kind in kinds.items()}
            done = {"format_version": FORMAT_VERSION, "rows": self.rows, "arrays": plain, "settings": self._settings}
            write_json(self.folder / _PROGRESS, done)

    def counts(self) -> dict[Status, int]:
        """The number of answers with each status."""
        counts = dict.fromkeys(Status, 0)
        for (found,) in self._blocks(("status",)):
            for status in Status:
                counts[status] += int((found == status).sum())
        return counts

    def measured(self, name: str) -> tuple[float, float]:
        """The mean and the largest of a number, one per answer, over the converged answers; NaN if there are none."""
        total, most, count = 0.0, -math.inf, 0
        for values, status in self._blocks((name, "status")):
            kept = values[status == Status.CONVERGED].astype(np.float64)
            total, count, most = total + kept.sum(), count + len(kept), max([most, *kept])
        return (total / count, most) if count else (math.nan, math.nan)

    def finish(self, problems: ProblemFile) -> None:
        """Write the whole file, and remove the folder. If that raises an OSError, the answers stay in the folder.

        The columns of the problems that are kept are read a second time, and written beside the answers.
        """
        with self._keeping():
            with open(self.folder / _WHOLE, "wb") as file:
                self._write(file, problems)
                file.flush()
                os.fsync(file.fileno())
            os.replace(self.folder / _WHOLE, self._output)
        self._remove_folder()

    def _write_arrays(self, file: IO[bytes], problems: ProblemFile) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, kind in self._kinds.items():
                shape, descr = (self.rows, *kind.shape), np.lib.format.dtype_to_descr(kind.base)
                header = {"descr": descr, "fortran_order": False, "shape": shape}
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array_header_1_0(member, header)
                    for (block,) in self._blocks((name,)):
                        member.write(block.tobytes())

    def _write_table(self, file: IO[bytes], problems: ProblemFile) -> None:
        columns = math.prod(self._kinds["y"].shape)
        names = tuple(self._kinds)  # y first
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*problems.kept, *(f"y{column}" for column in range(columns)), *names[1:]])
        for kept, (y, *rest) in zip(self._kept(problems, _BLOCK), self._blocks(names), strict=True):
            given = zip(*kept.values(), strict=True) if kept else repeat((), len(y))
            for keys, answer, *numbers in zip(given, y.reshape(len(y), columns), *rest, strict=True):
                # str of a NumPy number is the shortest text from which the same number is read.
                writer.writerow([*keys, *map(str, [*answer, *numbers])])
        text.detach()

    def _kept(self, problems: ProblemFile, size: int) -> Iterator[Mapping[str, Any]]:
        """The columns of the problems that are kept, as lists."""
        if not problems.kept:
            yield from repeat({}, -(-self.rows // size))
            return
        for block in problems.kept_blocks(size):
            yield {name: column if isinstance(column, list) else column.to_pylist() for name, column in block.items()}

    def _write_columns(self, file: IO[bytes], problems: ProblemFile) -> None:
        written, kept = _column_writer(), problems.kept
        row = sum(kind.itemsize for kind in self._kinds.values())
        size = max(1, min(1 << 16, written.GROUP_BYTES // row))
        arrays = (dict(zip(self._kinds, found, strict=True)) for found in self._blocks(tuple(self._kinds), size))
        given = problems.kept_blocks(size) if kept else repeat({}, -(-self.rows // size))
        suffix = self._output.suffix.lower()
        written.write_columns(file, suffix, self._kinds, zip(given, arrays, strict=True), kept)

    def _blocks(self, names: tuple[str, ...], size: int = _BLOCK) -> Iterator[list[np.ndarray]]:
        """The valid rows of some arrays, a block at a time."""
        for first in range(0, self.rows, size):
            yield [self._read(name, first, min(size, self.rows - first)) for name in names]

    def _read(self, name: str, first: int, count: int) -> np.ndarray:
        kind = self._kinds[name]
        content = np.fromfile(self.folder / f"{name}.raw", "u1", count * kind.itemsize, offset=first * kind.itemsize)
        return np.ndarray((count, *kind.shape), kind.base, content)

    def _continue(self) -> None:
        path = self.folder / _PROGRESS
        try:
            progress = json.loads(path.read_text(encoding="utf-8"))
            version, rows, settings = progress["format_version"], progress["rows"], progress["settings"]
            kinds = {name: _kind_of(name, *plain) for name, plain in progress["arrays"].items()}
            if type(rows) is not int or rows < 0 or tuple(kinds)[: len(ARRAYS)] != ARRAYS:
                raise ValueError(f"{rows!r} rows of {list(kinds)}")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{path} is damaged ({error}). Start again with overwrite=True (--overwrite).") from error
        same_version = version == FORMAT_VERSION
        if not same_version or settings != self._settings:
            other = _differences(settings, self._settings) if same_version else f"format version {version!r}"
            raise ValueError(
                f"{self.folder} keeps the answers of a run with other settings: {other}. Use the same settings to "
                "continue it, or start again with overwrite=True (--overwrite)."
            )
        self.rows, self._kinds = rows, kinds
        for name, kind in kinds.items() if rows else ():
            raw = self.folder / f"{name}.raw"
            if not raw.is_file() or raw.stat().st_size < rows * kind.itemsize:
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


def _kind_of(name: str, kind: str, shape: list[int]) -> np.dtype:
    """The dtype of one row of an array, from ``progress.json``; a ValueError or TypeError for one that is none."""
    found = np.dtype((kind, tuple(shape)))
    if not name.isidentifier() or found.base.kind not in "fiu" or (shape and name != "y"):
        raise ValueError(f"{name} cannot be {kind} {shape}")
    return found


def _column_writer() -> Any:
    """The module that writes columns; an ImportError without pyarrow."""
    try:
        from . import column_answers
    except ImportError as error:
        raise ImportError("Parquet and Arrow files need pyarrow: pip install 'energysolve[parquet]'.") from error
    return column_answers


def check_kept(output: Path, problems: ProblemFile, names: Collection[str]) -> None:
    """Raise a ValueError for columns of problems that cannot be written beside the answers, the arrays ``names``."""
    suffix = output.suffix.lower()
    if suffix == ".npz":
        if problems.kept and problems.keeps_by_request:
            raise ValueError(f"{output} is a file of arrays; columns are kept in .csv, .parquet and .arrow files.")
        return
    taken = [name for name in problems.kept if name in names or (suffix == ".csv" and re.fullmatch(r"y\d+", name))]
    if taken:
        raise ValueError(
            f"The column {taken[0]!r} of {problems.path} has the name of a column of answers. Rename it, or name the "
            "columns to keep: keep=[...] (--keep)."
        )
    nested = [name for name, kind in problems.kept.items() if suffix == ".csv" and getattr(kind, "num_fields", 0)]
    if nested:
        raise ValueError(f"The column {nested[0]!r} of {problems.path} is nested, which no .csv file can hold.")


def _differences(then: Any, now: Any) -> str:
    then, now = _flat(then), _flat(now)
    shown = reprlib.Repr()
    names = [name for name in {**then, **now} if then.get(name) != now.get(name)]
    return ", ".join(f"{name} ({shown.repr(then.get(name))} then, {shown.repr(now.get(name))} now)" for name in names)


def _flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(settings, dict):
        return {prefix.rstrip("."): settings}
    return {key: value for name in settings for key, value in _flat(settings[name], f"{prefix}{name}.").items()}
