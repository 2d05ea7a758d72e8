"""The rows of a table as problems of any kind, and answers of any kind as columns."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..files import tensors_digest
from ..layout import Dense, Segment, tensors
from ..seeding import stream
from ..solver import EnergySolver
from ..trees import tree_map
from .chunks import ARRAYS, as_numpy, kind_of
from .column_answers import as_column
from .columns import arrays_of, numbers_of

Problem = Callable[[Any], Any]
"""``problem(table) -> x``: the problems in the rows of a `pyarrow.Table`, as the energy takes them."""


@dataclass(frozen=True)
class Columns:
    """Problems that are tensors: a column of lists of numbers, all of one length, or several columns of numbers.

    Raises:
        ValueError: from a call, if the table lacks a column.

    Examples:
        >>> import pyarrow as pa
        >>> from energysolve.streaming.cluster import Columns
        >>> table = pa.table({"id": ["first", "second"], "a": [1.0, 3.0], "b": [2.0, 4.0]})
        >>> Columns(["a", "b"])(table)  # as `solve_dataset` calls it, with the rows of a block
        tensor([[1., 2.],
                [3., 4.]], dtype=torch.float64)
    """

    names: Sequence[str] = ("x",)

    def __call__(self, table: Any) -> Tensor:
        found = [numbers_of(_column(table, name)) for name in self.names]
        return torch.from_numpy(found[0] if len(found) == 1 else np.stack(found, axis=1))


@dataclass(frozen=True)
class Graphs:
    """Problems that are graphs, one a row, as a batch of torch-geometric.

    Args:
        edge_index: a column with two lists of node numbers, sources and targets, ``(2, edges)``.
        edge_attr: a column of lists ``(edges,)`` or ``(edges, features)``; None for graphs without.
        num_nodes: a column of numbers; None if every node has an edge.
        nodes: a column of lists ``(nodes, features)``; None for graphs without.

    Raises:
        ValueError: from a call, if the table lacks a column.

    Examples:
        >>> import pyarrow as pa
        >>> from energysolve.streaming.cluster import Graphs
        >>> path = {"edges": [[0, 1], [1, 2]], "values": [0.5, 2.0], "nodes": 3}
        >>> table = pa.Table.from_pylist([path, {"edges": [[0], [1]], "values": [1.0], "nodes": 2}])
        >>> graphs = Graphs("edges", edge_attr="values", num_nodes="nodes")(table)
        >>> graphs.num_graphs, graphs.edge_attr.flatten()
        (2, tensor([0.5000, 2.0000, 1.0000], dtype=torch.float64))
    """

    edge_index: str = "edge_index"
    edge_attr: str | None = "edge_attr"
    num_nodes: str | None = None
    nodes: str | None = None

    def __call__(self, table: Any) -> Any:
        try:
            from ..graph import Batch, Data
        except ImportError as error:
            raise ImportError("Graphs need torch-geometric: pip install 'energysolve[graph]'.") from error
        names = {"edge_index": self.edge_index, "edge_attr": self.edge_attr, "num_nodes": self.num_nodes}
        names |= {"x": self.nodes}
        columns = {key: arrays_of(_column(table, name)) for key, name in names.items() if name is not None}
        graphs = []
        for values in zip(*columns.values(), strict=True):
            graph = dict(zip(columns, values, strict=True))
            fields: dict[str, Any] = {"edge_index": torch.from_numpy(graph["edge_index"].astype(np.int64)).view(2, -1)}
            for key in ("edge_attr", "x"):
                if key in graph:
                    fields[key] = torch.from_numpy(graph[key].astype(np.float64)).reshape(len(graph[key]), -1)
            if "num_nodes" in graph:
                fields["num_nodes"] = int(graph["num_nodes"])
            graphs.append(Data(**fields))
        return Batch.from_data_list(graphs)


def solve_rows(solver: EnergySolver, table: Any, problem: Problem, seed: int) -> Any:
    """A table with the answers to the problems in its rows as further columns.

    The initial answers depend on the problems of the table and on the seed alone, so that a table that is solved again
    has the same answers.

    Raises:
        ValueError: if the table lacks a column, or has one with the name of an answer.
    """
    dtype, device = kind_of(solver)
    x = _moved(problem(table), dtype, device)
    digest = tensors_digest({str(number): each for number, each in enumerate(tensors(x))})
    with torch.no_grad():
        solution = solver.minimize(x, generator=stream(f"solve rows {digest}", seed))
    layout = solution.layout if solution.layout is not None else Dense(table.num_rows)
    columns = {name: _answer_column(leaf, layout) for name, leaf in _leaves("y", solution.y)}
    columns |= {name: as_column(as_numpy(getattr(solution, name))) for name in ARRAYS[1:]}
    for name, column in columns.items():
        if name in table.column_names:
            raise ValueError(f"The dataset has a column {name!r}, the name of a column of answers. Rename it.")
        if len(column) != table.num_rows:
            raise ValueError(f"{table.num_rows} rows have {len(column)} answers; expected one problem in each row.")
        table = table.append_column(name, column)
    return table


def _answer_column(leaf: Tensor, layout: Any) -> Any:
    if not isinstance(layout, Segment):
        return as_column(as_numpy(leaf))
    index = as_numpy(layout.index)
    order = np.argsort(index, kind="stable")
    return as_column(as_numpy(leaf)[order], np.bincount(index, minlength=layout.batch))


def _leaves(name: str, tree: Any) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a tree of answers, by names such as ``y``, ``y.a`` and ``y.0``."""
    if isinstance(tree, Tensor):
        yield name, tree
        return
    for key, inner in tree.items() if isinstance(tree, Mapping) else enumerate(tree):
        yield from _leaves(f"{name}.{key}", inner)


def _moved(x: Any, dtype: torch.dtype, device: torch.device) -> Any:
    """The problems on the device of the energy and, where they are fractions, in its precision."""

    def moved(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        return leaf.to(device, dtype if leaf.is_floating_point() else leaf.dtype)

    return x.apply(moved) if hasattr(x, "to_data_list") else tree_map(moved, x)


def _column(table: Any, name: str) -> Any:
    if name not in table.column_names:
        raise ValueError(f"The dataset has no column {name!r}; its columns are {', '.join(table.column_names)}.")
    return table.column(name)
