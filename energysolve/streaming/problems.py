"""Files of problems, read a block of rows at a time: ``.npz``, ``.npy`` and ``.csv``."""

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
_SKIPPED = 1 << 18
"""Bytes that are read at a time where nothing in them is needed."""


class ProblemFile(ABC):
    """A file with one problem a row.

    Attributes:
        path: of the file.
        rows: how many problems.
        row_shape: the shape of one problem.
    """

    path: Path
    rows: int
    row_shape: tuple[int, ...]

    @abstractmethod
    def blocks(self, start: int, size: int) -> Iterator[np.ndarray]:
        """The rows from ``start`` on, at most ``size`` at a time; a file without rows gives one empty block."""


def open_problems(path: Path) -> ProblemFile:
    """The problems in a file. A table is read through, so that a line that is wrong is told before anything is solved.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is of another kind, damaged, or holds something else than rows of real numbers.
    """
    kinds = {".npz": ArrayFile, ".npy": ArrayFile, ".csv": TableFile}
    if path.suffix.lower() not in kinds:
        raise ValueError(f"{path} is none of the files that can be read: {', '.join(kinds)}.")
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    return kinds[path.suffix.lower()](path)


class ArrayFile(ProblemFile):
    """The array in a ``.npy`` file, or the array ``x`` (or else the only one) in an ``.npz`` file."""

    def __init__(self, path: Path):
        self.path = path
        with self._open() as (stream, size):
            shape, self._dtype = self._header(stream)
            self.rows, *rest = shape
            self.row_shape = tuple(rest)
            self._row_bytes = math.prod(rest) * self._dtype.itemsize
            if size != stream.tell() + self.rows * self._row_bytes:
                raise ValueError(f"{path} is truncated, or has more in it than its array of shape {shape}.")

    def blocks(self, start: int, size: int) -> Iterator[np.ndarray]:
        with self._open() as (stream, _):
            self._header(stream)
            before = start * self._row_bytes
            for at in range(0, before, _SKIPPED):  # an archive can only be read from its beginning
                self._take(stream, min(_SKIPPED, before - at))
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
        """The stream that holds the array, at its beginning, and the number of bytes in it."""
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
            raise ValueError(f"{self.path} is damaged, or no .npz file that can be read: {error}") from error

    def _member(self, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
        arrays = {info.filename[: -len(".npy")]: info for info in archive.infolist() if info.filename.endswith(".npy")}
        name = "x" if len(arrays) != 1 else next(iter(arrays))
        if name not in arrays:
            found = f"the arrays {', '.join(arrays)}" if arrays else "no array"
            raise ValueError(f"{self.path} holds {found}; name the array of problems x: numpy.savez(path, x=problems).")
        return arrays[name]

    def _header(self, stream) -> tuple[tuple[int, ...], np.dtype]:
        """Shape and dtype of an array of real numbers; leaves the stream where its content begins."""
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        try:
            # Version 3 is for names of fields, which numbers do not have.
            shape, fortran, dtype = readers[self._read(np.lib.format.read_magic, stream)](stream)
        except (ValueError, KeyError) as error:
            raise ValueError(
                f"{self.path} does not hold an array of numbers as numpy.save writes it: {error}"
            ) from error
        if dtype.hasobject:
            raise ValueError(f"{self.path} holds Python objects, which are never unpickled. Save an array of numbers.")
        if dtype.kind not in "fiu":
            raise ValueError(f"{self.path} holds entries of type {dtype}; problems are real numbers.")
        if len(shape) < 2:
            raise ValueError(
                f"{self.path} holds an array of shape {shape}; the first of two or more axes counts problems."
            )
        if fortran:
            raise ValueError(
                f"{self.path} holds its array column by column (Fortran order), so that problems cannot be read one "
                "after the other. Save numpy.ascontiguousarray(x)."
            )
        return shape, dtype


class TableFile(ProblemFile):
    """A ``.csv`` file: numbers between commas, one problem a line, possibly below a line of names."""

    def __init__(self, path: Path):
        self.path = path
        fields = next((line.split(",") for _, line in self._lines()), [])
        self._header = not any(map(_is_number, fields))
        self.row_shape = (len(fields),)  # (0,) of a file without a line
        self.rows = sum(1 for _ in self._rows(0))

    def blocks(self, start: int, size: int) -> Iterator[np.ndarray]:
        rows = self._rows(start)
        for first in range(start, max(self.rows, 1), size):
            count = min(size, self.rows - first)
            block = list(islice(rows, count))
            if len(block) != count:
                raise ValueError(f"{self.path} has lost lines while it was read.")
            yield np.array(block, dtype=np.float64).reshape(count, *self.row_shape)

    def _rows(self, start: int) -> Iterator[list[float]]:
        for number, line in islice(self._lines(), self._header + start, None):
            yield self._numbers(number, line)

    def _lines(self) -> Iterator[tuple[int, str]]:
        """The lines that are not blank, with their numbers."""
        try:
            with open(self.path, encoding="utf-8-sig") as file:
                for number, line in enumerate(file, start=1):
                    if not line.isspace():
                        yield number, line
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.path} is not text in UTF-8: {error}") from error

    def _numbers(self, number: int, line: str) -> list[float]:
        fields = line.split(",")
        if len(fields) != self.row_shape[0]:
            raise ValueError(
                f"{self.path}, line {number}: {len(fields)} entries, where the first line has {self.row_shape[0]}."
            )
        try:
            return list(map(float, fields))
        except ValueError:
            wrong = next(field for field in fields if not _is_number(field))
            raise ValueError(f"{self.path}, line {number}: {wrong.strip()[:40]!r} is not a number.") from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
