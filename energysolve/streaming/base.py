"""What the readers of files of problems share."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any, Protocol, runtime_checkable

import numpy as np

_BUFFER = 1 << 18
"""Bytes read at a time for a checksum."""


@runtime_checkable
class Place(Protocol):
    """Where a file lies: the part of `pathlib.Path` that reading needs."""

    @property
    def name(self) -> str: ...
    @property
    def suffix(self) -> str: ...
    def is_file(self) -> bool: ...
    def stat(self) -> Any: ...
    def open(self, mode: Any = "rb") -> IO[Any]: ...


class ProblemFile(ABC):
    """A file with one problem per row: ``rows`` problems, each of shape ``row_shape``.

    Attributes:
        path: where the file lies.
        sequential: whether rows can only be reached by reading those before them.
        keeps_by_request: whether the user has named the columns that are kept.
        reading: the settings that decide which numbers of the file are problems, as plain JSON.

    Examples:
        >>> from pathlib import Path
        >>> from energysolve.streaming.problems import ProblemFile, open_problems
        >>> _ = Path("problems.csv").write_text("1,2\\n3,4\\n5,6\\n")
        >>> problems = open_problems("problems.csv")
        >>> isinstance(problems, ProblemFile), problems.rows
        (True, 3)
        >>> [block.tolist() for block in problems.blocks(start=0, size=2)]
        [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0]]]
    """

    rows: int
    row_shape: tuple[int, ...]
    sequential = False
    keeps_by_request = False

    def __init__(self, path: Place):
        self.path = path
        self.reading: dict[str, Any] = {}
        self._stamp = self._modified()

    def blocks(self, start: int, size: int) -> Iterator[np.ndarray]:
        """The rows from ``start`` onward, at most ``size`` at a time. A file without rows gives one empty block.

        Raises:
            ValueError: if the file has changed since it was opened, or is damaged.
        """
        self._check_unchanged()
        yield from self._blocks(start, size)

    @property
    def kept(self) -> Mapping[str, Any]:
        """The columns that are passed on beside the answers: the Arrow type of each by name, None for text."""
        return {}

    def kept_blocks(self, size: int) -> Iterator[Mapping[str, Any]]:
        """The entries of the columns `kept`, in rows from the first to the last, at most ``size`` at a time.

        Raises:
            ValueError: if the file has changed since it was opened, or is damaged.
        """
        self._check_unchanged()
        yield from self._kept_blocks(size)

    def digest(self) -> str:
        """SHA-256 of the file."""
        return digest_of([self.path])

    @abstractmethod
    def _blocks(self, start: int, size: int) -> Iterator[np.ndarray]: ...

    def _kept_blocks(self, size: int) -> Iterator[Mapping[str, Any]]:
        yield from ()

    def _check_unchanged(self) -> None:
        if self._modified() != self._stamp:
            raise self._changed()

    def _modified(self) -> Any:
        stat = self.path.stat()
        return stat.st_size, stat.st_mtime_ns

    def _changed(self) -> ValueError:
        return ValueError(f"{self.path} has changed since it was opened. Open it again.")


def digest_of(places: Sequence[Place]) -> str:
    """SHA-256 of the contents of files, one after the other."""
    digest = hashlib.sha256()
    for place in places:
        with place.open("rb") as file:
            while content := file.read(_BUFFER):
                digest.update(content)
    return digest.hexdigest()


def check_names(kept: Sequence[str], found: Sequence[str], path: Any) -> None:
    """Raise a ValueError for a column that is to be kept, but is not there."""
    for name in kept:
        if name not in found:
            shown = ", ".join(found[:8]) + (", ..." if len(found) > 8 else "")
            raise ValueError(f"{path} has no column {name!r}; its columns are {shown or '(none)'}.")
