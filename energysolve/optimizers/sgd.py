"""Gradient descent."""

from dataclasses import dataclass

import torch

from ..trees import tree_map
from .base import InnerOptimizer, check_step_size


@dataclass(frozen=True)
class SGD(InnerOptimizer):
    """Gradient descent ``y - lr * gradient`` (Eq. 3 of the paper), bit-identical to `torch.optim.SGD`.

    It does not use torchopt, whose overhead on small problems exceeds the cost of the step.

    Args:
        lr: the step size λ.

    Raises:
        ValueError: if the step size is negative, infinite or NaN.

    Examples:
        >>> import torch
        >>> from energysolve import SGD, EnergySolver
        >>> solver = EnergySolver(lambda x, y: (y - x).square().sum(-1), SGD(lr=0.25), max_steps=2)
        >>> solver.minimize(torch.ones(1, 1), torch.zeros(1, 1)).y  # each step halves the distance
        tensor([[0.7500]])
    """

    lr: float

    def __post_init__(self):
        check_step_size("SGD", self.lr)

    def init(self, free):
        return ()

    def step(self, at, state, evaluate):
        return tree_map(self._move, at.free, at.gradient), state

    def _move(self, leaf, slope):
        if torch.compiler.is_compiling():
            # torch.compile without `COMPILE_OPTIONS` would drop alpha in the line below.
            return leaf - self.lr * slope
        return torch.add(leaf, slope, alpha=-self.lr)
