"""Which rows of an answer belong to which sample.

All per-sample operations (norms, masks, freezing, selection) go through a layout. No other code depends on whether
answers are vectors, matrices, images or the edges of a batch of graphs.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import singledispatch
from importlib import import_module
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from .trees import tree_leaves, tree_map

Tree = TypeVar("Tree")
SelectFunction = Callable[[Any, Tensor], Any]
"""``select(x, samples)``: the problems with these indices, for an ``x`` of the user's own kind."""

_ADAPTERS = {"torch_geometric": "energysolve.graph"}
"""For each external package, the module that registers its batch types; imported when such a batch is first seen."""


class Layout(ABC):
    """The assignment of the rows (the leading axis) of every leaf of ``y`` and ``z`` to the samples of a batch.

    Examples:
        >>> import torch
        >>> from energysolve import Dense, Segment
        >>> y = torch.tensor([[3.0], [4.0], [5.0]])
        >>> Dense(3).norm(y), Segment(torch.tensor([0, 0, 1]), batch=2).norm(y)  # three samples, or two
        (tensor([3., 4., 5.]), tensor([5., 5.]))
    """

    batch: int
    """Number of samples."""

    unit: str = "rows"
    """What a row of an answer is, for messages."""

    @property
    @abstractmethod
    def rows(self) -> int:
        """Leading size of every leaf."""

    @abstractmethod
    def sum(self, leaf: Shaped[Tensor, "rows *features"]) -> Shaped[Tensor, " batch"]:
        """The sum over all entries of each sample."""

    @abstractmethod
    def expand(
        self, value: Shaped[Tensor, " batch"], leaf: Shaped[Tensor, "rows *features"]
    ) -> Shaped[Tensor, "rows *ones"]:
        """One value per sample as a tensor that broadcasts against ``leaf``."""

    @abstractmethod
    def select(self, samples: Int[Tensor, " selected"]) -> tuple["Layout", Int[Tensor, " selected_rows"]]:
        """The layout of the samples with these indices, in this order, and the rows of a leaf that they own."""

    def stand_in(self, valid: Bool[Tensor, " batch"]) -> Int[Tensor, " rows"] | None:
        """Row indices that replace each invalid sample by a valid one; None if samples may differ in size."""
        return None

    def sums(self, matrix: Shaped[Tensor, "rows columns"]) -> Shaped[Tensor, "batch columns"]:
        """Sums over the rows of each sample, column by column."""
        return torch.stack([self.sum(column) for column in matrix.unbind(1)], 1)

    def spread(self, matrix: Shaped[Tensor, "batch columns"]) -> Shaped[Tensor, "rows columns"]:
        """The values of each sample on all of its rows, column by column."""
        rows = matrix.new_zeros(self.rows)
        return torch.stack([self.expand(column, rows) for column in matrix.unbind(1)], 1)

    def norm(self, tree: Any) -> Shaped[Tensor, " batch"]:
        """The Euclidean norm of each sample over all leaves."""
        total = sum(self.sum(leaf.square()) for leaf in tree_leaves(tree))
        assert isinstance(total, Tensor)
        return total.sqrt()

    def dot(self, a: Any, b: Any) -> Shaped[Tensor, " batch"]:
        """The inner product, per sample, of two trees of the same structure."""
        pairs = zip(tree_leaves(a), tree_leaves(b), strict=True)
        total = sum(self.sum(left * right) for left, right in pairs)
        assert isinstance(total, Tensor)
        return total

    def where(self, mask: Bool[Tensor, " batch"], new: Tree, old: Tree) -> Tree:
        """``new`` for the samples in ``mask`` and ``old`` for the others, leaf by leaf."""
        return tree_map(lambda a, b: torch.where(self.expand(mask, a), a, b), new, old)  # pyright: ignore

    def scale(self, value: Shaped[Tensor, " batch"], tree: Tree) -> Tree:
        """``tree`` with each sample multiplied by its value."""
        return tree_map(lambda leaf: self.expand(value, leaf) * leaf, tree)  # pyright: ignore


def asks(leaf: Tensor) -> bool:
    """Whether the host can look at the values of a tensor without waiting for a device, and outside compiled code."""
    return leaf.device.type == "cpu" and not torch.compiler.is_compiling()


def all_of(mask: Tensor) -> bool:
    """Whether every sample is known to be in the mask, see `asks`."""
    return asks(mask) and bool(mask if mask.numel() == 1 else mask.all())  # a reduction takes ten times as long


def none_of(mask: Tensor) -> bool:
    """Whether no sample is known to be in the mask, see `asks`."""
    return asks(mask) and not mask.any()


LayoutFunction = Callable[[Any], Layout]
"""From the problems ``x`` to the layout of their answers."""


@dataclass(frozen=True)
class Dense(Layout):
    """Row ``i`` of every leaf belongs to sample ``i``.

    Args:
        batch: the number of samples, 0 or more.

    Examples:
        >>> import torch
        >>> from energysolve import Dense
        >>> Dense(2).norm(torch.tensor([[3.0, 4.0], [0.0, 2.0]]))
        tensor([5., 2.])
    """

    batch: int

    def __post_init__(self):
        if self.batch < 0:
            raise ValueError(f"Dense needs a batch size of 0 or more, got {self.batch}.")

    @property
    def rows(self) -> int:
        return self.batch

    def sum(self, leaf):
        return as_matrix(leaf).sum(1)

    def norm(self, tree):
        leaves = tree_leaves(tree)
        if len(leaves) == 1:
            return torch.linalg.vector_norm(as_matrix(leaves[0]), dim=1)
        return super().norm(tree)

    def expand(self, value, leaf):
        return value if leaf.ndim <= 1 else value.view(-1, *[1] * (leaf.ndim - 1))

    def sums(self, matrix):
        return matrix

    def spread(self, matrix):
        return matrix

    def select(self, samples):
        return Dense(len(samples)), samples

    def stand_in(self, valid):
        own = torch.arange(self.batch, device=valid.device)
        return torch.where(valid, own, valid.int().argmax())


@dataclass(frozen=True, eq=False)
class Segment(Layout):
    """Row ``r`` of every leaf belongs to sample ``index[r]``, as for the edges of a batch of graphs.

    Args:
        index: ``(rows,)`` int64, the sample of each row, in any order; a sample may own no rows.
        batch: the number of samples.
        unit: what a row is, for messages.

    Raises:
        ValueError: if ``index`` is not a vector of integers in ``[0, batch)``.

    Examples:
        >>> import torch
        >>> from energysolve import Segment
        >>> layout = Segment(torch.tensor([0, 0, 1]), batch=2)  # rows 0 and 1 belong to sample 0
        >>> layout.sum(torch.tensor([[1.0], [2.0], [5.0]]))
        tensor([3., 5.])
    """

    index: Tensor
    batch: int
    unit: str = "rows"

    def __post_init__(self):
        if self.index.ndim != 1 or self.index.dtype != torch.int64:
            raise ValueError(
                f"Segment needs an index vector of dtype int64, got shape {tuple(self.index.shape)} and dtype "
                f"{self.index.dtype}."
            )
        if len(self.index) and not (int(self.index.min()) >= 0 and int(self.index.max()) < self.batch):
            raise ValueError(
                f"Segment indices must lie in [0, {self.batch}), got values from {int(self.index.min())} to "
                f"{int(self.index.max())}."
            )

    @property
    def rows(self) -> int:
        return len(self.index)

    def sum(self, leaf):
        totals = as_matrix(leaf).sum(1)
        return totals.new_zeros(self.batch).index_add(0, self.index, totals)

    def expand(self, value, leaf):
        return value[self.index].view(-1, *[1] * (leaf.ndim - 1))

    def sums(self, matrix):
        return matrix.new_zeros(self.batch, matrix.shape[1]).index_add(0, self.index, matrix)

    def spread(self, matrix):
        return matrix[self.index]

    def select(self, samples):
        if len(samples.unique()) < len(samples):  # samples that repeat have their rows one after the other
            counts = torch.bincount(self.index, minlength=self.batch)
            lengths = counts[samples]
            index = torch.repeat_interleave(torch.arange(len(samples), device=samples.device), lengths)
            before = torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths)
            first = (counts.cumsum(0) - counts)[samples][index]
            rows = self.index.argsort(stable=True)[first + torch.arange(len(index), device=index.device) - before]
            return Segment(index, len(samples), self.unit), rows
        position = self.index.new_full((self.batch,), -1)
        position[samples] = torch.arange(len(samples), device=self.index.device)
        rows = (position[self.index] >= 0).nonzero().squeeze(1)
        return Segment(position[self.index[rows]], len(samples), self.unit), rows


@singledispatch
def default_layout(x: Any) -> Layout:
    """`layout_of` for one type of ``x``; other types register their own."""
    if not isinstance(x, Tensor):
        _check_no_graphs_within(x)
    tensor = first_tensor(x)
    if tensor is None:
        raise ValueError(
            f"No tensor was found in x (a {type(x).__name__}), so its batch size is unknown. Pass a tensor, or a dict "
            "or tuple of tensors, or give the solver a layout=function of x."
        )
    if tensor.is_nested:
        raise ValueError(
            "x holds a nested tensor, whose samples have no common shape. Pad the samples to one shape and pass a mask "
            "beside them, x={'problem': ..., 'mask': ...}, or put the rows of all samples one after the other and give "
            "the solver a layout=function of x that returns Segment(index, batch)."
        )
    if tensor.ndim == 0:
        raise ValueError("The first tensor in x has no batch dimension (its shape is ()); expected (batch, ...).")
    return Dense(tensor.shape[0])


@singledispatch
def default_selection(x: Any, samples: Tensor, layout: Layout) -> Any:
    """`select_problems` for one type of ``x``; other types register their own."""
    part, rows = layout.select(samples)

    def take(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or leaf.ndim == 0:
            return leaf
        if isinstance(part, Segment) and leaf is getattr(layout, "index", None):
            return part.index
        chosen = {layout.rows: rows, layout.batch: samples}.get(len(leaf))
        return leaf if chosen is None else leaf.index_select(0, chosen)

    return tree_map(take, x)


def layout_of(x: Any) -> Layout:
    """The layout of the answers to ``x`` where the solver states none.

    `Dense` with the leading size of the first tensor in ``x``; for a batch of graphs, `Segment` over its edges.

    Raises:
        ValueError: if ``x`` holds no tensor, or the first one has no batch dimension.

    Examples:
        >>> import torch
        >>> from energysolve.layout import layout_of
        >>> layout_of({"image": torch.rand(8, 1, 5, 5), "sigma": torch.rand(8)})
        Dense(batch=8)
    """
    _load_adapters(x)
    return default_layout(x)


def select_problems(
    x: Any, samples: Int[Tensor, " selected"], layout: Layout, select: SelectFunction | None = None
) -> Any:
    """The problems with these indices, in this order.

    By default, a tensor with one row per sample or one row per row of the answers gives those rows; the index of a
    `Segment` layout is replaced by the index of the selection; everything else stays as it is. Batches of graphs give
    batches of graphs.

    Args:
        x: the problems.
        samples: indices; under `Dense` layouts an index may occur more than once.
        layout: of the answers to ``x``.
        select: ``select(x, samples)``, used in place of the default.

    Examples:
        >>> import torch
        >>> from energysolve import Dense
        >>> from energysolve.layout import select_problems
        >>> x = {"target": torch.tensor([[1.0], [2.0], [3.0]]), "scale": torch.tensor(7.0)}
        >>> select_problems(x, torch.tensor([2, 0]), Dense(3))
        {'target': tensor([[3.], [1.]]), 'scale': tensor(7.)}
    """
    if select is not None:
        return select(x, samples)
    _load_adapters(x)
    return default_selection(x, samples, layout)


def _load_adapters(x: Any) -> None:
    """Import the adapter modules for the package that the type of ``x`` comes from."""
    for package in _adapted_packages(x):
        import_module(_ADAPTERS[package])


def _adapted_packages(x: Any) -> set[str]:
    return {base.__module__.partition(".")[0] for base in type(x).__mro__} & _ADAPTERS.keys()


def _check_no_graphs_within(x: Any) -> None:
    """Raise a ValueError for graphs inside a list, tuple or dict: their first tensor has rows of nodes or edges."""
    for part in tree_leaves(x):
        if not isinstance(part, Tensor) and _adapted_packages(part):
            raise ValueError(
                f"x is a {type(x).__name__} that holds a {type(part).__name__}, so its samples are unknown. Pass "
                "graphs as one batch, torch_geometric.data.Batch.from_data_list(graphs), with everything else as "
                "attributes of the graphs; or give the solver layout= and select=, functions for an x of your own kind."
            )


def tensors(tree: Any) -> Iterator[Tensor]:
    """The tensors of a tree; dicts in insertion order."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, Mapping):
        for child in tree.values():
            yield from tensors(child)
    elif callable(getattr(tree, "to_dict", None)):  # a batch of graphs
        yield from tensors(tree.to_dict())
    elif isinstance(tree, Sequence) and not isinstance(tree, str):
        for child in tree:
            yield from tensors(child)


def first_tensor(tree: Any) -> Tensor | None:
    """The first tensor of a tree, or None."""
    return next(tensors(tree), None)


def check_free(name: str, tree: Any, x: Any, layout: Layout) -> None:
    """Raise a ValueError unless ``tree`` has the form of answers ``y`` or scratchpads ``z`` to the problems ``x``."""
    leaves = tree_leaves(tree)
    if not leaves:
        raise ValueError(f"{name} holds no tensor; expected a tensor or a tree of tensors with {layout.rows} rows.")
    x_tensor = first_tensor(x)
    for leaf in leaves:
        if not isinstance(leaf, Tensor) or not leaf.is_floating_point():
            got = leaf.dtype if isinstance(leaf, Tensor) else type(leaf).__name__
            raise ValueError(
                f"{name} must consist of floating-point tensors, since gradient descent changes it; got {got}. "
                f"Convert it, for example with {name}.float()."
            )
        if leaf.is_nested:
            raise ValueError(f"{name} is a nested tensor; pass a padded one, or rows with a Segment layout.")
        if leaf.ndim == 0 or leaf.shape[0] != layout.rows:
            other = "" if layout.unit == "rows" else f", one row for each of the {layout.unit} (see layout=)"
            raise ValueError(
                f"{name} has shape {tuple(leaf.shape)}, but x has {layout.batch} samples with {layout.rows} "
                f"{layout.unit} in all, so {name} must have shape ({layout.rows}, ...){other}."
            )
        if leaf.device != leaves[0].device or (x_tensor is not None and leaf.device != x_tensor.device):
            where = leaves[0].device if x_tensor is None else x_tensor.device
            raise ValueError(f"{name} is on {leaf.device} and x on {where}; move them to one device with .to().")


def as_matrix(leaf: Tensor) -> Tensor:
    """A leaf reshaped to (rows, features)."""
    if leaf.ndim == 2:
        return leaf
    return leaf.flatten(1) if leaf.ndim > 2 else leaf.unsqueeze(1)
