"""Samples of different sizes as tensors, and trees in which each leaf holds one row or a run of rows per sample.

A *rows tree* is a tree whose leaves are tensors ``(batch, ...)`` or `Ragged`, the form in which samples of any batch
can be stored, drawn and joined.
"""

from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from .trees import tree_leaves, tree_map, tree_structure

Tree = TypeVar("Tree")


@dataclass(frozen=True, eq=False)
class Ragged:
    """A tensor in which each sample owns its own number of rows, one sample after the other.

    Args:
        values: ``(rows, *features)``.
        lengths: ``(batch,)`` int64, the number of rows of each sample, with the sum ``rows``. The numbers are checked
            only on the CPU; on other devices, reading them would wait for the device.

    Raises:
        ValueError: if ``values`` and ``lengths`` do not match.
    """

    values: Tensor
    lengths: Tensor

    def __post_init__(self):
        if self.values.ndim == 0 or self.lengths.ndim != 1 or self.lengths.dtype != torch.int64:
            raise ValueError(
                "Ragged needs values of shape (rows, *features) and int64 lengths of shape (batch,), got values of "
                f"shape {tuple(self.values.shape)} and {self.lengths.dtype} lengths of {tuple(self.lengths.shape)}."
            )
        if self.lengths.device != self.values.device:
            raise ValueError(
                f"Ragged needs values and lengths on one device, got {self.values.device} and {self.lengths.device}."
            )
        if self.lengths.device.type == "cpu":
            total = int(self.lengths.sum())
            if total != len(self.values) or bool((self.lengths < 0).any()):
                raise ValueError(
                    f"Ragged needs lengths of 0 or more that add up to the {len(self.values)} rows of values; these "
                    f"add up to {total}, and the least is {int(self.lengths.amin()) if len(self) else 0}."
                )

    def __len__(self) -> int:
        return self.lengths.shape[0]

    @property
    def longest(self) -> int:
        """The number of rows of the longest sample; 0 in an empty batch. Waits for the device."""
        return int(self.lengths.max()) if len(self) else 0

    def select(self, samples: Tensor | slice) -> "Ragged":
        """The samples with these indices, in this order. Waits for their sizes on the device."""
        lengths = self.lengths[samples]
        starts = (self.lengths.cumsum(0) - self.lengths)[samples]
        return Ragged(self.values.index_select(0, _runs(starts, lengths)), lengths)

    def padded(self, longest: int) -> Shaped[Tensor, "batch longest *features"]:
        """The samples as one tensor, each padded with zeros to ``longest`` rows. Waits for the device.

        Raises:
            ValueError: if a sample is longer.
        """
        if self.longest > longest:
            raise ValueError(f"A sample has {self.longest} rows, more than the {longest} to which it should be padded.")
        features = self.values.shape[1:]
        starts = torch.arange(len(self), device=self.lengths.device) * longest
        rows = _runs(starts, self.lengths, len(self.values))
        padded = self.values.new_zeros(len(self) * longest, *features).index_copy(0, rows, self.values)
        return padded.view(len(self), longest, *features)

    @staticmethod
    def from_padded(padded: Shaped[Tensor, "batch longest *features"], lengths: Int[Tensor, " batch"]) -> "Ragged":
        """The inverse of `padded`: the first ``lengths[i]`` rows of each sample ``i``. Waits for the device.

        Raises:
            ValueError: if a length is larger than the padded samples.
        """
        batch, longest = padded.shape[:2]
        if batch and int(lengths.max()) > longest:
            raise ValueError(f"A length is {int(lengths.max())}, but the samples are padded to {longest} rows.")
        starts = torch.arange(batch, device=padded.device) * longest
        return Ragged(padded.flatten(0, 1).index_select(0, _runs(starts, lengths)), lengths)


def rows_count(tree: Any) -> int:
    """The number of samples in a rows tree.

    Raises:
        ValueError: if the tree has no leaves, leaves that are not tensors or `Ragged`, or leaves of different counts.
    """
    leaves = tree_leaves(tree)
    if not leaves:
        raise ValueError("There is no tensor in the tree; expected tensors with one row per sample.")
    for leaf in leaves:
        if leaf.ndim == 0 if isinstance(leaf, Tensor) else not isinstance(leaf, Ragged):
            got = "a tensor of shape ()" if isinstance(leaf, Tensor) else f"a {type(leaf).__name__}"
            raise ValueError(
                f"Expected tensors with one row per sample, or Ragged, got {got}. Other batches must be split first: "
                "a task does so in Task.split."
            )
    counts = [len(leaf) for leaf in leaves]
    if min(counts) != max(counts):
        raise ValueError(f"The leaves of the tree must have one number of samples, got {counts}.")
    return counts[0]


def rows_select(tree: Tree, samples: Int[Tensor, " selected"] | slice) -> Tree:
    """The samples of a rows tree with these indices, in this order."""
    return tree_map(lambda leaf: leaf.select(samples) if isinstance(leaf, Ragged) else leaf[samples], tree)


def rows_cat(a: Tree, b: Tree) -> Tree:
    """The samples of ``a`` followed by those of ``b``.

    Raises:
        ValueError: if their structures differ, or a leaf is `Ragged` in only one of them.
    """
    if tree_structure(a) != tree_structure(b):
        raise ValueError(f"The trees differ in structure: {tree_structure(a)} and {tree_structure(b)}.")
    return tree_map(_cat, a, b)


def _cat(a: Tensor | Ragged, b: Tensor | Ragged) -> Tensor | Ragged:
    if isinstance(a, Ragged) and isinstance(b, Ragged):
        return Ragged(torch.cat([a.values, b.values]), torch.cat([a.lengths, b.lengths]))
    if isinstance(a, Ragged) or isinstance(b, Ragged):
        raise ValueError("A leaf is Ragged in one of the trees and a dense tensor in the other.")
    return torch.cat([a, b])


def _runs(starts: Tensor, lengths: Tensor, total: int | None = None) -> Tensor:
    """The row numbers ``starts[i], ..., starts[i] + lengths[i] - 1`` for each ``i`` in turn."""
    shift = starts - (lengths.cumsum(0) - lengths)
    rows = torch.repeat_interleave(shift, lengths, output_size=total)
    return rows + torch.arange(len(rows), device=rows.device)
