"""Answers in columns: Parquet and Arrow files, written a group of rows at a time."""

from collections.abc import Iterator, Mapping
from typing import IO, Any

import numpy as np
import pyarrow as pa
from pyarrow import ipc, parquet

GROUP_BYTES = 1 << 22
"""The size of a group of rows that is written at a time."""


def write_columns(
    file: IO[bytes],
    suffix: str,
    kinds: Mapping[str, np.dtype],
    blocks: Iterator[tuple[Mapping[str, Any], Mapping[str, np.ndarray]]],
    kept: Mapping[str, Any],
) -> None:
    """Write columns that are kept, and the arrays of the answers beside them.

    Args:
        file: opened for writing.
        suffix: ``.parquet``, or ``.arrow`` or ``.feather``, which are the same.
        kinds: the dtype of one row of each array.
        blocks: the next rows of the columns and of the arrays.
        kept: the Arrow type of each column, None for text.
    """
    columns = {name: pa.string() if kind is None else kind for name, kind in kept.items()}
    columns |= {name: _type(kind) for name, kind in kinds.items()}
    schema = pa.schema(list(columns.items()))
    sink = pa.PythonFile(file, "w")
    with parquet.ParquetWriter(sink, schema) if suffix == ".parquet" else ipc.new_file(sink, schema) as writer:
        for rows, arrays in blocks:
            given = [_as_chunks(rows[name], columns[name]) for name in kept]
            made = [pa.chunked_array([_array(array, columns[name])]) for name, array in arrays.items()]
            writer.write_table(pa.table([*given, *made], schema))


def as_column(array: np.ndarray, counts: np.ndarray | None = None) -> Any:
    """An array ``(rows, ...)`` as a column: of numbers, or of lists of a fixed length.

    With ``counts`` each entry is a list of that many of the rows, one after the other.
    """
    flat = _array(array, _type(np.dtype((array.dtype, array.shape[1:]))))
    if counts is None:
        return flat
    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)), flat)


def _type(kind: np.dtype) -> Any:
    found = pa.from_numpy_dtype(kind.base)
    for size in reversed(kind.shape):
        found = pa.list_(found, size) if size else pa.list_(found)  # Parquet has no lists of fixed size 0
    return found


def _array(array: np.ndarray, kind: Any) -> Any:
    sizes = array.shape[1:]
    found = pa.array(np.ascontiguousarray(array).reshape(-1))
    rows = array.size
    if 0 in sizes:
        return pa.array([[]] * len(array) if len(sizes) == 1 else array.tolist(), kind)
    for size in reversed(sizes):
        rows //= size
        found = pa.FixedSizeListArray.from_arrays(found, size)
    return found.cast(kind)


def _as_chunks(values: Any, kind: Any) -> Any:
    return values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([pa.array(values, kind)])
