"""Opening files of problems, which are read a block of rows at a time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .arrays import ArrayFile
from .base import Place, ProblemFile
from .tables import TableFile

__all__ = ["ArrayFile", "ProblemFile", "TableFile", "open_problems"]

_COLUMNS = (".parquet", ".arrow", ".feather")
_SUFFIXES = (".npz", ".npy", ".csv", *_COLUMNS)


def open_problems(
    path: str | Path,
    *,
    header: bool | None = None,
    index: bool | None = None,
    missing: bool = False,
    keep: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
) -> ProblemFile:
    """Open a file of problems and check it; for the formats see `energysolve.streaming.solve.solve_file`.

    A table is read to its end, so that an invalid line is reported before anything is solved. Memory use does not grow
    with the file.

    Args:
        path: the file; for Parquet also a folder of files, in the order of their names. ``s3://bucket/problems.parquet``
            and other addresses are read by pyarrow.
        header: whether the first line of a ``.csv`` file holds names. By default it does if none of them is a number;
            where the names may be the numbers 0, 1, 2, ..., or years, the table is refused.
        index: whether the first column of a ``.csv`` file holds the names of the rows, which are no part of the
            problems. By default it does not; a table that looks as if it did is refused.
        missing: read empty fields, and NA, of a ``.csv`` file as NaN.
        keep: columns that are no part of the problems, and are written beside the answers. By default none of a
            ``.csv`` file, and of Parquet and Arrow files all columns that hold no problem.
        columns: the columns of a Parquet or Arrow file that hold the problems: one of lists, or several of numbers. By
            default the column ``x``, the only column of lists, or all columns of numbers.

    Raises:
        FileNotFoundError: if there is no such file.
        ImportError: if the file needs pyarrow, which is not installed.
        ValueError: if it is of another kind, damaged, ambiguous, or holds anything but rows of real numbers.

    Examples:
        >>> from pathlib import Path
        >>> from energysolve.streaming.problems import open_problems
        >>> _ = Path("problems.csv").write_text("id,a,b\\nfirst,1,2\\nsecond,3,4\\n")
        >>> problems = open_problems("problems.csv", keep=["id"])
        >>> problems.rows, problems.row_shape, [block.tolist() for block in problems.blocks(0, 10)]
        (2, (2,), [[[1.0, 2.0], [3.0, 4.0]]])
    """
    place = _place(path)
    folder = isinstance(place, Path) and place.is_dir()
    suffix = ".parquet" if folder else place.suffix.lower()
    if suffix not in _SUFFIXES:
        raise ValueError(f"Problems are read from {', '.join(_SUFFIXES)} files; got {path}.")
    if not (folder or place.is_file()):
        raise FileNotFoundError(f"There is no file {path}.")
    if suffix != ".csv" and (header is not None or index is not None):
        raise ValueError(f"header and index are for tables as .csv; {path} is none.")
    if suffix not in _COLUMNS and columns is not None:
        raise ValueError(f"columns= (--columns) is for Parquet and Arrow files; {path} is none.")
    if suffix == ".csv":
        return TableFile(place, header, index, missing, keep or ())
    if not (folder or place.stat().st_size):
        raise ValueError(f"{path} is empty: it has no byte, and so no array. Was it written to its end?")
    if suffix in _COLUMNS:
        return _columns().ColumnFile(place, keep, columns)
    if keep:
        raise ValueError(f"{path} is an array, without columns to keep beside the answers.")
    return ArrayFile(place)


def _place(path: str | Path) -> Place:
    if "://" in str(path):
        return _columns().RemoteFile(str(path))
    return Path(path)


def _columns() -> Any:
    try:
        from . import columns
    except ImportError as error:
        raise ImportError("Parquet and Arrow files need pyarrow: pip install 'energysolve[parquet]'.") from error
    return columns
