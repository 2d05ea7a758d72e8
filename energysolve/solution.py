"""What a solve returns."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .trees import tree_leaves


class Status(IntEnum):
    """How the solve of one sample ended."""

    CONVERGED = 0
    """The halting criterion fired, possibly at the last iterate."""
    MAX_STEPS = 1
    """All the steps were taken and the criterion had not fired."""
    NONFINITE = 2
    """The energy or its gradient became NaN or infinite; the answer is the last iterate at which both were finite."""


class NonfiniteError(RuntimeError):
    """Raised by `Solution.raise_for_status` for samples whose energy or gradient became NaN or infinite."""


class NotConvergedError(RuntimeError):
    """Raised by `Solution.raise_for_status(strict=True)` for samples that used up all their steps."""


@dataclass(frozen=True, eq=False)
class Solution:
    """The answers of a solve, sample by sample.

    Attributes:
        y: the answers, with the structure and shapes of the initial ``y``.
        z: the scratchpad at the same iterate, or None (Appendix B of the paper).
        energy: ``(batch,)``, the energy at this very ``y``; not part of any gradient graph.
        steps: ``(batch,)`` int64, the number of updates that led to this ``y``.
        status: ``(batch,)`` int64, values of `Status`.
        record: what the recorder kept, or None.
    """

    y: Any
    z: Any
    energy: Float[Tensor, " batch"]
    steps: Int[Tensor, " batch"]
    status: Int[Tensor, " batch"]
    record: Any = None

    @classmethod
    def of_answers(cls, y: Any, z: Any = None, *, batch: int, steps: int = 0) -> "Solution":
        """Answers that no solve produced, such as those of another method: energies NaN, statuses ``MAX_STEPS``.

        Args:
            y: the answers.
            z: scratchpads.
            batch: the number of samples.
            steps: that each sample took.
        """
        device = tree_leaves(y)[0].device
        count = torch.full((batch,), steps, device=device)
        unknown = torch.full((batch,), torch.nan, device=device)
        return cls(y, z, unknown, count, torch.full_like(count, int(Status.MAX_STEPS)))

    @property
    def converged(self) -> Bool[Tensor, " batch"]:
        """The samples whose halting criterion fired."""
        return self.status == Status.CONVERGED

    def raise_for_status(self, strict: bool = False) -> None:
        """Raise if a sample failed.

        Args:
            strict: treat samples that ran out of steps as failures too.

        Raises:
            NonfiniteError: if a sample ended as ``NONFINITE``; the message lists the indices.
            NotConvergedError: with ``strict``, if a sample ended as ``MAX_STEPS``.
        """
        bad = (self.status == Status.NONFINITE).nonzero().flatten()
        if len(bad):
            raise NonfiniteError(
                f"The energy or its gradient became NaN or infinite in {len(bad)} of {len(self.status)} samples: "
                f"{_listed(bad)}. Their y is the last finite iterate. A smaller step size usually helps."
            )
        unfinished = (self.status == Status.MAX_STEPS).nonzero().flatten()
        if strict and len(unfinished):
            raise NotConvergedError(
                f"{len(unfinished)} of {len(self.status)} samples used up their steps before the halting criterion "
                f"fired: {_listed(unfinished)}. Allow more max_steps or a looser tolerance."
            )

    def __repr__(self) -> str:
        counts = torch.bincount(self.status.cpu(), minlength=len(Status)).tolist()
        outcome = ", ".join(f"{counts[s]} {s.name}" for s in Status if counts[s])
        return f"Solution(batch={len(self.status)}: {outcome or 'empty'})"


def _listed(indices: Tensor, most: int = 20) -> str:
    shown = indices[:most].tolist()
    return f"indices {shown}" + (f" and {len(indices) - most} more" if len(indices) > most else "")
