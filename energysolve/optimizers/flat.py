"""The free variables as one matrix: the rows of a sample, and all its features side by side."""

from typing import Any

import torch
from torch import Tensor

from ..layout import Layout, as_matrix
from ..trees import tree_leaves, tree_unflatten


def flatten(tree: Any) -> Tensor:
    """The leaves of a tree side by side, ``(rows, features)``."""
    leaves = [as_matrix(leaf) for leaf in tree_leaves(tree)]
    return leaves[0] if len(leaves) == 1 else torch.cat(leaves, 1)


def unflatten(matrix: Tensor, like: Any) -> Any:
    """The tree with the structure and shapes of ``like`` that `flatten` maps to ``matrix``, without its padding."""
    leaves = tree_leaves(like)
    if len(leaves) == 1 and matrix.numel() == leaves[0].numel():
        return tree_unflatten(like, [matrix.view_as(leaves[0])])
    sizes = [leaf.shape[1:].numel() for leaf in leaves]
    parts = matrix[:, : sum(sizes)].split(sizes, 1)
    return tree_unflatten(like, [part.view_as(leaf) for part, leaf in zip(parts, leaves, strict=True)])


def padded(matrix: Tensor) -> Tensor:
    """The matrix with columns of zeros up to a power of two, or to a multiple of 16.

    Products of matrices then round alike in batches of any size, as their rows are aligned in memory alike.
    """
    columns = matrix.shape[1]
    wanted = 1 << (columns - 1).bit_length() if columns <= 16 else -columns % 16 + columns
    return matrix if wanted == columns else torch.nn.functional.pad(matrix, (0, wanted - columns))


def unmoved(layout: Layout, moved: Tensor) -> Tensor:
    """The samples ``(batch,)`` bool for which every entry of ``(rows, columns)`` is zero."""
    return layout.sums(moved.abs().amax(1, keepdim=True)).squeeze(1) == 0


def dot(layout: Layout, a: Tensor, b: Tensor) -> Tensor:
    """The inner products of each sample, ``(batch,)``, of two matrices ``(rows, features)``."""
    return layout.sums((a * b).sum(1, keepdim=True)).squeeze(1)


def combine(layout: Layout, stack: Tensor, weights: Tensor) -> Tensor:
    """The weighted sums ``(rows, features)`` of ``(rows, m, features)``, with weights ``(batch, m)`` of each sample."""
    return torch.bmm(layout.spread(weights).unsqueeze(1), stack).squeeze(1)


def scaled(layout: Layout, value: Tensor, matrix: Tensor) -> Tensor:
    """Each sample of ``(rows, features)`` times its value ``(batch,)``."""
    return layout.spread(value.unsqueeze(1)) * matrix


def dots(layout: Layout, stack: Tensor, vector: Tensor) -> Tensor:
    """The inner products of each sample, ``(batch, m)``, of ``(rows, m, features)`` with ``(rows, features)``."""
    return layout.sums((stack * vector.unsqueeze(1)).sum(2))  # several times faster than a batched product
