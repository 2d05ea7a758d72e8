"""Trees of tensors: optree behind a fast path for ``(y,)``, the structure of most solves."""

from collections.abc import Callable, Sequence
from typing import Any

import optree
from torch import Tensor


def tree_map(function: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """Apply ``function`` leaf by leaf to trees of the same structure.

    Examples:
        >>> import torch
        >>> from energysolve.trees import tree_map
        >>> tree = {"p": torch.ones(2), "q": (torch.zeros(1),)}
        >>> tree_map(lambda a, b: a + b, tree, tree)
        {'p': tensor([2., 2.]), 'q': (tensor([0.]),)}
    """
    if _single(tree):
        return (function(tree[0], *(other[0] for other in rest)),)
    return optree.tree_map(function, tree, *rest)


def tree_leaves(tree: Any) -> list[Any]:
    """The leaves of a tree.

    Examples:
        >>> import torch
        >>> from energysolve.trees import tree_leaves
        >>> [leaf.shape for leaf in tree_leaves({"p": torch.ones(2), "q": (torch.zeros(1),)})]
        [torch.Size([2]), torch.Size([1])]
    """
    return [tree[0]] if _single(tree) else optree.tree_leaves(tree)


def tree_structure(tree: Any) -> optree.PyTreeSpec:
    """The structure of a tree, which can be compared and printed, and holds no leaf."""
    return optree.tree_structure(tree)


def tree_unflatten(like: Any, leaves: Sequence[Any]) -> Any:
    """A tree of these leaves with the structure of ``like``: of another tree, or what `tree_structure` returned."""
    if _single(like):
        return (leaves[0],)
    structure = like if isinstance(like, optree.PyTreeSpec) else optree.tree_structure(like)
    return optree.tree_unflatten(structure, leaves)


def _single(tree: Any) -> bool:
    return type(tree) is tuple and len(tree) == 1 and isinstance(tree[0], Tensor)


def detach(tree: Any) -> Any:
    """The tree with every tensor in it detached."""
    return tree_map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, tree)
