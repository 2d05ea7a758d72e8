"""Tables of problems: ``.csv`` files."""

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import numpy as np

from .base import Place, ProblemFile, check_names

_MARKS = 4096
"""The most lines of a table whose positions are kept."""


class TableFile(ProblemFile):
    """A ``.csv`` file: numbers separated by commas, one problem per line, with or without a line of column names.

    One pass on opening checks every line, counts rows, and computes the checksum. It also keeps the positions of some
    lines, from which `blocks` can start to read. The arguments are those of `open_problems`.

    Attributes:
        names: the names of all columns in the first line; None if it is a problem.

    Raises:
        ValueError: as `open_problems`, for lines that are no numbers and tables that are ambiguous.

    Examples:
        >>> from pathlib import Path
        >>> from energysolve.streaming.problems import TableFile
        >>> _ = Path("problems.csv").write_text("id,a,b\\nfirst,1,2\\nsecond,3,4\\n")
        >>> problems = TableFile(Path("problems.csv"), index=True)  # the first column holds the names of the rows
        >>> problems.names, problems.labels(), problems.row_shape
        (['id', 'a', 'b'], ['first', 'second'], (2,))
    """

    def __init__(
        self,
        path: Place,
        header: bool | None = None,
        index: bool | None = None,
        missing: bool = False,
        keep: Sequence[str] = (),
    ):
        super().__init__(path)
        if keep and header is False:
            raise ValueError(f"{path} is read without names of columns (--no-header), so none can be kept by its name.")
        header = True if keep else header
        self.keeps_by_request = bool(keep)
        self._keep, self._places = tuple(dict.fromkeys(keep)), {}  # the place of each column that is kept
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
        if self._keep:
            check_names(self._keep, self.names or [], path)
        self.reading = {"header": self.names is not None, "index": self._index, "keep": list(self._keep)}
        if self._numbered and self.rows >= _COUNTED and self._columns > 1:
            raise self._ambiguous(f"the first column is 0, 1, ..., {self.rows - 1}", _INDEX)

    def digest(self) -> str:
        return self._digest

    @property
    def kept(self) -> Mapping[str, None]:
        return dict.fromkeys(self._keep)

    def labels(self) -> list[str]:
        """The first column, if it holds the names of the rows; otherwise nothing."""
        if not self._index:
            return []
        lines = (line for line in self._lines(self._marks[0] if self._marks else 0) if line.strip())
        return [line.split(",", 1)[0].strip() for line in islice(lines, self.rows)]

    def _check(self, number: int, line: str, position: int) -> None:
        """Count a line that is not blank, or take the first one as the names of the columns."""
        if not self._columns:
            fields = self._split(line)
            self._columns = len(fields)
            if self._keep:
                self._choose(fields)
            self.row_shape = (self._columns - self._index - len(self._places),)
            if self.row_shape == (0,):
                raise ValueError(f"{self.path} has no column of problems beside those that are kept or hold names.")
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

    def _choose(self, fields: list[str]) -> None:
        """Find the columns that are kept, by the names in the first line."""
        names = list(map(_bare, fields))
        check_names(self._keep, names, self.path)
        twice = [name for name in self._keep if names.count(name) > 1]
        if twice:
            raise ValueError(f"{self.path} has several columns {twice[0]!r}, so it is unknown which to keep.")
        self._places = {name: names.index(name) for name in self._keep}
        self._numbered = self._numbered and 0 not in self._places.values()

    def _split(self, line: str) -> list[str]:
        """The fields of a line. Text that is kept may be quoted, and hold commas."""
        if not (self._keep and '"' in line):
            return line.split(",")
        try:
            return next(csv.reader([line.strip("\r\n")], skipinitialspace=True), [])
        except csv.Error as error:
            raise ValueError(f"it is no line of a .csv file: {error}.") from error

    def _holds_names(self, fields: list[str]) -> bool:
        """Whether the first line holds names; raises if that, or an index column, cannot be told."""
        if self._header is False:
            return False
        first, own = _bare(fields[0]).lower(), self._own(fields)
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

    def _own(self, fields: list[str]) -> list[str]:
        """The fields that belong to the problem."""
        left = set(self._places.values()) | ({0} if self._index else set())
        return [field for place, field in enumerate(fields) if place not in left] if left else fields

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

    def _kept_blocks(self, size: int) -> Iterator[Mapping[str, list[str]]]:
        lines = (line for line in self._lines(self._marks[0] if self._marks else 0) if not line.isspace())
        for first in range(0, self.rows, size):
            rows = [self._split(line.strip("\r\n")) for line in islice(lines, min(size, self.rows - first))]
            if any(len(fields) != self._columns for fields in rows):
                raise self._changed()
            yield {name: [fields[place].strip() for fields in rows] for name, place in self._places.items()}

    def _lines(self, position: int) -> Iterator[str]:
        """The lines from a position onward, with their line ends unchanged."""
        with self.path.open("rb") as file, io.TextIOWrapper(file, encoding="utf-8", newline="") as text:
            file.seek(position)
            try:
                yield from text
            except UnicodeDecodeError as error:
                raise ValueError(f"{self.path} is not text in UTF-8: {error}") from error

    def _numbers(self, line: str) -> list[float]:
        fields = self._split(line)
        if len(fields) != self._columns:
            raise ValueError(f"{len(fields)} entries, where the first line has {self._columns}.")
        fields = self._own(fields)
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
