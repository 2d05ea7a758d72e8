"""Levenberg-Marquardt steps for sums of squares, each sample with its own damping."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..layout import Dense
from ..trees import tree_leaves
from .base import InnerOptimizer, PerSample
from .flat import dot, flatten, unflatten
from .jacobian import jacobian
from .trust import Trust, decide


class LevenbergMarquardtState(NamedTuple):
    """The state of `LevenbergMarquardt`.

    Attributes:
        scale: ``(batch, n)``, the largest norm of each column of the Jacobian so far.
        trust: `Trust` of each sample; lengths are measured in units of ``scale``.
    """

    scale: PerSample
    trust: PerSample


@dataclass(frozen=True)
class LevenbergMarquardt(InnerOptimizer):
    """Levenberg-Marquardt for `LeastSquares` energies, with a trust region per sample: nothing to choose (Moré, 1978).

    Each step minimizes the squares of the linearized residuals within a ball. Its radius follows from the ratio of the
    decrease found to the decrease predicted, for each sample. Variables are measured in units of the largest norm of
    their column of the Jacobian so far, so that it does not matter if their orders of magnitude differ. Candidates that
    are NaN or infinite are refused. A step evaluates the residuals once more than a trial does, and takes as many
    backward passes as a sample has variables; memory is of the order of ``batch * m * n``.

    Raises:
        TypeError: at the first step, if the energy is no `LeastSquares`, or the layout is not `Dense`.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver, LeastSquares, LevenbergMarquardt
        >>> t = torch.linspace(0, 2, 20)
        >>> fit = LeastSquares(lambda x, y: y[:, :1] * torch.exp(-y[:, 1:] * t) - x)  # one decay per sample
        >>> x = torch.tensor([[2.0], [4.0]]) * torch.exp(-torch.tensor([[1.0], [3.0]]) * t)
        >>> EnergySolver(fit, LevenbergMarquardt()).minimize(x, torch.ones(2, 2)).y.round(decimals=3)
        tensor([[2., 1.],
                [4., 3.]])
    """

    searches = True

    def init(self, free):
        return self.begin(free, Dense(len(tree_leaves(free)[0])))

    def begin(self, free, layout):
        if not isinstance(layout, Dense):
            raise TypeError(
                f"LevenbergMarquardt needs answers with one row per sample, a Dense layout; got "
                f"{type(layout).__name__}. Use NewtonCG() or LBFGS()."
            )
        point = flatten(free)
        return LevenbergMarquardtState(PerSample(torch.zeros_like(point)), PerSample(Trust.begin(_wide(point[:, 0]))))

    def step(self, at, state, evaluate):
        layout, point, gradient = evaluate.layout, flatten(at.free), flatten(at.gradient)
        matrix = jacobian(evaluate.residuals, at.free)
        trust, scale = state.trust.value, state.scale.value
        with torch.no_grad():
            scale = torch.maximum(scale, torch.linalg.vector_norm(matrix, dim=1).nan_to_num(0.0, 0.0))
            units = torch.where(scale > 0, scale, 1)
            radius = torch.where(trust.radius.isnan(), _first_radius(_wide(units * point)), trust.radius)
            system = _System.of(matrix / units.unsqueeze(1), gradient / units)
            damping = system.damping(radius)
            step = system.solve(gradient / units, damping) / -units
            slope = -dot(layout, gradient, step)
            trust = trust.proposed(radius, system.length(damping), system.decrease(damping), slope)
        if torch.is_grad_enabled():
            step = _with_gradient(step, matrix, gradient, system, units, damping)
        state = LevenbergMarquardtState(PerSample(scale), PerSample(trust))
        return unflatten(point + step, at.free), state

    def accept(self, at, trial, state):
        scale = state.scale.value
        units = torch.where(scale > 0, scale, 1)
        point = flatten(at.free)
        lost = (flatten(trial.free) == point).all(1)
        norm, new_norm, size = (
            torch.linalg.vector_norm(matrix, dim=1)
            for matrix in (flatten(at.gradient) / units, flatten(trial.gradient) / units, units * point)
        )
        accepted, trust = decide(state.trust.value, at.energy, trial.energy, norm, new_norm, size, lost)
        return accepted, state._replace(trust=PerSample(trust))

    def stalled(self, state):
        return state.trust.value.stalled


def _first_radius(point: Tensor) -> Tensor:
    """A hundred times the size of the initial answer, as in MINPACK."""
    size = torch.linalg.vector_norm(point, dim=1)
    return 100 * torch.where(size > 0, size, 1)


class _System(NamedTuple):
    """The normal equations of each sample in units of the scale, by their eigenvectors.

    They are in float64: they square the condition number of the Jacobian, which float32 would not resolve.

    Attributes:
        values: ``(batch, n)``, the eigenvalues, raised to what rounding can tell from 0.
        vectors: ``(batch, n, n)``.
        right: ``(batch, n)``, the gradient in this basis.
    """

    values: Tensor
    vectors: Tensor
    right: Tensor

    @classmethod
    def of(cls, matrix: Tensor, gradient: Tensor) -> "_System":
        """From the Jacobian ``(batch, m, n)`` and the gradient ``(batch, n)`` in units of the scale."""
        matrix = _wide(matrix)
        normal = matrix.mT @ matrix
        # The decomposition of a matrix that is not finite would fail for the whole batch.
        finite = normal.isfinite().all(2).all(1).view(-1, 1, 1)
        n = normal.shape[1]
        normal = torch.where(finite, normal, torch.eye(n, dtype=normal.dtype, device=normal.device))
        values, vectors = torch.linalg.eigh(normal)
        floor = (n * torch.finfo(values.dtype).eps * values[:, -1:]).clamp(min=torch.finfo(values.dtype).tiny)
        return cls(torch.maximum(values, floor), vectors, _columns(vectors, _wide(gradient)))

    def solve(self, right: Tensor, damping: Tensor) -> Tensor:
        """The solutions ``(batch, n)`` with the damping ``(batch,)`` added to the eigenvalues."""
        solved = _columns(self.vectors, right.to(self.values.dtype)) / (self.values + damping.unsqueeze(1))
        return (self.vectors * solved.unsqueeze(1)).sum(2).to(right.dtype)

    def length(self, damping: Tensor) -> Tensor:
        """The norm of the step, ``(batch,)``."""
        return torch.linalg.vector_norm(self.right / (self.values + damping.unsqueeze(1)), dim=1)

    def decrease(self, damping: Tensor) -> Tensor:
        """The decrease of the energy that the linearized residuals predict, ``(batch,)``."""
        damping = damping.unsqueeze(1)
        return ((self.right / (self.values + damping)).square() * (self.values / 2 + damping)).sum(1)

    def damping(self, radius: Tensor) -> Tensor:
        """The damping ``(batch,)`` that makes a step as long as the radius, and 0 for steps within a tenth of it.

        Newton's method on the reciprocal of the length, from below, where it is monotone (Moré, 1978, Section 5).
        """
        size = torch.linalg.vector_norm(self.right, dim=1)
        damping = torch.zeros_like(size)
        outside = self.length(damping) > 1.1 * radius
        if outside.device.type == "cpu" and not outside.any():  # asking another device would take longer
            return damping
        damping = torch.where(outside, (size / radius - self.values[:, -1]).clamp(min=0), 0)
        for _ in range(_ITERATIONS):
            shifted = self.values + damping.unsqueeze(1)
            square = (self.right / shifted).square()
            length = square.sum(1)
            change = (length.sqrt() / radius - 1) * length / (square / shifted).sum(1)
            damping = torch.where(outside & change.isfinite(), damping + change.clamp(min=0), damping)
        return damping


_ITERATIONS = 6
"""Of the search for the damping. Lengths are then within 2 % of the radius; MINPACK allows 10 %."""


def _wide(tensor: Tensor) -> Tensor:
    """In float64, where the device has it."""
    return tensor if tensor.device.type == "mps" else tensor.double()


def _columns(vectors: Tensor, right: Tensor) -> Tensor:
    """The products of each column with the right-hand side, ``(batch, n)``."""
    return (vectors * right.unsqueeze(2)).sum(1)


def _with_gradient(
    step: Tensor, matrix: Tensor, gradient: Tensor, system: _System, units: Tensor, damping: Tensor
) -> Tensor:
    """The step with its derivative by the Jacobian and the gradient; its units and its damping are constants.

    The derivative of eigenvectors is infinite where eigenvalues are equal, that of the solution is not.
    """
    predicted = (matrix * step.unsqueeze(1)).sum(2)
    residual = gradient + (matrix * predicted.unsqueeze(2)).sum(1)
    correction = system.solve(residual / units, damping) / units
    return step - (correction - correction.detach())
