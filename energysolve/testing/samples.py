"""Helpers of the contract checks: small deterministic problems and comparisons."""

from typing import Any

import torch
from torch import Tensor

from ..engine.objective import Objective
from ..layout import Dense
from ..trees import tree_leaves


def wells(batch: int) -> tuple[Objective, Any]:
    """Quadratic wells, each sample with its own width, with a coupled scratchpad; and an initial point."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    context = {"width": draw(batch, 1).abs() + 0.5, "target": draw(batch, 3)}

    def energy(x, y, z):
        a, b, c = (x["width"] * (y - x["target"]).square()).unbind(1)
        d, e, f = (z - y).square().unbind(1)
        return a + b + c + 0.3 * (d + e + f)

    return Objective(energy, context, Dense(batch)), (draw(batch, 3), draw(batch, 3))


def require(holds: bool, message: str) -> None:
    """Raise an AssertionError unless the condition holds."""
    if not holds:
        raise AssertionError(message)


def same(a: Any, b: Any) -> bool:
    """Whether two trees hold equal tensors, NaN equal to NaN."""
    first, second = tree_leaves(a), tree_leaves(b)
    return len(first) == len(second) and all(
        not isinstance(p, Tensor) or (p.shape == q.shape and bool(_equal(p, q).all()))
        for p, q in zip(first, second, strict=True)
    )


def _equal(p: Tensor, q: Tensor) -> Tensor:
    return (p == q) | ((p != p) & (q != q))


def copied(leaf: Any) -> Any:
    """A copy of a tensor; anything else as it is."""
    return leaf.clone() if isinstance(leaf, Tensor) else leaf
