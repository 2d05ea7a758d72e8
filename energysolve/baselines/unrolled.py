"""Iteration of a feedforward network, trained through all of its steps (Section 4.1 and Table 11 of the paper)."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .base import Baseline, hidden_layers, mean_squares


class UnrolledFeedforward(Baseline):
    """The iteration ``y <- y + f(x, y)`` of a network, trained on where it ends.

    Trained is the mean squared error of the answer after the last of ``train_steps`` steps, through all of them, from
    initial answers uniform in (-1, 1), where the energy's begin too. The paper says that its iterative feedforward
    network is trained to denoise, see `IterativeFeedforward`; the authors' release has no such objective, and trains
    its network in this way, with swish activations as here. (It also goes on from answers of earlier batches.)

    Args:
        x_dim: entries of one problem; ``x`` is flattened.
        y_shape: the shape of one answer.
        width: units of each hidden layer.
        depth: number of hidden layers.
        train_steps: steps in training, and the default at test time.

    Raises:
        ValueError: for a size that is not a whole number of 1 or more.
    """

    def __init__(
        self, x_dim: int, y_shape: Sequence[int] | int, *, width: int = 512, depth: int = 3, train_steps: int = 5
    ):
        super().__init__(x_dim, y_shape, train_steps=train_steps)
        self.width, self.depth = width, depth
        self.hidden = hidden_layers(x_dim + self.y_dim, width, depth, activation=nn.SiLU)
        self.head = nn.Linear(width, self.y_dim)

    def loss(self, x, target, generator=None):
        target = self._flat_target(x, target)
        last = next(islice(self.answers(self._flat(x), generator), self.train_steps - 1, None))
        return mean_squares(last, target).mean()

    def answers(self, x: Tensor, generator: torch.Generator | None) -> Iterator[Tensor]:
        y = torch.rand(len(x), self.y_dim, generator=generator, device=x.device, dtype=x.dtype) * 2 - 1
        while True:
            y = y + self(x, y)
            yield y

    def forward(self, x: Float[Tensor, "batch x_dim"], y: Float[Tensor, "batch y_dim"]) -> Float[Tensor, "batch y_dim"]:
        """What a step adds to the answer."""
        return self.head(self.hidden(torch.cat([x, y], 1)))

    def config(self) -> dict[str, Any]:
        names = ("x_dim", "width", "depth", "train_steps")
        return {"y_shape": list(self.y_shape)} | {name: getattr(self, name) for name in names}
