"""Iteration of a feedforward network that is trained through all its steps (Section 4.1 and Table 11 of the paper)."""

from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..checks import check_whole
from .base import Baseline, hidden_layers, mean_squares


class UnrolledFeedforward(Baseline):
    """The iteration ``y <- y + f(x, y)`` of a network, trained on its last answer.

    The loss is the mean squared error of the answer after ``train_steps`` steps, differentiated through all of them.
    Initial answers are uniform in (-1, 1), like those of the energy model. With a replay buffer (``replay`` of
    `energysolve.training.SupervisedTrainer`), training also continues from earlier answers, so that the network learns
    to take further steps without harm.

    The paper says that its iterative feedforward network is trained to denoise, see `IterativeFeedforward`. The
    authors' release has no such objective: it trains the network as here, with swish activations and replay, and
    evaluates it after 10 steps or more.

    Args:
        x_dim: number of entries of one problem; ``x`` is flattened.
        y_shape: the shape of one answer.
        width: units of each hidden layer.
        depth: number of hidden layers.
        train_steps: number of steps in training.
        test_steps: default number of steps at test time.

    Raises:
        ValueError: for a size that is not a whole number of 1 or more.

    Examples:
        >>> import torch
        >>> from energysolve.baselines import UnrolledFeedforward
        >>> model = UnrolledFeedforward(x_dim=8, y_shape=(4,), width=16, test_steps=6)
        >>> solution = model.solve(torch.rand(5, 8))
        >>> solution.y.shape, solution.steps
        (torch.Size([5, 4]), tensor([6, 6, 6, 6, 6]))
    """

    def __init__(
        self,
        x_dim: int,
        y_shape: Sequence[int] | int,
        *,
        width: int = 512,
        depth: int = 3,
        train_steps: int = 5,
        test_steps: int = 10,
    ):
        check_whole("UnrolledFeedforward", least=1, test_steps=test_steps)
        super().__init__(x_dim, y_shape, train_steps=train_steps)
        self.width, self.depth, self.test_steps = width, depth, test_steps
        self.hidden = hidden_layers(x_dim + self.y_dim, width, depth, activation=nn.SiLU)
        self.head = nn.Linear(width, self.y_dim)

    @property
    def default_steps(self):
        return self.test_steps

    def loss(self, x, target, generator=None):
        return self.loss_from(x, target, self.initial(x, generator))[0]

    def initial(
        self, x: Float[Tensor, "batch *features"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "batch *answer"]:
        """Initial answers, uniform in (-1, 1)."""
        return torch.rand(len(x), *self.y_shape, generator=generator, device=x.device, dtype=x.dtype) * 2 - 1

    def loss_from(
        self,
        x: Float[Tensor, "batch *features"],
        target: Float[Tensor, "batch *answer"],
        y: Float[Tensor, "batch *start"],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "batch *start"]]:
        """The training loss of steps that start at the answers ``y``, and the last answers.

        Raises:
            ValueError: if ``x`` or ``target`` has another shape.
        """
        target = self._flat_target(x, target)
        last = next(islice(self._steps(self._flat(x), y.reshape(target.shape)), self.train_steps - 1, None))
        return mean_squares(last, target).mean(), self._shaped(last.detach())

    def answers(self, x: Tensor, generator: torch.Generator | None) -> Iterator[Tensor]:
        return self._steps(x, self.initial(x, generator).reshape(len(x), self.y_dim))

    def forward(self, x: Float[Tensor, "batch x_dim"], y: Float[Tensor, "batch y_dim"]) -> Float[Tensor, "batch y_dim"]:
        """The change of the answer in one step."""
        return self.head(self.hidden(torch.cat([x, y], 1)))

    def _steps(self, x: Tensor, y: Tensor) -> Iterator[Tensor]:
        while True:
            y = y + self(x, y)
            yield y
