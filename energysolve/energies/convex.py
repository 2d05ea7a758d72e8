"""Convex energies whose minimum has a closed form, as a function of the problem and of the parameters."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..energy import Energy
from ..trees import tree_leaves, tree_map


class Quadratic(Energy):
    """``1/2 y'Ay - b'y``, with minimum ``A^{-1} b``; only the symmetric part of ``A`` matters.

    Args:
        matrix: ``A``, ``(n, n)`` and positive definite, a parameter shared by all problems; ``x`` is then ``b``,
            ``(batch, n)``. Without it, ``x`` is the pair ``(A, b)`` with ``A`` of shape ``(batch, n, n)``.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver
        >>> from energysolve.energies import Quadratic
        >>> matrix, vector = torch.tensor([[[2.0, 1.0], [1.0, 2.0]]]), torch.tensor([[3.0, 3.0]])
        >>> EnergySolver(Quadratic()).minimize((matrix, vector), torch.zeros(1, 2)).y.round(decimals=3)  # A^{-1} b
        tensor([[1., 1.]])
    """

    def __init__(self, matrix: Float[Tensor, "n n"] | None = None):
        super().__init__()
        self.matrix = None if matrix is None else nn.Parameter(matrix.clone())

    def encode(self, x: Any) -> tuple[Float[Tensor, "*batch n n"], Float[Tensor, "batch n"]]:
        matrix, linear = x if self.matrix is None else (self.matrix, x)
        return (matrix + matrix.mT) / 2, linear

    def evaluate(  # pyright: ignore
        self, context: tuple[Float[Tensor, "*batch n n"], Float[Tensor, "batch n"]], y: Float[Tensor, "batch n"]
    ) -> Float[Tensor, " batch"]:
        matrix, linear = context
        return (y * (_apply(matrix, y) / 2 - linear)).sum(-1)

    def solve(self, x: Any) -> Float[Tensor, "batch n"]:
        """The minimum, in closed form."""
        matrix, linear = self.encode(x)
        return torch.linalg.solve(matrix, linear.unsqueeze(-1)).squeeze(-1)


class Bowl(Energy):
    """``1/2 |y - x|^2`` over all entries of a tree of tensors, with minimum 0 at ``y = x``.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver
        >>> from energysolve.energies import Bowl
        >>> x = {"left": torch.tensor([[1.0]]), "right": torch.tensor([[2.0, 3.0]])}
        >>> EnergySolver(Bowl()).minimize(x, {"left": torch.zeros(1, 1), "right": torch.zeros(1, 2)}).y
        {'left': tensor([[1.]]), 'right': tensor([[2., 3.]])}
    """

    def evaluate(self, context: Any, y: Any) -> Float[Tensor, " batch"]:  # pyright: ignore
        squares = tree_leaves(tree_map(lambda target, leaf: (leaf - target).square(), context, y))
        return torch.stack([square.unsqueeze(-1).flatten(1).sum(1) for square in squares]).sum(0) / 2


class Ridge(Energy):
    """Ridge regression: ``1/2 |Fy - t|^2 + 1/2 l |y|^2``, with minimum ``(F'F + lI)^{-1} F't``.

    The problem ``x`` is the triple of features ``F``: ``(batch, m, n)``, targets ``t``: ``(batch, m)`` and
    regularization ``l``: ``(batch,)``.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver
        >>> from energysolve.energies import Ridge
        >>> features, targets = torch.eye(2).expand(2, 2, 2), torch.full((2, 2), 6.0)
        >>> x = (features, targets, torch.tensor([1.0, 2.0]))  # two strengths of the regularization
        >>> EnergySolver(Ridge()).minimize(x, torch.zeros(2, 2)).y.round(decimals=3)
        tensor([[3., 3.],
                [2., 2.]])
    """

    def evaluate(self, context: Any, y: Float[Tensor, "batch n"]) -> Float[Tensor, " batch"]:  # pyright: ignore
        features, targets, regularization = context
        residual = _apply(features, y) - targets
        return (residual.square().sum(-1) + regularization * y.square().sum(-1)) / 2

    def solve(self, x: Any) -> Float[Tensor, "batch n"]:
        """The minimum, in closed form."""
        features, targets, regularization = x
        identity = torch.eye(features.shape[-1], dtype=features.dtype, device=features.device)
        matrix = features.mT @ features + regularization[:, None, None] * identity
        return torch.linalg.solve(matrix, features.mT @ targets.unsqueeze(-1)).squeeze(-1)


class Logistic(Energy):
    """Cross-entropy of logits: ``sum_i softplus(y_i) - x_i y_i`` for ``x_i`` in (0, 1); minimum at ``logit(x)``.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver
        >>> from energysolve.energies import Logistic
        >>> solver = EnergySolver(Logistic())
        >>> solver.minimize(torch.tensor([[0.25, 0.75]]), torch.zeros(1, 2)).y.sigmoid().round(decimals=3)
        tensor([[0.2500, 0.7500]])
    """

    def evaluate(self, context: Float[Tensor, "batch n"], y: Float[Tensor, "batch n"]) -> Float[Tensor, " batch"]:  # pyright: ignore
        return (nn.functional.softplus(y) - context * y).sum(-1)

    def solve(self, x: Float[Tensor, "batch n"]) -> Float[Tensor, "batch n"]:
        """The minimum, in closed form."""
        return torch.logit(x)


def _apply(matrix: Float[Tensor, "*batch m n"], y: Float[Tensor, "batch n"]) -> Float[Tensor, "batch m"]:
    """A product computed row by row, since batched products round differently for other batch sizes."""
    return (matrix * y.unsqueeze(-2)).sum(-1)
