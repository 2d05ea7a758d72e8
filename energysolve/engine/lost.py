"""Steps that are lost to rounding, which a criterion that compares iterates would take for convergence."""

import torch
from torch import Tensor

from ..halting import Both, Either, EnergyChange, Halting, Patience, StepNorm
from ..layout import Layout
from ..optimizers.base import Evaluation
from ..trees import tree_leaves
from .witness import Witnessed


def compares(halting: Halting) -> bool:
    """Whether the criterion may fire only because two iterates are equal."""
    if isinstance(halting, Either):
        return compares(halting.a) or compares(halting.b)
    if isinstance(halting, Both):
        return compares(halting.a) and compares(halting.b)
    if isinstance(halting, Patience | Witnessed):
        return compares(halting.criterion)
    return isinstance(halting, EnergyChange | StepNorm)


def lost(layout: Layout, before: Evaluation, after: Evaluation, initial_energy: Tensor) -> Tensor:
    """The samples ``(batch,)`` that a step left where they were, though there is a slope to descend.

    There is one where the smallest change of the answer would change the energy noticeably, compared with the descent
    so far. A sample that has descended and comes to rest within its rounding has converged.
    """
    pairs = zip(tree_leaves(after.free), tree_leaves(before.free), strict=True)
    moved = [layout.sum(new != old) for new, old in pairs]
    eps = torch.finfo(after.energy.dtype).eps
    least = layout.norm(after.gradient) * eps * layout.norm(after.free)
    slope = least > eps**0.5 * (initial_energy - after.energy).abs()
    return (sum(moved[1:], start=moved[0]) == 0) & slope
