"""A single feedforward pass (Section 4.1 and Table 11 of the paper)."""

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any

from torch import Tensor, nn

from .base import Baseline, hidden_layers, mean_squares


class Feedforward(Baseline):
    """A multilayer perceptron from problems to answers, trained on the mean squared error (Table 11).

    It always takes a single step: `iterates` repeats its answer, and the ``steps`` of a solution are 1.

    Args:
        x_dim: number of entries of one problem; ``x`` is flattened.
        y_shape: the shape of one answer.
        width: units of each hidden layer.
        depth: number of hidden layers.

    Raises:
        ValueError: for a size that is not a whole number of 1 or more.

    Examples:
        >>> import torch
        >>> from energysolve.baselines import Feedforward
        >>> model = Feedforward(x_dim=8, y_shape=(2, 2), width=16)
        >>> solution = model.solve(torch.rand(5, 8))
        >>> solution.y.shape, solution.steps
        (torch.Size([5, 2, 2]), tensor([1, 1, 1, 1, 1]))
    """

    def __init__(self, x_dim: int, y_shape: Sequence[int] | int, *, width: int = 512, depth: int = 3):
        super().__init__(x_dim, y_shape, train_steps=1)
        self.width, self.depth = width, depth
        self.hidden = hidden_layers(x_dim, width, depth)
        self.head = nn.Linear(width, self.y_dim)

    def loss(self, x, target, generator=None):
        return mean_squares(self(self._flat(x)), self._flat_target(x, target)).mean()

    def answers(self, x: Tensor, generator: Any) -> Iterator[Tensor]:
        return repeat(self(x))

    def forward(self, x: Tensor) -> Tensor:
        """Map problems ``(batch, x_dim)`` to answers ``(batch, y_dim)``."""
        return self.head(self.hidden(x))

    def _solution(self, y, taken, steps):
        return super()._solution(y, taken.clamp(max=1), 1)
