"""Iteration of a feedforward network that is trained to denoise (Section 4.1 and Table 11 of the paper)."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..checks import check_whole
from .base import Baseline, hidden_layers, mean_squares


class IterativeFeedforward(Baseline):
    """The iteration ``y <- f(x, y, level)`` of a network that is trained to denoise answers (Table 11).

    The objective is the iterative denoising of Sohl-Dickstein et al. (2015, arXiv:1503.03585) with ``N = levels`` noise
    levels. At level ``n`` an answer is ``sqrt(1 - n/N) target + sqrt(n/N) noise`` with standard normal noise; at the
    highest level it is pure noise. A random level is drawn for each sample. The network sees the problem, the corrupted
    answer and ``n/N``, and is trained on the mean squared error of its prediction of the *target*.

    At test time ``y`` starts as standard normal noise and takes one step at each level, from the highest to the lowest;
    further steps stay at the lowest. Every iterate is thus an answer. (The alternative, a step that predicts the next
    lower level, leaves noise in the first iterates, and on small problems its errors were several times as large.)

    Args:
        x_dim: number of entries of one problem; ``x`` is flattened.
        y_shape: the shape of one answer.
        width: units of each hidden layer.
        depth: number of hidden layers.
        levels: number of noise levels, and the default number of steps at test time (``train_steps``).

    Raises:
        ValueError: for a size that is not a whole number of 1 or more.

    Examples:
        >>> import torch
        >>> from energysolve.baselines import IterativeFeedforward
        >>> model = IterativeFeedforward(x_dim=8, y_shape=(4,), width=16, levels=3)
        >>> solution = model.solve(torch.rand(5, 8))
        >>> solution.y.shape, solution.steps  # one step for each level
        (torch.Size([5, 4]), tensor([3, 3, 3, 3, 3]))
    """

    def __init__(self, x_dim: int, y_shape: Sequence[int] | int, *, width: int = 512, depth: int = 3, levels: int = 5):
        check_whole("IterativeFeedforward", least=1, levels=levels)
        super().__init__(x_dim, y_shape, train_steps=levels)
        self.width, self.depth, self.levels = width, depth, levels
        self.hidden = hidden_layers(x_dim + self.y_dim + 1, width, depth)
        self.head = nn.Linear(width, self.y_dim)

    def loss(self, x, target, generator=None):
        target = self._flat_target(x, target)
        level = torch.randint(1, self.levels + 1, (len(target), 1), generator=generator, device=target.device)
        noise = torch.randn(target.shape, generator=generator, device=target.device, dtype=target.dtype)
        share = level.to(target.dtype) / self.levels
        corrupted = (1 - share).sqrt() * target + share.sqrt() * noise
        return mean_squares(self(self._flat(x), corrupted, share), target).mean()

    def answers(self, x: Tensor, generator: torch.Generator | None) -> Iterator[Tensor]:
        y = torch.randn(len(x), self.y_dim, generator=generator, device=x.device, dtype=x.dtype)
        level = self.levels
        while True:
            y = self(x, y, x.new_full((len(x), 1), level / self.levels))
            yield y
            level = max(level - 1, 1)

    def forward(
        self, x: Float[Tensor, "batch x_dim"], y: Float[Tensor, "batch y_dim"], share: Float[Tensor, "batch 1"]
    ) -> Float[Tensor, "batch y_dim"]:
        """One step from the answers ``y``; ``share`` is the noise level as a fraction of the highest."""
        return self.head(self.hidden(torch.cat([x, y, share], 1)))
