"""The Jacobian of residuals, one matrix per sample."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..trees import tree_leaves, tree_unflatten
from .flat import flatten


def jacobian(residuals: Callable[[Any], Tensor], free: Any) -> Tensor:
    """The derivatives ``(batch, m, n)`` of ``residuals(free)``, ``(batch, m)``, by the ``n`` entries of each sample.

    One backward pass gives ``J'v`` as a function of ``v``, and one more for each entry of ``free`` gives a column of
    ``J``: where few variables are fitted to many residuals, this takes fewer passes than one for each residual, and
    unlike forward mode it evaluates the residuals once. Where the residuals cannot be differentiated twice, there is
    one pass for each residual.

    With gradients enabled, the result is part of the gradient graph.

    Args:
        residuals: row ``i`` of its result depends on row ``i`` of every leaf of ``free`` only.
        free: a tensor or a tree of tensors, each with one row per sample.
    """
    track = torch.is_grad_enabled()
    with torch.enable_grad():
        leaves = [
            leaf if track and leaf.requires_grad else leaf.detach().requires_grad_() for leaf in tree_leaves(free)
        ]
        found = residuals(tree_unflatten(free, leaves))
        if not found.requires_grad:  # constant residuals
            return found.new_zeros(*found.shape, flatten(leaves).shape[1])
        try:
            return _by_columns(found, leaves, track)
        except (RuntimeError, NotImplementedError):
            return _by_rows(found, leaves, track)


def _by_columns(found: Tensor, leaves: list[Tensor], track: bool) -> Tensor:
    weights = torch.zeros_like(found).requires_grad_()
    products = flatten(_pulled_back(found, leaves, weights, track=True))
    if _once_differentiable(products):
        raise NotImplementedError("a part of the residuals is differentiable only once")
    ones = torch.ones_like(products[:, 0])
    columns = [
        torch.autograd.grad(column, weights, ones, retain_graph=True, create_graph=track)[0]
        for column in products.unbind(1)
    ]
    return torch.stack(columns, 1).mT


def _by_rows(found: Tensor, leaves: list[Tensor], track: bool) -> Tensor:
    identity = torch.eye(found.shape[1], dtype=found.dtype, device=found.device)
    rows = [flatten(_pulled_back(found, leaves, row.expand_as(found), track)) for row in identity]
    return torch.stack(rows, 1)


def _pulled_back(found: Tensor, leaves: list[Tensor], weights: Tensor, track: bool) -> tuple[Tensor, ...]:
    """The products of the weights with the Jacobian, leaf by leaf."""
    return torch.autograd.grad(
        found, leaves, weights, retain_graph=True, create_graph=track, allow_unused=True, materialize_grads=True
    )


def _once_differentiable(products: Tensor) -> bool:
    """Whether a part of the graph has no derivative, which autograd would take for zero without an error."""
    seen, waiting = set(), [products.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        if node.name() == "torch::autograd::Error":
            return True
        seen.add(node)
        waiting += [child for child, _ in node.next_functions]
    return False
