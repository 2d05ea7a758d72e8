"""Step lengths per sample: when a candidate is accepted, and how long the next one is after a refusal."""

from typing import NamedTuple

import torch
from torch import Tensor

from ..layout import all_of, none_of

ARMIJO = 1e-4
"""The share of the decrease predicted by the slope that a step must bring (Nocedal and Wright, Section 3.1)."""
_LEAST, _MOST = 0.1, 0.5
"""How far a refusal shortens a step. Far shorter ones led L-BFGS astray where it fits curves."""
REFUSALS = 40
"""Refusals in a row after which a sample has stalled: at a kink, shorter steps do not help."""


class Search(NamedTuple):
    """The search of each sample along its direction, tensors ``(batch,)``.

    Attributes:
        length: of the next step, as a multiple of the direction; NaN before the first.
        slope: the derivative of the energy along the whole step that was last proposed.
        refusals: in a row.
        stalled: no step lowers the energy.
    """

    length: Tensor
    slope: Tensor
    refusals: Tensor
    stalled: Tensor

    @classmethod
    def begin(cls, like: Tensor) -> "Search":
        """Before the first step; ``like`` is ``(batch,)``."""
        none = torch.zeros_like(like, dtype=torch.int64)
        return cls(torch.full_like(like, torch.nan), torch.zeros_like(like), none, none > 0)


def rounding(energy: Tensor) -> Tensor:
    """What the rounding of an energy can hide."""
    return 4 * torch.finfo(energy.dtype).eps * energy.abs()


def within_rounding(energy: Tensor, slope: Tensor) -> Tensor:
    """Where the decrease that the slope predicts is within the rounding of the energy."""
    return slope >= -8 * rounding(energy)


def sufficient(energy: Tensor, new: Tensor, slope: Tensor, new_slope: Tensor, rounded: Tensor) -> Tensor:
    """The samples whose candidate is good enough.

    The energy must fall by a share of what the slope predicts. Where the prediction is within the rounding of the
    energy, slopes decide: the energy has not risen and still falls along the step, or the slope has become flatter at
    an energy that has not risen by more than its rounding (the approximate Wolfe conditions of Hager and Zhang, 2005).

    Args:
        energy: at the iterate.
        new: at the candidate; infinite where it is not finite.
        slope: along the step at the iterate, negative.
        new_slope: along the step at the candidate.
        rounded: see `within_rounding`.
    """
    falls = (slope < 0) & (new <= energy + ARMIJO * slope)
    if none_of(rounded):
        return falls
    flatter = (new_slope.abs() <= 0.9 * slope.abs()) & (new <= energy + rounding(energy))
    downhill = (new_slope < 0) & (new <= energy)
    return torch.where(rounded, (slope < 0) & (flatter | downhill), falls)


def shortened(energy: Tensor, new: Tensor, slope: Tensor, new_slope: Tensor) -> Tensor:
    """The factor by which a refused step is shortened: the minimum of a cubic through both ends, within bounds.

    See Nocedal and Wright, Section 3.5, Eq. 3.59.
    """
    a = slope + new_slope - 3 * (new - energy)
    root = (a * a - slope * new_slope).clamp(min=0).sqrt()
    factor = 1 - (new_slope + root - a) / (new_slope - slope + 2 * root)
    factor = torch.where(factor.isfinite(), factor, _MOST)
    return torch.where(new.isfinite(), factor.clamp(_LEAST, _MOST), _LEAST)


def decide(
    search: Search, energy: Tensor, new: Tensor, new_slope: Tensor, lost: Tensor, grown: float = 4.0
) -> tuple[Tensor, Search]:
    """Which samples accept their candidates, and their search afterwards.

    After a step of positive curvature the next length is 1, that of a quasi-Newton step; after one of negative
    curvature it grows.

    Args:
        search: with the slope along the proposed step.
        energy: at the iterate.
        new: at the candidate; infinite where it is not finite.
        new_slope: along the step at the candidate.
        lost: whether the step was lost to rounding: the candidate is the iterate.
        grown: the factor by which lengths grow.
    """
    slope = search.slope
    rounded = within_rounding(energy, slope)
    accepted = sufficient(energy, new, slope, new_slope, rounded) & ~lost
    longer = torch.where(new_slope > slope, 1.0, grown * search.length)
    if all_of(accepted):
        return accepted, Search(longer, slope, torch.zeros_like(search.refusals), torch.zeros_like(accepted))
    shorter = search.length * shortened(energy, new, slope, new_slope)
    refusals = torch.where(accepted, 0, search.refusals + 1)
    stalled = ~accepted & (lost | (rounded & (refusals >= 3)) | (refusals >= REFUSALS) | (slope == 0))
    return accepted, Search(torch.where(accepted, longer, shorter), slope, refusals, stalled)


def backtrack(
    search: Search, energy: Tensor, new: Tensor, new_slope: Tensor, lost: Tensor, patience: int = 3
) -> tuple[Tensor, Search]:
    """Like `decide`, for directions that have no length of their own: the length of the last step is remembered.

    The next length is the minimum of a parabola through the slopes at both ends, within bounds; along a gradient, the
    step length of Barzilai and Borwein (1988). Short steps are accepted too, since lengths grow.
    A sample stalls after ``patience`` refusals in a row where energies are equal to rounding.
    """
    slope = search.slope
    rounded = within_rounding(energy, slope)
    flatter = (new_slope <= 0.9 * slope.abs()) & (new <= energy + rounding(energy))
    accepted = (slope < 0) & torch.where(rounded, flatter, new <= energy + ARMIJO * slope) & ~lost
    curved = new_slope > slope
    parabola = slope / torch.where(curved, slope - new_slope, slope)
    longer = torch.where(curved, parabola.clamp(_LEAST, 10.0), 4.0)
    # Where energies are equal to rounding, only slopes say how much shorter a step must be.
    by_slopes = torch.where(curved, parabola, _MOST).clamp(1e-3, _MOST)
    shorter = torch.where(rounded & new.isfinite(), by_slopes, shortened(energy, new, slope, new_slope))
    # Slightly less than the best length along the step: best lengths zigzag (Raydan and Svaiter, 2002).
    length = search.length * torch.where(accepted, longer, 0.8 * shorter)
    refusals = torch.where(accepted, 0, search.refusals + 1)
    stalled = ~accepted & (lost | (rounded & (refusals >= patience)) | (refusals >= REFUSALS) | (slope == 0))
    return accepted, Search(length, slope, refusals, stalled)
