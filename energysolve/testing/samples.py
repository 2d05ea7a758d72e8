"""Helpers of the contract checks: small deterministic problems and comparisons."""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from ..engine.objective import Objective
from ..layout import Dense
from ..trees import tree_leaves


def wells(
    batch: int, *, scratchpad: bool = True, steep: bool = False, shape: Sequence[int] = (3,)
) -> tuple[Objective, Any]:
    """Wells, each sample with its own width; and an initial point.

    Args:
        batch: the number of samples.
        scratchpad: whether there is one, coupled with the answer.
        steep: a fourth power on top of the quadratic and a start far away, so that searches refuse candidates.
        shape: the shape of an answer, and of a scratchpad.
    """
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    context = {"width": draw(batch, 1).abs() + 0.5, "target": draw(batch, *shape)}

    def energy(x, y, *z):
        square = (y - x["target"]).square().flatten(1)
        terms = x["width"] * (square + square.square() if steep else square)
        coupling = (z[0] - y if z else torch.zeros_like(y)).square().flatten(1)
        # Entry by entry: a reduction rounds differently for batches of other sizes.
        return reduce(torch.add, terms.unbind(1)) + 0.3 * reduce(torch.add, coupling.unbind(1))

    free = draw(batch, *shape) * (3 if steep else 1), draw(batch, *shape)
    return Objective(energy, context, Dense(batch)), free if scratchpad else free[:1]


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
