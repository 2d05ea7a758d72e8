"""Constraints on the answers: a projection after each step."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..trees import tree_map
from .base import Evaluation, InnerOptimizer


@dataclass(frozen=True)
class Projected(InnerOptimizer):
    """Projects ``y`` onto a constraint set after each step of another optimizer.

    Gradient criteria see the projected gradient ``y - projection(y - gradient)``, which vanishes exactly at the
    constrained stationary points. Scratchpads are not constrained, and the initial point is not projected.

    Args:
        optimizer: the optimizer whose steps are projected.
        projection: from ``y`` to the nearest feasible ``y``, each sample separately: `Box`, `Simplex`, `Ball` or any
            other function.

    Example:
        >>> Projected(SGD(0.1), Box(low=0.0))  # y >= 0
    """

    optimizer: InnerOptimizer
    projection: Callable[[Any], Any]

    def __post_init__(self):
        if not isinstance(self.optimizer, InnerOptimizer):
            raise TypeError(f"Projected needs an inner optimizer such as SGD(0.1), got {self.optimizer!r}.")
        if not callable(self.projection):
            raise TypeError(f"Projected needs a function of y as its projection, got {self.projection!r}.")
        if self.optimizer.searches:
            raise TypeError(
                f"Projected would change the candidates of {type(self.optimizer).__name__}, which chooses its steps. "
                "Write Backtracking(Projected(SGD(1.0), projection)), which searches along the projected steps."
            )

    @property
    def constrains(self):
        return True

    def init(self, free):
        return self.optimizer.init(free)

    def begin(self, free, layout):
        return self.optimizer.begin(free, layout)

    def step(self, at, state, evaluate):
        moved, state = self.optimizer.step(at, state, evaluate)
        return self.project(moved), state

    def project(self, free: Any) -> Any:
        """The free variables with ``y`` projected."""
        return (self.projection(free[0]), *free[1:])

    def residual(self, at: Evaluation):
        y, gradient = at.free[0], at.gradient[0]
        target = self.projection(tree_map(torch.sub, y, gradient))
        return (tree_map(torch.sub, y, target), *at.gradient[1:])


@dataclass(frozen=True)
class Box:
    """Projection onto ``low <= y <= high``, entry by entry; either side may be infinite."""

    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self):
        if not self.low <= self.high:
            raise ValueError(f"Box needs low <= high, got low={self.low!r} and high={self.high!r}.")

    def __call__(self, y: Any) -> Any:
        return tree_map(lambda leaf: leaf.clamp(self.low, self.high), y)


@dataclass(frozen=True)
class Ball:
    """Projection onto the vectors (the last axis of ``y``) of Euclidean norm at most ``radius``."""

    radius: float = 1.0

    def __post_init__(self):
        if not (math.isfinite(self.radius) and self.radius > 0):
            raise ValueError(f"Ball needs a positive, finite radius, got {self.radius!r}.")

    def __call__(self, y: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch features"]:
        square = y.square().sum(-1, keepdim=True)
        outside = square > self.radius**2
        # Inside the ball the root is taken of 1, so that its derivative is finite at the centre.
        norm = torch.where(outside, square, torch.ones_like(square)).sqrt()
        return torch.where(outside, y * (self.radius / norm), y)


@dataclass(frozen=True)
class Simplex:
    """Projection onto the probability simplex along the last axis of ``y`` (Duchi et al., ICML 2008)."""

    def __call__(self, y: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch features"]:
        ordered = y.sort(dim=-1, descending=True).values
        excess = ordered.cumsum(-1) - 1
        rank = torch.arange(1, y.shape[-1] + 1, dtype=y.dtype, device=y.device)
        support = (ordered * rank > excess).sum(-1, keepdim=True).clamp(min=1)  # 0 for a sample that is NaN
        threshold = excess.gather(-1, support - 1) / support
        return (y - threshold).clamp(min=0)
