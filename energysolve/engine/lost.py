"""Steps that are lost to rounding, which a criterion that compares iterates would take for convergence."""

from typing import Any

import torch
from torch import Tensor

from ..halting import Both, Either, EnergyChange, Halting, Patience, StepNorm
from ..layout import Layout
from ..optimizers.base import Evaluation
from ..trees import tree_leaves
from .objective import Objective
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


def lost(objective: Objective, before: Evaluation, after: Evaluation, initial_energy: Tensor) -> tuple[Tensor, Tensor]:
    """The samples whose last step was lost to rounding.

    The first are at rest beside a slope: the smallest change of the answer would change the energy noticeably, compared
    with the descent so far. A sample that has descended and comes to rest within its rounding has converged. The others
    have moved, but by less than an energy in half precision sees; such steps add up.

    Returns:
        Both as ``(batch,)`` bool.
    """
    layout = objective.layout
    moved = _moved(layout, after.free, before.free)
    norm = layout.norm(after.gradient)
    least = norm * torch.finfo(norm.dtype).eps * layout.norm(after.free)
    slope = least > torch.finfo(norm.dtype).eps ** 0.5 * (initial_energy - after.energy).abs()
    if objective.coarse is None:
        return ~moved & slope, torch.zeros_like(moved)
    seen = _moved(layout, objective.seen(after.free), objective.seen(before.free))
    return ~moved & slope, moved & ~seen & (norm > 0)


def _moved(layout: Layout, new: Any, old: Any) -> Tensor:
    counts = [layout.sum(a != b) for a, b in zip(tree_leaves(new), tree_leaves(old), strict=True)]
    return sum(counts[1:], start=counts[0]) > 0
