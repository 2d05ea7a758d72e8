"""Iteration of a recurrent network (Section 4.1 and Table 12 of the paper)."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ..checks import check_whole
from .base import Baseline, mean_squares


class Recurrent(Baseline):
    """An LSTM that sees the problem at every step, with a linear read-out of the answer (Table 12).

    A linear layer with ReLU, the same at every step, encodes the problem and feeds the LSTM, whose hidden and cell
    state start at zero. The loss is the mean squared error of the answer after ``train_steps`` steps, differentiated
    through all of them: the paper names no other loss and reports the errors of the last answer. Any number of steps
    can be taken at test time.

    With the paper's width, the network has at most half as many parameters as the other baselines.

    Args:
        x_dim: number of entries of one problem; ``x`` is flattened.
        y_shape: the shape of one answer.
        width: units of the linear layer and of the LSTM.
        train_steps: number of steps in training, and the default at test time.

    Raises:
        ValueError: for a size that is not a whole number of 1 or more.

    Examples:
        >>> import torch
        >>> from energysolve.baselines import Recurrent
        >>> model = Recurrent(x_dim=8, y_shape=(4,), width=16)
        >>> x = torch.rand(5, 8)
        >>> torch.equal(model.iterates(x, steps=3)[-1], model.solve(x, max_steps=3).y)
        True
    """

    def __init__(self, x_dim: int, y_shape: Sequence[int] | int, *, width: int = 196, train_steps: int = 5):
        super().__init__(x_dim, y_shape, train_steps=train_steps)
        check_whole("Recurrent", least=1, width=width)
        self.width = width
        self.encoder = nn.Linear(x_dim, width)
        self.cell = nn.LSTMCell(width, width)
        self.head = nn.Linear(width, self.y_dim)

    def loss(self, x, target, generator=None):
        target = self._flat_target(x, target)
        last = next(islice(self._states(self._flat(x)), self.train_steps - 1, None))
        return mean_squares(self.head(last), target).mean()

    def answers(self, x: Tensor, generator: Any) -> Iterator[Tensor]:
        return map(self.head, self._states(x))

    def _states(self, x: Tensor) -> Iterator[Tensor]:
        """The hidden states after 1, 2, 3, ... steps."""
        features = F.relu(self.encoder(x))
        hidden, cell = self.cell(features)
        while True:
            yield hidden
            hidden, cell = self.cell(features, (hidden, cell))
