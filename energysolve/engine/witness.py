"""Which samples were stopped by a criterion that tells a minimum."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..halting import Halting


@dataclass(frozen=True)
class Witnessed(Halting):
    """A criterion, and whether its part that tells a minimum fired for the samples that it stopped.

    Args:
        criterion: decides.
        part: its `Halting.witness`.
    """

    criterion: Halting
    part: Halting

    @staticmethod
    def of(criterion: Halting) -> Halting:
        """The criterion itself if all of it tells a minimum."""
        part = criterion.witness()
        return criterion if part == criterion else Witnessed(criterion, part)

    @staticmethod
    def seen(criterion: Halting, state: Any, like: Tensor) -> Tensor:
        """The samples ``(batch,)``, like ``like``, at whose last iterate the part fired, given the last state."""
        return state[3] if isinstance(criterion, Witnessed) else torch.ones_like(like, dtype=torch.bool)

    def init(self, energy):
        no = torch.zeros_like(energy, dtype=torch.bool)
        return self.criterion.init(energy), self.part.init(energy), no, no

    def update(self, info, state):
        """The last two parts of the state: whether the criterion has fired, and whether the part did then."""
        fires, decides = self.criterion.update(info, state[0])
        told, tells = self.part.update(info, state[1])
        _, _, done, seen = state
        return fires, (decides, tells, done | fires, torch.where(done, seen, fires & told))

    def earliest(self):
        return self.criterion.earliest()
