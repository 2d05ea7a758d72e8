"""Problems in columns: Parquet and Arrow files, one or a folder of them, and files that pyarrow finds elsewhere."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs, ipc, parquet

from .base import Place, ProblemFile, check_names, digest_of

_BUFFER = 1 << 20
"""Bytes of a column that are read at a time."""


@dataclass(frozen=True)
class RemoteFile:
    """A file at an address such as ``s3://bucket/problems.parquet``, read by `pyarrow.fs`."""

    address: str

    @property
    def name(self) -> str:
        return self.address.rstrip("/").rpartition("/")[2]

    @property
    def suffix(self) -> str:
        return Path(self.name).suffix

    def is_file(self) -> bool:
        return self._info().type == fs.FileType.File

    def stat(self) -> Any:
        info = self._info()
        return _Stat(info.size or 0, info.mtime_ns or 0)

    def open(self, mode: Any = "rb") -> Any:
        system, path = self._place()
        return system.open_input_file(path)

    def _info(self) -> Any:
        system, path = self._place()
        return system.get_file_info(path)

    def _place(self) -> tuple[Any, str]:
        try:
            return fs.FileSystem.from_uri(self.address)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{self.address} is no address of a file that pyarrow can read: {error}") from error

    def __str__(self) -> str:
        return self.address


@dataclass(frozen=True)
class _Stat:
    st_size: int
    st_mtime_ns: int


class ColumnFile(ProblemFile):
    """Problems in a Parquet or Arrow file, or in a folder of Parquet files. The arguments are those of `open_problems`.

    A null is read as NaN, so that its row keeps its place.
    """

    def __init__(self, path: Place, keep: Sequence[str] | None = None, columns: Sequence[str] | None = None):
        self._files = sorted(path.glob("*.parquet")) if isinstance(path, Path) and path.is_dir() else [path]
        if not self._files:
            raise ValueError(f"{path} is a folder without .parquet files.")
        super().__init__(path)
        self._schema: Any = None
        self._lists: tuple[int, ...] = ()  # the shape of the lists of a column
        self._groups: list[tuple[Any, int, int]] = []  # file, number in the file, rows
        for file in self._files:
            self._add(file)
        self.rows = sum(rows for *_, rows in self._groups)
        names = list(self._schema.names)
        check_names([*(keep or ()), *(columns or ())], names, path)
        self._columns = list(columns) if columns else _problem_columns(self._schema, keep or (), path)
        others = [name for name in names if name not in self._columns]
        self._keep = others if keep is None else list(dict.fromkeys(keep))
        self.keeps_by_request = keep is not None
        self.reading = {"columns": self._columns}
        self.row_shape = self._find_shape()

    @property
    def kept(self) -> Mapping[str, Any]:
        return {name: self._schema.field(name).type for name in self._keep}

    def digest(self) -> str:
        return digest_of(self._files)

    def _add(self, file: Any) -> None:
        with _damaged(file), _opened(file) as opened:
            schema, counts = opened.schema, opened.counts()
            names = list(map(_name, schema))
        if min(counts, default=0) < 0:
            raise ValueError(f"{file} is damaged: it has a negative number of rows.")
        if len(set(names)) < len(names):
            raise ValueError(f"{file} has several columns of one name.")
        if self._schema is not None and not schema.equals(self._schema):
            raise ValueError(f"{file} has other columns than {self._files[0]}: {_shown(schema)}.")
        self._schema = schema if self._schema is None else self._schema
        self._groups += [(file, number, rows) for number, rows in enumerate(counts)]

    def _find_shape(self) -> tuple[int, ...]:
        """The shape of a problem. Lists that may differ in length are read to the end, so that none does."""
        fields = [self._schema.field(name) for name in self._columns]
        wrong = [field for field in fields if not _is_number(_entry(field.type))]
        if wrong:
            raise ValueError(f"{self.path}: the column {wrong[0].name!r} holds {wrong[0].type}, not real numbers.")
        if len(fields) > 1:
            lists = [field.name for field in fields if _inner(field.type) is not None]
            if lists:
                raise ValueError(f"{self.path}: the column {lists[0]!r} of lists cannot be joined with other columns.")
            return (len(fields),)
        [field] = fields
        shape, fixed = _shape(field.type)
        first = 0
        for batches in () if fixed else self._read(self._columns, 0, 1024):
            for column in (batch.column(0) for batch in batches):
                shape = shape if fixed or shape is not None else _measured(column)
                if shape is not None:
                    with self._naming(first):
                        _numbers(column, shape)
                first += len(column)
        self._lists = shape if shape is not None else (0,)
        return _tensor_shape(field, self._lists) or self._lists or (1,)

    def _blocks(self, start: int, size: int) -> Iterator[np.ndarray]:
        first = start
        for batches in self._read(self._columns, start, size):
            with self._naming(first):
                parts = [self._joined(batch) for batch in batches]
            yield np.concatenate(parts).reshape(-1, *self.row_shape)
            first += sum(map(len, parts))
        if not self.rows:
            yield np.zeros((0, *self.row_shape))

    def _joined(self, batch: Any) -> np.ndarray:
        if len(self._columns) == 1:
            return _numbers(batch.column(0), self._lists)
        return np.stack([_numbers(batch.column(name), ()) for name in self._columns], axis=1)

    def _kept_blocks(self, size: int) -> Iterator[Mapping[str, Any]]:
        for batches in self._read(self._keep, 0, size) if self._keep else ():
            table = pa.Table.from_batches(batches)
            yield {name: table.column(name) for name in self._keep}

    def _read(self, names: list[str], start: int, size: int) -> Iterator[list[Any]]:
        """The rows of some columns from ``start`` onward, as lists of batches with ``size`` rows in all."""
        pending, count, read = [], 0, 0
        for batch in self._batches(names, start, size):
            read += len(batch)
            while len(batch):
                pending.append(batch.slice(0, size - count))
                count += len(pending[-1])
                batch = batch.slice(len(pending[-1]))
                if count == size:
                    yield pending
                    pending, count = [], 0
        if read != self.rows - start:
            raise ValueError(f"{self.path} is damaged: it holds {start + read} rows, and says that it has {self.rows}.")
        if pending:
            yield pending

    def _batches(self, names: list[str], start: int, size: int) -> Iterator[Any]:
        for file, number, rows in self._groups:
            if start >= rows:
                start -= rows
                continue
            with _damaged(file), _opened(file) as opened:
                for batch in opened.batches(number, names, size):
                    batch.validate(full=True)
                    skipped = min(start, len(batch))
                    start -= skipped
                    yield batch.slice(skipped)

    @contextmanager
    def _naming(self, first: int) -> Iterator[None]:
        try:
            yield
        except (ValueError, pa.ArrowException) as error:
            raise ValueError(f"{self.path}, from row {first} on: {error}") from error

    def _modified(self) -> Any:
        return [(stat.st_size, stat.st_mtime_ns) for stat in (file.stat() for file in self._files)]


class _Parquet:
    def __init__(self, source: Any):
        self._file = parquet.ParquetFile(source, buffer_size=_BUFFER, page_checksum_verification=True)
        self.schema = self._file.schema_arrow

    def counts(self) -> list[int]:
        metadata = self._file.metadata
        return [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]

    def batches(self, number: int, names: list[str], size: int) -> Iterator[Any]:
        for batch in self._file.iter_batches(size, row_groups=[number], columns=names):
            yield batch.select(names)


class _Arrow:
    def __init__(self, source: Any):
        self._source = source
        self.schema = ipc.open_file(source).schema

    def counts(self) -> list[int]:
        file = ipc.open_file(self._source, options=ipc.IpcReadOptions(included_fields=[0]))
        return [file.get_batch(number).num_rows for number in range(file.num_record_batches)]

    def batches(self, number: int, names: list[str], size: int) -> Iterator[Any]:
        places = [self.schema.get_field_index(name) for name in names]
        file = ipc.open_file(self._source, options=ipc.IpcReadOptions(included_fields=places))
        yield file.get_batch(number).select(names)


@contextmanager
def _opened(file: Any) -> Iterator[Any]:
    source = pa.OSFile(str(file)) if isinstance(file, Path) else file.open()
    with source:
        yield (_Parquet if file.suffix.lower() == ".parquet" else _Arrow)(source)


@contextmanager
def _damaged(file: Any) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is damaged, or is no {file.suffix} file: {error}") from error


def _name(field: Any) -> str:
    """The name of a column; a UnicodeDecodeError if it, or that of a part of it, is no UTF-8."""
    for number in range(field.type.num_fields):
        _name(field.type.field(number))
    return field.name


def _problem_columns(schema: Any, keep: Sequence[str], path: Any) -> list[str]:
    """The columns that hold the problems, where none are named."""
    fields = [field for field in schema if field.name not in keep and _is_number(_entry(field.type))]
    lists = [field.name for field in fields if _inner(field.type) is not None]
    if lists:
        if len(lists) > 1 and "x" not in lists:
            raise ValueError(
                f"{path} has the columns of lists {', '.join(lists)}. Name the one with the problems x, or say "
                f"which it is: columns=[{lists[0]!r}] (--columns {lists[0]})."
            )
        return ["x"] if "x" in lists else lists
    whole = [field.name for field in fields if pa.types.is_integer(field.type)]
    if whole and len(whole) < len(fields):
        raise ValueError(
            f"{path} has whole numbers in {', '.join(map(repr, whole[:3]))} and fractions in other columns. If they "
            f"are no part of the problems, keep them beside the answers: keep=[{whole[0]!r}] (--keep {whole[0]}). If "
            "they are, name all columns of the problems: columns= (--columns)."
        )
    if not fields:
        raise ValueError(f"{path} has no column of numbers; its columns are {_shown(schema)}.")
    return [field.name for field in fields]


def _shown(schema: Any) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in islice(schema, 8)) or "(none)"


def _inner(kind: Any) -> Any:
    """The type of the entries of a type of lists; None for other types."""
    kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return kind.value_type if any(is_list(kind) for is_list in lists) else None


def _entry(kind: Any) -> Any:
    while (inner := _inner(kind)) is not None:
        kind = inner
    return kind


def _is_number(kind: Any) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _shape(kind: Any) -> tuple[tuple[int, ...] | None, bool]:
    """The shape of lists of fixed sizes, and True; otherwise None, and False."""
    shape: list[int] = []
    while (inner := _inner(kind)) is not None:
        storage = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
        if not pa.types.is_fixed_size_list(storage):
            return None, False
        shape.append(storage.list_size)
        kind = inner
    return tuple(shape), True


def _tensor_shape(field: Any, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape of tensors that are stored as flat lists, by Arrow's or Ray's extension types; None for other lists."""
    known = getattr(field.type, "shape", None)
    if known is None:  # a type that is not registered here
        try:
            known = json.loads((field.metadata or {}).get(b"ARROW:extension:metadata", b"null"))
        except (ValueError, RecursionError):
            return None
        known = known.get("shape") if isinstance(known, dict) else known
    if not isinstance(known, list | tuple) or not all(type(size) is int and size >= 0 for size in known):
        return None
    return tuple(known) if math.prod(known) == math.prod(shape) else None


def _measured(column: Any) -> tuple[int, ...] | None:
    """The shape of the first list that is not null; None if all are."""
    column = (column.storage if isinstance(column, pa.ExtensionArray) else column).drop_null().slice(0, 1)
    shape: list[int] = []
    while len(column) or not shape:
        if _inner(column.type) is None or not len(column):
            break
        shape.append(_lengths(column)[0].as_py() or 0)
        column = column.flatten().slice(0, 1)
    return tuple(shape) if shape else None


def _lengths(column: Any) -> Any:
    return pc.call_function("list_value_length", [column])


def _numbers(column: Any, shape: tuple[int, ...]) -> np.ndarray:
    """The entries of a column as an array ``(rows, *shape)``; NaN for null."""
    column = column.storage if isinstance(column, pa.ExtensionArray) else column
    rows, valid = len(column), None
    if shape and column.null_count:
        valid = column.is_valid().to_numpy(zero_copy_only=False)
        column = column.drop_null()
    for size in shape:
        if _inner(column.type) is None or column.null_count:
            raise ValueError("a list is missing, where others have one.")
        lengths = _lengths(column).to_numpy(zero_copy_only=False)
        if len(lengths) and (lengths != size).any():
            raise ValueError(f"lists of {lengths.min()} to {lengths.max()} entries, where the first has {size}.")
        column = column.flatten()
    if _inner(column.type) is not None:
        raise ValueError("lists of lists, where others hold numbers.")
    if pa.types.is_decimal(column.type) or column.null_count:
        column = column.cast(pa.float64(), safe=False)
    found = column.to_numpy(zero_copy_only=False)
    if valid is None:
        return found.reshape(rows, *shape)
    whole = np.full((rows, *shape), np.nan)
    whole[valid] = found.reshape(-1, *shape)
    return whole


def numbers_of(column: Any) -> np.ndarray:
    """A column of numbers, or of lists that have one length, as an array ``(rows, ...)``; NaN for null."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    shape, _ = _shape(whole.type)
    shape = shape if shape is not None else _measured(whole) or (0,)
    found = _numbers(whole, shape)
    known = getattr(whole.type, "shape", None) or shape
    return found.reshape(-1, *known).copy()


def arrays_of(column: Any) -> list[np.ndarray]:
    """The entries of a column as arrays, which may differ in length."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(whole, pa.ExtensionArray):
        return [np.asarray(entry) for entry in whole.to_numpy(zero_copy_only=False)]
    return [np.asarray(entry) for entry in whole.to_pylist()]
