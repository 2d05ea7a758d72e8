"""Which rows of an answer belong to which sample.

Everything per-sample in the library (norms, masks, freezing, selection) goes through a layout, so no other code
asks whether answers are vectors, matrices, images or the edges of a batch of graphs.
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

_ADAPTERS = {"torch_geometric": "energysolve.graph"}
"""Our module that registers a layout for the batch types of another package; imported when such a batch is met."""


class Layout(ABC):
    """The assignment of the rows (the leading axis) of every leaf of ``y`` and ``z`` to the samples of a batch."""

    batch: int
    """Number of samples."""

    @property
    @abstractmethod
    def rows(self) -> int:
        """Leading size of every leaf."""

    @abstractmethod
    def sum(self, leaf: Shaped[Tensor, "rows *features"]) -> Shaped[Tensor, " batch"]:
        """Sum of all the entries of each sample."""

    @abstractmethod
    def expand(
        self, value: Shaped[Tensor, " batch"], leaf: Shaped[Tensor, "rows *features"]
    ) -> Shaped[Tensor, "rows *ones"]:
        """One value a sample as a tensor that broadcasts against ``leaf``."""

    @abstractmethod
    def select(self, samples: Int[Tensor, " selected"]) -> tuple["Layout", Int[Tensor, " selected_rows"]]:
        """The layout of the samples with these indices, in this order, and the rows of a leaf that they own."""

    def stand_in(self, valid: Bool[Tensor, " batch"]) -> Int[Tensor, " rows"] | None:
        """Rows that put a copy of a valid sample in the place of each other one; None where sizes may differ."""
        return None

    def norm(self, tree: Any) -> Shaped[Tensor, " batch"]:
        """Euclidean norm of each sample, over all the leaves together."""
        total = sum(self.sum(leaf.square()) for leaf in tree_leaves(tree))
        assert isinstance(total, Tensor)
        return total.sqrt()

    def dot(self, a: Any, b: Any) -> Shaped[Tensor, " batch"]:
        """Inner product of each sample of two equal structures."""
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


@dataclass(frozen=True)
class Dense(Layout):
    """Row ``i`` of every leaf belongs to sample ``i``.

    Args:
        batch: the number of samples, 0 or more.
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

    def select(self, samples):
        return Dense(len(samples)), samples

    def stand_in(self, valid):
        own = torch.arange(self.batch, device=valid.device)
        return torch.where(valid, own, valid.int().argmax())


@dataclass(frozen=True, eq=False)
class Segment(Layout):
    """Row ``r`` of every leaf belongs to sample ``index[r]``: the edges of a batch of graphs, say.

    Args:
        index: the sample of each row, in any order; a sample may own no row at all.
        batch: the number of samples.

    Raises:
        ValueError: if ``index`` is not a vector of integers in ``[0, batch)``.
    """

    index: Tensor
    batch: int

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

    def select(self, samples):
        position = self.index.new_full((self.batch,), -1)
        position[samples] = torch.arange(len(samples), device=self.index.device)
        rows = (position[self.index] >= 0).nonzero().squeeze(1)
        return Segment(position[self.index[rows]], len(samples)), rows


@singledispatch
def default_layout(x: Any) -> Layout:
    """The layout of a problem ``x`` for which the solver was given none.

    ``Dense`` with the leading size of the first tensor in ``x``; batches of graphs bring a layout of their own.
    """
    tensor = first_tensor(x)
    if tensor is None:
        raise ValueError(
            f"No tensor was found in x (a {type(x).__name__}), so its batch size is unknown. Pass a tensor, or a dict "
            "or tuple of tensors, or give the solver a layout=function of x."
        )
    if tensor.ndim == 0:
        raise ValueError("The first tensor in x has no batch dimension (its shape is ()); expected (batch, ...).")
    return Dense(tensor.shape[0])


@singledispatch
def default_selection(x: Any, samples: Tensor, layout: Layout) -> Any:
    """The problems of the samples with these indices, in this order.

    Of a tensor with one row a sample, or with one row for each row of the answers, those rows; in place of the index of
    a `Segment`, the index of what is selected; everything else as it is. Batches of graphs bring a selection of their
    own.
    """
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
    """``default_layout(x)``, also for the batch types of other packages that we have adapters for."""
    _load_adapters(x)
    return default_layout(x)


def select_problems(x: Any, samples: Int[Tensor, " selected"], layout: Layout) -> Any:
    """``default_selection(x, samples, layout)``, also for the batch types that we have adapters for."""
    _load_adapters(x)
    return default_selection(x, samples, layout)


def _load_adapters(x: Any) -> None:
    """Import our modules for the packages that the type of ``x`` comes from."""
    for package in {base.__module__.partition(".")[0] for base in type(x).__mro__} & _ADAPTERS.keys():
        import_module(_ADAPTERS[package])


def tensors(tree: Any) -> Iterator[Tensor]:
    """The tensors of a tree, dicts in insertion order."""
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
    """The first tensor of a tree; None where there is none."""
    return next(tensors(tree), None)


def check_free(name: str, tree: Any, x: Any, layout: Layout) -> None:
    """Raise a ValueError unless ``tree`` can hold answers (``y``) or scratchpads (``z``) to the problems ``x``."""
    leaves = tree_leaves(tree)
    if not leaves:
        raise ValueError(f"{name} holds no tensor; expected a tensor or a tree of tensors with {layout.rows} rows.")
    x_tensor = first_tensor(x)
    for leaf in leaves:
        if not isinstance(leaf, Tensor) or not leaf.is_floating_point():
            got = leaf.dtype if isinstance(leaf, Tensor) else type(leaf).__name__
            raise ValueError(
                f"{name} must be made of floating-point tensors, since it is moved along a gradient; got {got}. "
                f"Convert it, for example with {name}.float()."
            )
        if leaf.ndim == 0 or leaf.shape[0] != layout.rows:
            raise ValueError(
                f"{name} has shape {tuple(leaf.shape)}, but x has {layout.batch} samples with {layout.rows} rows in "
                f"all, so {name} must have shape ({layout.rows}, ...)."
            )
        if leaf.device != leaves[0].device or (x_tensor is not None and leaf.device != x_tensor.device):
            where = leaves[0].device if x_tensor is None else x_tensor.device
            raise ValueError(f"{name} is on {leaf.device} and x on {where}; move them to one device with .to().")


LayoutFunction = Callable[[Any], Layout]


def as_matrix(leaf: Tensor) -> Tensor:
    """A leaf as (rows, features)."""
    if leaf.ndim == 2:
        return leaf
    return leaf.flatten(1) if leaf.ndim > 2 else leaf.unsqueeze(1)
