"""Linear systems with one symmetric matrix per sample, given by its products with vectors."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..checks import check_nonnegative, check_whole
from ..layout import Layout
from ..trees import tree_leaves, tree_map


class LinearSolution(NamedTuple):
    """Solutions of a batch of linear systems.

    Attributes:
        value: with the structure of the right-hand side; zero where the solve failed.
        indefinite: ``(batch,)`` bool, where a direction of zero or negative curvature was found.
        failed: ``(batch,)`` bool, where the tolerance was not reached, for any reason.
    """

    value: Any
    indefinite: Tensor
    failed: Tensor


class LinearSolver(ABC):
    """Solves ``operator(value) = right`` for every sample."""

    @abstractmethod
    def solve(self, operator: Callable[[Any], Any], right: Any, layout: Layout) -> LinearSolution:
        """Solve; ``operator`` maps trees with the rows of ``layout`` to such trees, each sample separately."""


@dataclass(frozen=True)
class CG(LinearSolver):
    """Conjugate gradients for positive definite matrices, with step lengths and convergence per sample.

    Args:
        rtol: converged where the norm of the residual is at most ``rtol`` times that of the right-hand side; by default
            the 3/4 power of the precision (2e-12 in float64, 6e-6 in float32).
        max_steps: by default four times the dimension of the largest sample, at least 20.

    Raises:
        ValueError: if an argument is out of range.

    Examples:
        >>> import torch
        >>> from energysolve import CG, EnergySolver, Implicit
        >>> x = torch.tensor([[3.0]], requires_grad=True)
        >>> solver = EnergySolver(
        ...     lambda x, y: (y - x.square()).square().sum(-1), differentiation=Implicit(linear_solver=CG(rtol=1e-5))
        ... )
        >>> solver.minimize(x, torch.zeros(1, 1)).y.sum().backward()
        >>> x.grad.round(decimals=2)  # of x^2
        tensor([[6.]])
    """

    rtol: float | None = None
    max_steps: int | None = None

    def __post_init__(self):
        if self.rtol is not None:
            check_nonnegative("CG", rtol=self.rtol)
        if self.max_steps is not None:
            check_whole("CG", least=1, max_steps=self.max_steps)

    def solve(self, operator, right, layout):
        leaf = tree_leaves(right)[0]
        rtol = torch.finfo(leaf.dtype).eps ** 0.75 if self.rtol is None else self.rtol
        value = tree_map(torch.zeros_like, right)
        residual = direction = right
        square = layout.dot(right, right)
        target = square * rtol**2
        indefinite = torch.zeros_like(square, dtype=torch.bool)
        for _ in range(self.max_steps or _default_steps(right, layout)):
            active = (square > target) & ~indefinite
            if not active.any():
                break
            image = operator(direction)
            curvature = layout.dot(direction, image)
            indefinite = indefinite | (active & ~(curvature > 0))
            active = active & ~indefinite
            # Converged samples take a step of zero; their quotients may be 0/0.
            length = torch.where(active, square / curvature, 0)
            value = _add(value, layout.where(active, layout.scale(length, direction), _zeros(value)))
            residual = _add(residual, layout.where(active, layout.scale(-length, image), _zeros(value)))
            next_square = layout.dot(residual, residual)
            ratio = torch.where(active, next_square / square, 0)
            direction = layout.where(active, _add(residual, layout.scale(ratio, direction)), direction)
            square = torch.where(active, next_square, square)
        failed = indefinite | ~(square <= target)
        return LinearSolution(layout.where(failed, _zeros(value), value), indefinite, failed)


def _default_steps(right: Any, layout: Layout) -> int:
    entries = sum(layout.sum(torch.ones_like(leaf)) for leaf in tree_leaves(right))
    assert isinstance(entries, Tensor)
    return max(20, 4 * int(entries.max()))


def _add(a: Any, b: Any) -> Any:
    return tree_map(torch.add, a, b)


def _zeros(tree: Any) -> Any:
    return tree_map(torch.zeros_like, tree)
