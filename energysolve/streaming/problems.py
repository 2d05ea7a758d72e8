"""Files of problems, read a block of rows at a time: ``.npz``, ``.npy`` and ``.csv``."""

import hashlib
import io
import lzma
import math
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError)
_BUFFER = 1 << 18
"""Bytes read at a time for a checksum, or to skip them."""
_MARKS = 4096
"""The most lines of a table whose positions are kept."""


class ProblemFile(ABC):
    """A file with one problem per row: ``rows`` problems, each of shape ``row_shape``."""

    rows: int
    row_shape: tuple[int, ...]

    def __init__(self, path: Path):
        self.path = path
        self._stamp = self._modified()

    def blocks(self, start: int, size: int) -> Iterator[np.ndarray]:
        """The rows from ``start`` onward, at most ``size`` at a time. A file without rows gives one empty block.

        Raises:
            ValueError: if the file has changed since it was opened, or is damaged.
        """
        if self._modified() != self._stamp:
            raise self._changed()
        yield from self._blocks(start, size)

    def digest(self) -> str:
        """SHA-256 of the file."""
        digest = hashlib.sha256()
        with open(self.path, "rb") as file:
            while content := file.read(_BUFFER):
                digest.update(content)
        return digest.hexdigest()

    @abstractmethod
    def _blocks(self, start: int, size: int) -> Iterator[np.ndarray]: ...

    def _modified(self) -> tuple[int, int]:
        stat = self.path.stat()
        return stat.st_size, stat.st_mtime_ns

    def _changed(self) -> ValueError:
        return ValueError(f"{self.path} has changed since it was opened. Open it again.")


def open_problems(path: str | Path) -> ProblemFile:
    """Open a file of problems and check it; for the formats see `energysolve.streaming.solve.solve_file`.

    A table is read to its end, so that an invalid line is reported before anything is solved. Memory use does not grow
    with the file::

        problems = open_problems("problems.csv")
        print(problems.rows, problems.row_shape)
        solve_file(solver, problems, "answers.npz")  # does not check the table a second time

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is of another kind, damaged, or holds anything but rows of real numbers.
    """
    path = Path(path)
    kinds = {".npz": ArrayFile, ".npy": ArrayFile, ".csv": TableFile}
    if path.suffix.lower() not in kinds:
        raise ValueError(f"Problems are read from {', '.join(kinds)} files; got {path}.")
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    return kinds[path.suffix.lower()](path)


class ArrayFile(ProblemFile):
    """The array in a ``.npy`` file, or in an ``.npz`` file the array ``x`` or the only one."""

    def __init__(self, path: Path):
        super().__init__(path)
        with self._open() as (stream, size):
            shape, self._dtype = self._header(stream)
            self.rows, *rest = shape
            self.row_shape = tuple(rest)
            self._row_bytes = math.prod(rest) * self._dtype.itemsize
            if size != stream.tell() + self.rows * self._row_bytes:
                raise ValueError(f"{path} is truncated, or holds more than its array of shape {shape}.")

    def _blocks(self, start: int, size: int) -> Iterator[np.ndarray]:
        with self._open() as (stream, _):
            self._header(stream)
            before = start * self._row_bytes
            for at in range(0, before, _BUFFER):  # an archive can only be read from its beginning
                self._take(stream, min(_BUFFER, before - at))
            for first in range(start, max(self.rows, 1), size):
                count = min(size, self.rows - first)
                yield np.ndarray((count, *self.row_shape), self._dtype, self._take(stream, count * self._row_bytes))

    def _take(self, stream, size: int) -> bytes:
        content = self._read(stream.read, size)
        if len(content) != size:
            raise ValueError(f"{self.path} ends before its array does.")
        return content

    @contextmanager
    def _open(self) -> Iterator[tuple[Any, int]]:
        """A stream at the beginning of the array, and the number of bytes in it."""
        if self.path.suffix.lower() == ".npy":
            with open(self.path, "rb") as stream:
                yield stream, self.path.stat().st_size
            return
        with self._read(zipfile.ZipFile, self.path) as archive:
            member = self._member(archive)
            with self._read(archive.open, member) as stream:
                yield stream, member.file_size

    def _read(self, function, *arguments) -> Any:
        try:
            return function(*arguments)
        except (*_DAMAGED, RuntimeError) as error:  # a RuntimeError for encryption and for unknown compression
            raise ValueError(f"{self.path} is damaged, or is no .npz file that can be read: {error}") from error

    def _member(self, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
        arrays = {info.filename[: -len(".npy")]: info for info in archive.infolist() if info.filename.endswith(".npy")}
        name = "x" if len(arrays) != 1 else next(iter(arrays))
        if name not in arrays:
            found = f"the arrays {', '.join(arrays)}" if arrays else "no array"
            raise ValueError(f"{self.path} holds {found}; name the array of problems x: numpy.savez(path, x=problems).")
        return arrays[name]

    def _header(self, stream) -> tuple[tuple[int, ...], np.dtype]:
        """Shape and dtype of an array of real numbers; leaves the stream at the beginning of its content."""
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        try:
            # Version 3 is for structured arrays with field names beyond Latin-1.
            shape, fortran, dtype = readers[self._read(np.lib.format.read_magic, stream)](stream)
        except (ValueError, KeyError) as error:
            raise ValueError(
                f"{self.path} does not hold an array of numbers as numpy.save writes it: {error}"
            ) from error
        wrong = None
        if dtype.hasobject:
            wrong = "Python objects, which are never unpickled. Save an array of numbers."
        elif dtype.kind not in "fiu":
            wrong = f"entries of type {dtype}; problems are real numbers."
        elif len(shape) < 2:
            wrong = f"an array of shape {shape}; the first of two or more axes counts problems."
        elif fortran:
            wrong = "its problems in Fortran order, not one after the other. Save numpy.ascontiguousarray(x)."
        if wrong:
            raise ValueError(f"{self.path} holds {wrong}")
        return shape, dtype


class TableFile(ProblemFile):
    """A ``.csv`` file: numbers separated by commas, one problem per line, with or without a line of column names.

    One pass on opening checks every line, counts rows, and computes the checksum. It also keeps the positions of some
    lines, from which `blocks` can start to read.
    """

    def __init__(self, path: Path):
        super().__init__(path)
        self.rows, self.row_shape = 0, (0,)  # of a file without a line
        self._marks, self._stride = [], 1
        digest, end = hashlib.sha256(), 0
        for number, line in enumerate(self._lines(0), start=1):
            content = line.encode()
            digest.update(content)
            end += len(content)
            text = line.removeprefix("\ufeff") if number == 1 else line  # a byte order mark
            if text.strip():
                self._check(number, text, position=end - len(text.encode()))
        self._digest = digest.hexdigest()

    def digest(self) -> str:
        return self._digest

    def _check(self, number: int, line: str, position: int) -> None:
        """Count a line that is not blank; the first one is a header if it contains no number."""
        if not self.row_shape[0]:
            fields = line.split(",")
            self.row_shape = (len(fields),)
            if not any(map(_is_number, fields)):
                return
        try:
            self._numbers(line)
        except ValueError as error:
            raise ValueError(f"{self.path}, line {number}: {error}") from None
        if self.rows % self._stride == 0:
            self._marks.append(position)
        self.rows += 1
        if len(self._marks) > _MARKS:
            self._marks, self._stride = self._marks[::2], 2 * self._stride

    def _blocks(self, start: int, size: int) -> Iterator[np.ndarray]:
        rows = self._rows(start)
        for first in range(start, max(self.rows, 1), size):
            count = min(size, self.rows - first)
            try:
                block = list(islice(rows, count))
            except ValueError as error:
                raise self._changed() from error
            if len(block) != count:
                raise self._changed()
            yield np.array(block, dtype=np.float64).reshape(count, *self.row_shape)

    def _rows(self, start: int) -> Iterator[list[float]]:
        mark, skipped = divmod(start, self._stride)
        lines = (line for line in self._lines(self._marks[mark]) if not line.isspace())
        for line in islice(lines, skipped, None):
            yield self._numbers(line)

    def _lines(self, position: int) -> Iterator[str]:
        """The lines from a position onward, with their line ends unchanged."""
        with open(self.path, "rb") as file, io.TextIOWrapper(file, encoding="utf-8", newline="") as text:
            file.seek(position)
            try:
                yield from text
            except UnicodeDecodeError as error:
                raise ValueError(f"{self.path} is not text in UTF-8: {error}") from error

    def _numbers(self, line: str) -> list[float]:
        fields = line.split(",")
        if len(fields) != self.row_shape[0]:
            raise ValueError(f"{len(fields)} entries, where the first line has {self.row_shape[0]}.")
        try:
            return list(map(float, fields))
        except ValueError:
            wrong = next(field for field in fields if not _is_number(field))
            raise ValueError(f"{wrong.strip()[:40]!r} is not a number.") from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
