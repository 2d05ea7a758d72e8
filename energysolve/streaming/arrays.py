"""Arrays of problems: ``.npz`` and ``.npy`` files."""

import lzma
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .base import Place, ProblemFile

_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError, struct.error)
"""What archives raise: a RuntimeError for encryption and for unknown compression, an OSError for places before 0."""
_BUFFER = 1 << 18
"""Bytes skipped at a time."""


class ArrayFile(ProblemFile):
    """The array in a ``.npy`` file, or in an ``.npz`` file the array ``x`` or the only one.

    An array in Fortran order, as pandas makes them, does not hold one problem after the other. That of an ``.npz`` file
    is read as a whole.

    Raises:
        ValueError: if the file is damaged, or holds no array of real numbers with two or more axes.

    Examples:
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from energysolve.streaming.problems import ArrayFile
        >>> np.save("matrices.npy", np.zeros((100, 4, 4)))
        >>> problems = ArrayFile(Path("matrices.npy"))
        >>> problems.rows, problems.row_shape, [block.shape for block in problems.blocks(start=90, size=8)]
        (100, (4, 4), [(8, 4, 4), (2, 4, 4)])
    """

    def __init__(self, path: Place):
        super().__init__(path)
        self.sequential = path.suffix.lower() == ".npz"
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
            if self.path.suffix.lower() == ".npy" and self.rows and isinstance(self.path, Path):
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
            with self.path.open("rb") as stream:
                yield stream, self.path.stat().st_size
            return
        with self.path.open("rb") as file, self._read(zipfile.ZipFile, file) as archive:
            member = self._member(archive)
            with self._read(archive.open, member) as stream:
                yield stream, member.file_size

    def _read(self, function, *arguments) -> Any:
        try:
            return function(*arguments)
        except _DAMAGED as error:
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
        except Exception as error:  # NumPy evaluates the header as a literal, whose errors are those of any Python text
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
