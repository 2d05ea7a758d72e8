"""Whether samples keep their energy outside their batch: the check behind everything that selects samples."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..layout import Layout
from ..optimizers.base import Evaluation
from ..trees import tree_leaves, tree_map


def same_to_rounding(known: Tensor, found: Tensor, change: Tensor, eps: float) -> bool:
    """Whether energies are equal up to rounding.

    An energy has an arbitrary offset, so a difference is small compared with ``change``, how much the energy changes
    along a descent, or within the rounding of the energy itself.
    """
    allowed = eps**0.5 * change + 100 * eps * known.abs().max()
    return bool(((known - found).abs() <= allowed).all())


def same_alone(
    known: Sequence[Evaluation], found: Sequence[Evaluation], layout: Layout, samples: Tensor | None = None
) -> bool:
    """Whether two evaluations at the same two points give the same energies and gradients up to rounding.

    One point is not enough: gradients vanish at an answer, and an initial answer may be zero.

    Args:
        known: two evaluations in the whole batch.
        found: the evaluations to compare, of the same samples, selected.
        layout: of these samples.
        samples: ``(batch,)`` bool, the samples to compare; by default all.
    """
    chosen = slice(None) if samples is None else samples
    eps = max(torch.finfo(leaf.dtype).eps for leaf in tree_leaves(known[0].gradient))
    change = (known[1].energy - known[0].energy)[chosen].abs().max()
    slope = torch.stack([layout.norm(at.gradient)[chosen] for at in known]).max()
    for a, b in zip(known, found, strict=True):
        difference = layout.norm(tree_map(torch.sub, a.gradient, b.gradient))[chosen]
        if not same_to_rounding(a.energy[chosen], b.energy[chosen], change, eps):
            return False
        if not bool((difference <= eps**0.5 * slope).all()):
            return False
    return True
