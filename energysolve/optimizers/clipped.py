"""Gradients clipped to a norm, each sample for itself."""

import math
from dataclasses import dataclass

import torch

from ..layout import Dense, Layout
from ..trees import tree_leaves, tree_map
from .backtracking import Backtracking
from .base import InnerOptimizer
from .projected import Projected


@dataclass(frozen=True)
class Clipped(InnerOptimizer):
    """Another optimizer, which sees the gradient of each sample clipped to a norm (Pascanu et al., ICML 2013).

    Halting criteria see the gradient as it is.

    Args:
        optimizer: a fixed-step optimizer; inside `Projected` and `Backtracking`, not around them.
        norm: the largest Euclidean norm of a sample's gradient over all its free variables, above 0.

    Raises:
        TypeError: if the optimizer chooses its steps or projects.
        ValueError: if the norm is not positive and finite.

    Examples:
        >>> import torch
        >>> from energysolve import SGD, Clipped, EnergySolver
        >>> solver = EnergySolver(lambda x, y: (y - x).square().sum(-1), Clipped(SGD(lr=0.5), norm=1.0), max_steps=1)
        >>> solver.minimize(torch.tensor([[0.1], [1000.0]]), torch.zeros(2, 1)).y  # the second gradient is far above 1
        tensor([[0.1000],
                [0.5000]])
    """

    optimizer: InnerOptimizer
    norm: float

    def __post_init__(self):
        if not isinstance(self.optimizer, InnerOptimizer):
            raise TypeError(f"Clipped needs an inner optimizer such as SGD(0.1), got {self.optimizer!r}.")
        name = type(self.optimizer).__name__
        if isinstance(self.optimizer, Projected | Backtracking):
            raise TypeError(f"Clipped belongs inside: write {name}(Clipped(...)), with Clipped innermost.")
        if self.optimizer.searches:
            raise TypeError(f"{name} chooses its steps itself. Write {name}(...) without Clipped around it.")
        if isinstance(self.norm, bool) or not (math.isfinite(self.norm) and self.norm > 0):
            raise ValueError(f"Clipped needs a positive, finite norm, got {self.norm!r}.")

    def init(self, free):
        return self.begin(free, Dense(len(tree_leaves(free)[0])))

    def begin(self, free, layout):
        return self.optimizer.begin(free, layout)

    def step(self, at, state, evaluate):
        return self.optimizer.step(at._replace(gradient=self._clip(at.gradient, evaluate.layout)), state, evaluate)

    def _clip(self, gradient, layout: Layout):
        wide = tree_map(torch.Tensor.double, gradient)  # squares of large gradients overflow in float32
        square = layout.dot(wide, wide)
        outside = square > self.norm**2
        # Where nothing is clipped, the root is taken of 1, so that its derivative is finite.
        factor = torch.where(outside, self.norm * torch.where(outside, square, 1).rsqrt(), 1)
        return tree_map(lambda leaf: (layout.expand(factor, leaf) * leaf).to(leaf.dtype), gradient)
