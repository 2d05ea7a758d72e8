"""Trust regions per sample: when a candidate is accepted, and how far the next one may be."""

from typing import NamedTuple

import torch
from torch import Tensor

from .search import REFUSALS, rounding

_ENOUGH = 1e-4
"""The share of the predicted decrease that a step must bring."""


class Trust(NamedTuple):
    """The trust region of each sample and the last step proposed in it, tensors ``(batch,)``.

    Attributes:
        radius: NaN before the first step.
        length: of the step.
        predicted: the decrease of the energy that the model predicts, positive.
        slope: the decrease of the energy that the gradient alone predicts.
        first: whether no step was accepted yet.
        refusals: in a row.
        stalled: no step lowers the energy.
    """

    radius: Tensor
    length: Tensor
    predicted: Tensor
    slope: Tensor
    first: Tensor
    refusals: Tensor
    stalled: Tensor

    @classmethod
    def begin(cls, like: Tensor) -> "Trust":
        """Before the first step; ``like`` is ``(batch,)``."""
        zero, none = torch.zeros_like(like), torch.zeros_like(like, dtype=torch.int64)
        unknown = torch.full_like(like, torch.nan)
        return cls(unknown, zero, zero, zero, none == 0, none, none > 0)

    def proposed(self, radius: Tensor, length: Tensor, predicted: Tensor, slope: Tensor) -> "Trust":
        """With the step of a length ``length`` that was chosen within ``radius``."""
        # The first step shows how far the model reaches; the initial radius is a guess.
        radius = torch.where(self.first, torch.minimum(radius, length), radius)
        return self._replace(radius=radius, length=length, predicted=predicted, slope=slope)


def decide(
    trust: Trust, energy: Tensor, new: Tensor, norm: Tensor, new_norm: Tensor, size: Tensor, lost: Tensor
) -> tuple[Tensor, Trust]:
    """Which samples accept their candidates, and their trust regions afterwards (after Moré, 1978, Section 4).

    An accepted short step within the region does not shrink it: it may be short since it was solved roughly.

    Where the predicted decrease is within the rounding of the energy, energies cannot decide; there, the gradient must
    have become smaller at an energy that has not risen by more than its rounding.

    Args:
        trust: with the step that was proposed.
        energy: at the iterate.
        new: at the candidate; infinite where it is not finite.
        norm: of the gradient at the iterate.
        new_norm: of the gradient at the candidate.
        size: of the iterate, in the units of the radius.
        lost: whether the step was lost to rounding: the candidate is the iterate.
    """
    fallen = energy - new
    ratio = fallen / trust.predicted
    blur = 2 * rounding(energy)  # of a sum of many squares
    blurred = trust.predicted <= 4 * blur
    smaller = (new_norm < 0.9 * norm) & (-fallen <= blur)
    accepted = torch.where(blurred, smaller, ratio >= _ENOUGH) & ~lost
    ratio = torch.where(blurred & accepted, 1, ratio)
    # Along the step, the parabola through both energies and the slope has its minimum at this share of the step.
    share = torch.where(fallen < 0, 0.5 * trust.slope / (trust.slope - fallen), 0.5)
    share = torch.where(share.isfinite(), share.clamp(min=0.1), 0.1)
    shorter = share * torch.minimum(trust.radius, 10 * trust.length)
    longer = torch.where(ratio >= 0.75, torch.maximum(trust.radius, 2 * trust.length), trust.radius)
    radius = torch.where(ratio > 0.25, longer, shorter)
    refusals = torch.where(accepted, 0, trust.refusals + 1)
    resolved = torch.finfo(energy.dtype).eps * size
    stalled = lost | (radius <= resolved) | (blurred & (refusals >= 3)) | (refusals >= REFUSALS) | (norm == 0)
    return accepted, trust._replace(
        radius=radius, first=trust.first & ~accepted, refusals=refusals, stalled=stalled & ~accepted
    )
