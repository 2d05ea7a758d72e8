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

    Raises:
        TypeError: if the optimizer chooses its steps, or ``projection`` is no function.

    Examples:
        >>> import torch
        >>> from energysolve import SGD, Box, EnergySolver, Projected
        >>> solver = EnergySolver(lambda x, y: (y - x).square().sum(-1), Projected(SGD(0.25), Box(low=0.0)))  # y >= 0
        >>> solution = solver.minimize(torch.tensor([[1.0, -2.0]]), torch.full((1, 2), 0.5))
        >>> solution.y.round(decimals=3), solution.converged
        (tensor([[1., 0.]]), tensor([True]))
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
    """Projection onto ``low <= y <= high``, entry by entry; either side may be infinite.

    Raises:
        ValueError: if ``low`` exceeds ``high``.

    Examples:
        >>> import torch
        >>> from energysolve import Box
        >>> Box(low=0.0, high=1.0)(torch.tensor([[-2.0, 0.5, 3.0]]))
        tensor([[0.0000, 0.5000, 1.0000]])
    """

    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self):
        if not self.low <= self.high:
            raise ValueError(f"Box needs low <= high, got low={self.low!r} and high={self.high!r}.")

    def __call__(self, y: Any) -> Any:
        return tree_map(self._clamped, y)

    def _clamped(self, leaf: Tensor) -> Tensor:
        most = torch.finfo(leaf.dtype).max  # torch refuses bounds beyond
        if self.low > most or self.high < -most:
            raise ValueError(f"{leaf.dtype} has no number in {self!r}.")
        low, high = (bound if math.isinf(bound) else min(max(bound, -most), most) for bound in (self.low, self.high))
        return leaf.clamp(low, high)


@dataclass(frozen=True)
class Ball:
    """Projection onto the vectors (the last axis of ``y``) of Euclidean norm at most ``radius``.

    Raises:
        ValueError: if the radius is not positive and finite.

    Examples:
        >>> import torch
        >>> from energysolve import Ball
        >>> Ball(radius=2.5)(torch.tensor([[3.0, 4.0], [1.0, 1.0]]))
        tensor([[1.5000, 2.0000],
                [1.0000, 1.0000]])
    """

    radius: float = 1.0

    def __post_init__(self):
        if not (math.isfinite(self.radius) and self.radius > 0):
            raise ValueError(f"Ball needs a positive, finite radius, got {self.radius!r}.")

    def __call__(self, y: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch features"]:
        wide = _wide(y)
        # Squares of the entries overflow and underflow; those of their ratios to the largest one do not.
        largest = wide.detach().abs().amax(-1, keepdim=True) if y.shape[-1] else wide.new_ones(*y.shape[:-1], 1)
        unit = wide / torch.where(largest > 0, largest, 1)
        square = unit.square().sum(-1, keepdim=True)
        outside = largest * square.detach().sqrt() > self.radius
        # Inside the ball the root is taken of 1, so that its derivative is finite at the centre.
        norm = torch.where(outside, square, 1).sqrt()
        return torch.where(outside, (unit * (self.radius / norm)).to(y.dtype), y)


@dataclass(frozen=True)
class Simplex:
    """Projection onto the probability simplex along the last axis of ``y`` (Duchi et al., ICML 2008).

    Examples:
        >>> import torch
        >>> from energysolve import Simplex
        >>> Simplex()(torch.tensor([[0.75, 0.75, 0.0], [5.0, 0.0, 0.0]]))
        tensor([[0.5000, 0.5000, 0.0000],
                [1.0000, 0.0000, 0.0000]])
    """

    def __call__(self, y: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch features"]:
        if not y.shape[-1]:
            raise ValueError("A probability simplex has at least one entry; y has a last axis of size 0.")
        wide = _wide(y)
        # A shift of all entries changes nothing, and with the largest at 0 no sum of large numbers loses the 1.
        shifted = wide - wide.detach().amax(-1, keepdim=True)
        ordered = shifted.sort(dim=-1, descending=True).values
        excess = ordered.cumsum(-1) - 1
        rank = torch.arange(1, y.shape[-1] + 1, dtype=wide.dtype, device=y.device)
        support = (ordered * rank > excess).sum(-1, keepdim=True).clamp(min=1)  # 0 for a sample that is NaN
        threshold = excess.gather(-1, support - 1) / support
        return (shifted - threshold).clamp(min=0).to(y.dtype)


def _wide(y: Tensor) -> Tensor:
    """In float32 or better."""
    return y.float() if y.dtype in (torch.float16, torch.bfloat16) else y
