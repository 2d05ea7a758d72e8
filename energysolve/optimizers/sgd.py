"""Gradient descent."""

from dataclasses import dataclass

import torch

from ..trees import tree_map
from .base import InnerOptimizer, check_step_size


@dataclass(frozen=True)
class SGD(InnerOptimizer):
    """Gradient descent, Eq. 3 of the paper: ``y - lr * gradient``, bit by bit as `torch.optim.SGD`.

    Written out rather than adapted from torchopt: on small problems the detour costs more than the step.

    Args:
        lr: the step size λ.
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
            # For users' own torch.compile: see `COMPILE_OPTIONS` for what it does to the line below.
            return leaf - self.lr * slope
        return torch.add(leaf, slope, alpha=-self.lr)
