"""What a minimum says about the precision of its answer: Hessians, covariances and standard errors of each sample."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .differentiation import check_second_derivative, explained, held_by_constraint
from .energy import LeastSquares, encode_and_evaluate
from .layout import Dense, as_matrix, check_free
from .optimizers.base import Evaluation
from .optimizers.jacobian import jacobian
from .solution import Solution, Status
from .solver import EnergySolver
from .trees import tree_leaves, tree_map, tree_unflatten

MOST_VARIABLES = 1_000
"""Of a sample; the matrices of a batch would need too much memory beyond."""


def standard_errors(
    solver: EnergySolver,
    x: Any,
    solution: Solution,
    *,
    absolute_sigma: bool = False,
    count: Int[Tensor, " batch"] | None = None,
) -> Float[Tensor, "batch n"]:
    """The standard errors of the answers, the square roots of the diagonal of their `covariance`.

    The entries of a sample have the order of the leaves of ``y``, each flattened; NaN where the covariance is.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver, LeastSquares, LevenbergMarquardt
        >>> from energysolve.uncertainty import standard_errors
        >>> mean = LeastSquares(lambda x, y: y - x)  # the mean of the numbers in each row
        >>> x = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]])
        >>> solver = EnergySolver(mean, LevenbergMarquardt())
        >>> solution = solver.minimize(x, torch.zeros(1, 1))
        >>> error = standard_errors(solver, x, solution)  # like y
        >>> torch.allclose(error, x.std(dim=1, keepdim=True) / 5**0.5)  # of a mean of five
        True
    """
    found = _covariance(solver, x, solution, absolute_sigma, count)
    return found.diagonal(dim1=1, dim2=2).sqrt().to(tree_leaves(solution.y)[0].dtype)


def covariance(
    solver: EnergySolver,
    x: Any,
    solution: Solution,
    *,
    absolute_sigma: bool = False,
    count: Int[Tensor, " batch"] | None = None,
) -> Float[Tensor, "batch n n"]:
    """The covariance matrices of the answers, where the energy is taken for quadratic around each of them.

    For a `LeastSquares` energy with ``m`` residuals and ``n`` variables it is ``s^2 (J'J)^-1`` with the Jacobian ``J``
    of the residuals and their variance ``s^2``, the sum of their squares over ``m - n``, as by default in SciPy's
    ``curve_fit``. Any other energy is taken for the negative logarithm of a posterior density, up to a constant: the
    covariance is the inverse of its Hessian (Laplace's approximation). A scratchpad is a variable like the answer; the
    covariance is then the block of ``y``, and ``n`` counts both where it is subtracted.

    NaN, for the whole sample, where

    - its status is ``MAX_STEPS`` or ``NONFINITE``; a sample that ``STALLED`` is as low as its precision can tell;
    - the matrix to invert is not positive definite beyond its rounding: the data do not determine the variables, or the
      answer is no minimum;
    - a constraint of the optimizer holds the answer;
    - a residual variance is asked for and ``m <= n``.

    Args:
        solver: the solver that found the solution.
        x: the problems, as given to the solver.
        solution: what ``solver.minimize(x)`` returned.
        absolute_sigma: the residuals are already divided by their standard deviations, so ``s^2`` is 1. It changes
            nothing for other energies.
        count: ``(batch,)``, the number of residuals ``m`` of each sample, where some are zeros in place of missing
            data; by default all of them count.

    Returns:
        One matrix per sample; its rows have the order of the leaves of ``y``, each flattened. It carries no gradient.

    Raises:
        TypeError: if the layout is not `Dense`.
        ValueError: if a sample has more than 1,000 variables, the solution does not have the batch size of ``x``, or
            the `LeastSquares` energy has a layout of its own.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver
        >>> from energysolve.energies import Quadratic
        >>> from energysolve.uncertainty import covariance
        >>> x = (torch.tensor([[[3.0, 1.0], [1.0, 2.0]]]), torch.tensor([[1.0, 1.0]]))
        >>> solver = EnergySolver(Quadratic())
        >>> covariance(solver, x, solver.minimize(x, torch.zeros(1, 2))).round(decimals=3)  # the inverse of the matrix
        tensor([[[ 0.4000, -0.2000],
                 [-0.2000,  0.6000]]])
    """
    return _covariance(solver, x, solution, absolute_sigma, count).to(tree_leaves(solution.y)[0].dtype)


def hessian(solver: EnergySolver, x: Any, solution: Solution) -> Float[Tensor, "batch n n"]:
    """The second derivatives of the energy at the answers, whatever their status.

    Rows and columns have the order of the leaves of ``y``, each flattened, and then those of the scratchpad. One
    gradient and ``n`` products with the Hessian are computed, each for the whole batch.

    Raises:
        TypeError, ValueError: as `covariance`.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver
        >>> from energysolve.energies import Quadratic
        >>> from energysolve.uncertainty import hessian
        >>> x = (torch.tensor([[[4.0, 1.0], [1.0, 2.0]]]), torch.tensor([[1.0, 1.0]]))
        >>> solver = EnergySolver(Quadratic())
        >>> hessian(solver, x, solver.minimize(x, torch.zeros(1, 2)))
        tensor([[[4., 1.],
                 [1., 2.]]])
    """
    free = _variables(solver, x, solution)
    # Whatever the mode of the caller: the second derivatives need the graph of the first.
    with torch.inference_mode(False), torch.enable_grad(), explained():
        at = _evaluated(solver, tree_map(_usable, x), free)
        check_second_derivative(at.energy, tree_leaves(at.free))
        slope = _flat(at.gradient)
        if not slope.requires_grad:  # a linear energy
            return slope.new_zeros(*slope.shape, slope.shape[1])
        leaves, ones = tree_leaves(at.free), torch.ones_like(slope[:, 0])
        rows = [
            _flat(torch.autograd.grad(part, leaves, ones, retain_graph=True, allow_unused=True, materialize_grads=True))
            for part in slope.unbind(1)
        ]
    matrix = torch.stack(rows, 1)
    return (matrix + matrix.mT) / 2


def _covariance(solver: EnergySolver, x: Any, solution: Solution, absolute_sigma: bool, count: Tensor | None) -> Tensor:
    """`covariance`, in float64."""
    free = _variables(solver, x, solution)
    known = (solution.status == Status.CONVERGED) | (solution.status == Status.STALLED)
    if solver.optimizer.constrains:
        known &= ~_held(solver, x, free)
    if isinstance(solver.energy, LeastSquares):
        inverse, m = _from_residuals(solver.energy, x, free)
        if not absolute_sigma:
            freedom = (torch.full_like(solution.status, m) if count is None else count) - inverse.shape[1]
            variance = torch.where(freedom > 0, 2 * solution.energy.double() / freedom, torch.nan)
            inverse = variance.view(-1, 1, 1) * inverse
    else:
        matrix = hessian(solver, x, solution)
        rounding = torch.finfo(matrix.dtype).eps
        matrix = matrix.double()
        scale = matrix.diagonal(dim1=1, dim2=2).sqrt()
        inverse = _inverse(matrix / scale.unsqueeze(1) / scale.unsqueeze(2), scale, rounding)
    n = _flat(free[0]).shape[1]
    return torch.where(known.view(-1, 1, 1), inverse[:, :n, :n], torch.nan)


def _from_residuals(energy: LeastSquares, x: Any, free: Any) -> tuple[Tensor, int]:
    """The inverse of ``J'J``, and the number of residuals."""
    if energy.layout is not None:
        raise ValueError(
            "A LeastSquares energy with a layout has residuals of several rows per sample. Write them as (batch, m), "
            "with zeros where a sample has fewer, without a layout, and pass count=the number that each sample has."
        )
    with torch.inference_mode(False), torch.no_grad():
        context = energy.encode(tree_map(_usable, x))
        matrix = jacobian(lambda free: energy.residuals(context, *free), free)
    rounding = max(torch.finfo(matrix.dtype).eps ** 2, torch.finfo(torch.float64).eps)  # squares, in float64
    matrix = matrix.double()
    scale = torch.linalg.vector_norm(matrix, dim=1)
    unit = matrix / scale.unsqueeze(1)
    return _inverse(unit.mT @ unit, scale, rounding), matrix.shape[1]


def _inverse(unit: Tensor, scale: Tensor, rounding: float) -> Tensor:
    """The inverses of ``scale_i unit_ij scale_j``, with ones on the diagonal of ``unit``, so that units do not matter.

    NaN where ``unit`` is not positive definite: a pivot of Cholesky's factorization is the share of the curvature of a
    variable that the variables before it do not account for, and below the rounding it has no meaning.
    """
    n = unit.shape[1]
    identity = torch.eye(n, dtype=unit.dtype, device=unit.device)
    factor, failed = torch.linalg.cholesky_ex(unit)
    definite = (failed == 0) & (factor.diagonal(dim1=1, dim2=2).square() > n * rounding).all(1)
    mask = definite.view(-1, 1, 1)
    inverse = torch.cholesky_inverse(torch.where(mask, factor, identity))
    return torch.where(mask, inverse / scale.unsqueeze(1) / scale.unsqueeze(2), torch.nan)


def _variables(solver: EnergySolver, x: Any, solution: Solution) -> Any:
    """``(y,)`` or ``(y, z)`` of the solution, after checking that they are few and dense."""
    layout = solver.layout_of(x)
    if not isinstance(layout, Dense):
        raise TypeError(
            f"Covariances and Hessians need answers with one row per sample, a Dense layout; got "
            f"{type(layout).__name__}."
        )
    free = (solution.y,) if solution.z is None else (solution.y, solution.z)
    check_free("solution.y", solution.y, x, layout)
    free = tree_map(torch.detach, free)
    count = _flat(free).shape[1]
    if count > MOST_VARIABLES:
        raise ValueError(
            f"A sample has {count:,} variables; covariances and Hessians are full matrices, for at most "
            f"{MOST_VARIABLES:,}."
        )
    return free


def _evaluated(solver: EnergySolver, x: Any, free: Any) -> Evaluation:
    """Energies and gradients at the variables, part of the gradient graph of ``free``."""
    encode, evaluate = encode_and_evaluate(solver.energy)
    with torch.no_grad():
        context = encode(x)
    with torch.enable_grad():
        leaves = [leaf.detach().requires_grad_() for leaf in tree_leaves(free)]
        free = tree_unflatten(free, leaves)
        energy = evaluate(context, *free)
        gradient = torch.autograd.grad(
            energy, leaves, torch.ones_like(energy), create_graph=True, allow_unused=True, materialize_grads=True
        )
    return Evaluation(free, energy, tree_unflatten(free, gradient), Dense(len(energy)))


def _held(solver: EnergySolver, x: Any, free: Any) -> Tensor:
    """The samples that a constraint of the optimizer holds, ``(batch,)``."""
    with torch.inference_mode(False), torch.no_grad():
        at = _evaluated(solver, tree_map(_usable, x), free)
        at = at._replace(free=free, energy=at.energy.detach(), gradient=tree_map(torch.detach, at.gradient))
        return held_by_constraint(solver.optimizer, at, Dense(len(at.energy)))


def _usable(leaf: Any) -> Any:
    """The leaf, or a copy that autograd accepts."""
    return leaf.clone() if isinstance(leaf, Tensor) and leaf.is_inference() else leaf


def _flat(tree: Any) -> Tensor:
    """The leaves side by side, ``(batch, n)``."""
    return torch.cat([as_matrix(leaf) for leaf in tree_leaves(tree)], 1)
