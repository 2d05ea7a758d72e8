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

from ..files import suffix_of

_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError)
_BUFFER = 1 << 18
"""Bytes read at a time for a checksum, or to skip them."""
_SUFFIXES = (".npz", ".npy", ".csv")
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


def open_problems(
    path: str | Path, *, header: bool | None = None, index: bool | None = None, missing: bool = False
) -> ProblemFile:
    """Open a file of problems and check it; for the formats see `energysolve.streaming.solve.solve_file`.

    A table is read to its end, so that an invalid line is reported before anything is solved. Memory use does not grow
    with the file::

        problems = open_problems("problems.csv")
        print(problems.rows, problems.row_shape)
        solve_file(solver, problems, "answers.npz")  # does not check the table a second time

    Args:
        path: the file.
        header: whether the first line of a table holds names. By default it does if none of them is a number; where the
            names may be the numbers 0, 1, 2, ..., or years, the table is refused.
        index: whether the first column of a table holds the names of the rows, which are no part of the problems. By
            default it does not; a table that looks as if it did is refused.
        missing: read empty fields, and NA, as NaN.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is of another kind, damaged, ambiguous, or holds anything but rows of real numbers.
    """
    path = Path(path)
    if suffix_of(path, _SUFFIXES, "Problems") == ".csv":
        return TableFile(path, header, index, missing)
    if header is not None or index is not None:
        raise ValueError(f"header and index are for tables; {path} is an array.")
    if not path.stat().st_size:
        raise ValueError(f"{path} is empty: it has no byte, and so no array. Was it written to its end?")
    return ArrayFile(path)


class ArrayFile(ProblemFile):
    """The array in a ``.npy`` file, or in an ``.npz`` file the array ``x`` or the only one.

    An array in Fortran order, as pandas makes them, does not hold one problem after the other. That of an ``.npz`` file
    is read as a whole.
    """

    def __init__(self, path: Path):
        super().__init__(path)
        with self._open() as (stream, size):
            shape, self._dtype, self._fortran = self._header(stream)
            self.rows, *rest = shape
            self.row_shape = tuple(rest)
            self._row_bytes = math.prod(rest) * self._dtype.itemsize
            if size != stream.tell() + self.rows * self._row_bytes:
                raise ValueError(f"{path} is truncated, or holds more than its array of shape {shape}.")

    def _blocks(self, start: int, size: int) -> Iterator[np.ndarray]:
        if self._fortran:
            whole = self._whole()
            for first in range(start, max(self.rows, 1), size):
                yield np.ascontiguousarray(whole[first : first + size])
            return
        with self._open() as (stream, _):
            self._header(stream)
            before = start * self._row_bytes
            for at in range(0, before, _BUFFER):  # an archive can only be read from its beginning
                self._take(stream, min(_BUFFER, before - at))
            for first in range(start, max(self.rows, 1), size):
                count = min(size, self.rows - first)
                yield np.ndarray((count, *self.row_shape), self._dtype, self._take(stream, count * self._row_bytes))

    def _whole(self) -> np.ndarray:
        shape = (self.rows, *self.row_shape)
        with self._open() as (stream, _):
            self._header(stream)
            if self.path.suffix.lower() == ".npy" and self.rows:
                return np.memmap(self.path, self._dtype, "r", stream.tell(), shape, "F")
            return np.ndarray(shape, self._dtype, self._take(stream, self.rows * self._row_bytes), order="F")

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

    def _header(self, stream) -> tuple[tuple[int, ...], np.dtype, bool]:
        """Shape, dtype and order of an array of real numbers; leaves the stream at the beginning of its content."""
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
        if wrong:
            raise ValueError(f"{self.path} holds {wrong}")
        return shape, dtype, fortran


class TableFile(ProblemFile):
    """A ``.csv`` file: numbers separated by commas, one problem per line, with or without a line of column names.

    One pass on opening checks every line, counts rows, and computes the checksum. It also keeps the positions of some
    lines, from which `blocks` can start to read. The arguments are those of `open_problems`.

    Attributes:
        names: the names of all columns in the first line; None if it is a problem.
    """

    def __init__(self, path: Path, header: bool | None = None, index: bool | None = None, missing: bool = False):
        super().__init__(path)
        self.rows, self.row_shape = 0, (0,)  # of a file without a line
        self.names: list[str] | None = None
        self._header, self._index, self._missing = header, bool(index), missing
        self._columns, self._numbered = 0, index is None  # whether the first column counts the lines
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
        if self._numbered and self.rows >= _COUNTED and self._columns > 1:
            raise self._ambiguous(f"the first column is 0, 1, ..., {self.rows - 1}", _INDEX)

    def digest(self) -> str:
        return self._digest

    def labels(self) -> list[str]:
        """The first column, if it holds the names of the rows; otherwise nothing."""
        if not self._index:
            return []
        lines = (line for line in self._lines(self._marks[0] if self._marks else 0) if line.strip())
        return [line.split(",", 1)[0].strip() for line in islice(lines, self.rows)]

    def _check(self, number: int, line: str, position: int) -> None:
        """Count a line that is not blank, or take the first one as the names of the columns."""
        if not self._columns:
            fields = line.split(",")
            self._columns = len(fields)
            self.row_shape = (self._columns - self._index,)
            if self._holds_names(fields):
                self.names = [field.strip() for field in fields]
                return
        try:
            values = self._numbers(line)
        except ValueError as error:
            raise ValueError(f"{self.path}, line {number}: {error}") from None
        self._numbered = self._numbered and values[:1] == [self.rows]
        if self.rows % self._stride == 0:
            self._marks.append(position)
        self.rows += 1
        if len(self._marks) > _MARKS:
            self._marks, self._stride = self._marks[::2], 2 * self._stride

    def _holds_names(self, fields: list[str]) -> bool:
        """Whether the first line holds names; raises if that, or an index column, cannot be told."""
        if self._header is False:
            return False
        first, own = _bare(fields[0]).lower(), fields[self._index :]
        if self._numbered and len(fields) > 1 and first in ("", "unnamed: 0", "index"):
            rest = fields[1:]
            if first or not self._missing or _are_counted(rest) or any(map(self._is_word, rest)):
                raise self._ambiguous(f"the first line begins with {_bare(fields[0]) or 'an empty name'!r}", _INDEX)
        if self._header is None and _are_counted(own):
            shown = ",".join(map(_bare, own[:3])) + (",..." if len(own) > 3 else "")
            raise self._ambiguous(f"the first line is {shown}", _HEADER)
        if self._header is not None:
            return self._header
        numbers = [field for field in own if _is_number(field) and not (self._missing and _is_missing(field))]
        return not numbers and any(map(self._is_word, own))

    def _is_word(self, field: str) -> bool:
        return not _is_number(field) and not (self._missing and _is_missing(field))

    def _ambiguous(self, found: str, advice: str) -> ValueError:
        return ValueError(f"{self.path}: {found}. {advice}")

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
        if len(fields) != self._columns:
            raise ValueError(f"{len(fields)} entries, where the first line has {self._columns}.")
        fields = fields[self._index :]
        try:
            return list(map(float, fields))
        except ValueError:
            if self._missing:
                fields = ["nan" if _is_missing(field) else field for field in fields]
            if wrong := [field for field in fields if not _is_number(field)]:
                others = [name for name, mark in _MARKS_BETWEEN.items() if mark in line.strip()]
                hint = f" Is the table separated by {others[0]}? Use commas." if others and self._columns == 1 else ""
                raise ValueError(f"{wrong[0].strip()[:40]!r} is not a number.{hint}") from None
            return list(map(float, fields))


_MARKS_BETWEEN = {"semicolons": ";", "tabs": "\t", "spaces": " "}
_COUNTED = 3
"""From so many lines on, a first column 0, 1, 2, ... is taken for the names of the rows."""
_YEARS = range(1900, 2101)
_HEADER = (
    "These may be names of columns, as pandas writes them by default, or a problem. Say which: header=True (--header) "
    "for names, header=False (--no-header) for a problem."
)
_INDEX = (
    "The first column seems to hold names of the rows, as pandas' to_csv() writes them by default. Write the table "
    "with to_csv(index=False), or say what the column is: index=True (--index) for names, index=False (--no-index) for "
    "a part of the problems."
)


def _are_counted(fields: list[str]) -> bool:
    """Whether the fields are 0, 1, 2, ..., or consecutive years, and so may be names."""
    texts = list(map(_bare, fields))
    if not all(text.isdecimal() for text in texts):
        return False
    first = int(texts[0])
    whole = list(map(int, texts)) == list(range(first, first + len(texts)))
    return whole and (first == 0 or (len(texts) > 1 and first in _YEARS and first + len(texts) - 1 in _YEARS))


def _is_missing(text: str) -> bool:
    return _bare(text).lower() in ("", "na", "nan", "n/a", "null")


def _bare(text: str) -> str:
    return text.strip().strip('"')


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
