"""Vector tasks (Section 4.3 and Appendix C of the paper)."""

from dataclasses import dataclass, field

import torch

from ..initializers import Initializer, Uniform
from .base import Task


@dataclass(frozen=True)
class Addition(Task):
    """Add two vectors, element by element.

    ``x`` is ``(batch, 2 * size)``, the two summands concatenated; the target is ``(batch, size)``. Entries are
    uniform in (-1, 1), or in (-2.5, 2.5) for ``"harder"`` problems. The error is the mean squared error.

    Args:
        size: number of entries of each summand; 400 in the paper.

    Raises:
        ValueError: if the size is less than 1.

    Examples:
        >>> import torch
        >>> from energysolve.tasks import Addition
        >>> x, target = Addition(size=3).sample(5)
        >>> x.shape, target.shape, torch.equal(x[:, :3] + x[:, 3:], target)
        (torch.Size([5, 6]), torch.Size([5, 3]), True)
    """

    size: int = 400
    init: Initializer = field(init=False, repr=False, compare=False)
    difficulties = ("same", "harder")

    def __post_init__(self):
        if self.size < 1:
            raise ValueError(f"Addition needs a size of 1 or more, got {self.size!r}.")
        object.__setattr__(self, "init", Uniform((self.size,)))

    def sample(self, batch, difficulty="same", generator=None, device=None):
        self.check_difficulty(difficulty)
        bound = 1.0 if difficulty == "same" else 2.5
        x = (torch.rand(batch, 2, self.size, generator=generator, device=device) * 2 - 1) * bound
        return x.flatten(1), x.sum(1)

    def error(self, solution, target):
        return (solution.y - target).square().mean(-1)
