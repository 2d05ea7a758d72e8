"""Newton steps by conjugate gradients on Hessian products, each sample with its own trust region."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..layout import Dense, Layout
from ..trees import tree_leaves
from .base import InnerOptimizer, PerSample
from .flat import dot, flatten, scaled, unflatten
from .trust import Trust, decide

Product = Callable[[Tensor], Tensor]
"""The product of each sample's Hessian with a vector, from ``(rows, features)`` to ``(rows, features)``."""


class NewtonCGState(NamedTuple):
    """The state of `NewtonCG`.

    Attributes:
        steepest: ``(batch,)``, the largest norm of the gradient so far.
        trust: `Trust` of each sample.
    """

    steepest: PerSample
    trust: PerSample


@dataclass(frozen=True)
class NewtonCG(InnerOptimizer):
    """Newton's method with a trust region per sample: nothing to choose (Steihaug, 1983; Nocedal and Wright, Alg. 7.2).

    Each step minimizes the quadratic model of the energy by conjugate gradients until it is accurate enough, reaches
    the boundary of the trust region, or finds negative curvature, which it follows to the boundary. So it leaves saddle
    points, except those at which the gradient is exactly 0. Candidates that are NaN or infinite are refused. The energy
    must be twice differentiable.

    A step takes one evaluation more than a trial does, and at most four Hessian products (each about two evaluations)
    for each variable of the largest sample, or 20 if that is more. `Solution.evaluations` counts the trials. On devices
    other than the CPU, the host waits every few products to see whether all samples are done. It cannot be compiled.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver, NewtonCG
        >>> from energysolve.energies import Rosenbrock
        >>> solver = EnergySolver(Rosenbrock(), NewtonCG())
        >>> solver.minimize(torch.zeros(1, 2), torch.tensor([[-1.2, 1.0]])).y.round(decimals=2)
        tensor([[1., 1.]])
    """

    searches = True

    def init(self, free):
        return self.begin(free, Dense(len(tree_leaves(free)[0])))

    def begin(self, free, layout):
        like = flatten(free).new_zeros(layout.batch)
        return NewtonCGState(PerSample(like), PerSample(Trust.begin(like)))

    def step(self, at, state, evaluate):
        layout, point, gradient = evaluate.layout, flatten(at.free), flatten(at.gradient)
        with torch.no_grad():
            multiply = evaluate.hessian(at.free)

            def product(vector: Tensor) -> Tensor:
                return flatten(multiply(unflatten(vector, at.free)))

            trust: Trust = state.trust.value
            norm = dot(layout, gradient, gradient).sqrt()
            steepest = torch.maximum(state.steepest.value, norm)
            size = dot(layout, point, point).sqrt().clamp(min=1)
            radius = torch.where(trust.radius.isnan(), _FIRST * size, trust.radius)
            tolerance = norm * (norm / steepest).sqrt().clamp(max=0.1).nan_to_num(0.0)
            step, residual = _truncated(product, gradient, layout, radius, tolerance)
            length = dot(layout, step, step).sqrt()
            predicted = -dot(layout, gradient + residual, step) / 2
            trust = trust.proposed(radius, length, predicted, -dot(layout, gradient, step))
        if torch.is_grad_enabled():
            step = _with_gradient(step, product, gradient, layout)
        return unflatten(point + step, at.free), NewtonCGState(PerSample(steepest), PerSample(trust))

    def accept(self, at, trial, state):
        layout = trial.layout
        assert layout is not None
        moved = flatten(trial.free) - flatten(at.free)
        lost = dot(layout, moved, moved) == 0
        accepted, trust = decide(
            *(state.trust.value, at.energy, trial.energy),
            *(layout.norm(at.gradient), layout.norm(trial.gradient), layout.norm(at.free), lost),
        )
        return accepted, state._replace(trust=PerSample(trust))

    def stalled(self, state):
        return state.trust.value.stalled


_FIRST = 1.0
"""The initial radius in units of the size of the initial answer, or of 1 where that is smaller."""
_LOOKS = 8
"""Products between two looks of the host whether all samples are done, on devices other than the CPU."""


def _truncated(
    product: Product, gradient: Tensor, layout: Layout, radius: Tensor, tolerance: Tensor
) -> tuple[Tensor, Tensor]:
    """The approximate minimum of each sample's quadratic model within its radius.

    Args:
        product: with the Hessian.
        gradient: ``(rows, features)``.
        layout: of the rows.
        radius: ``(batch,)``.
        tolerance: ``(batch,)``, of the norm of the model's gradient at its minimum.

    Returns:
        The step, and the model's gradient there.
    """
    step, residual, direction = torch.zeros_like(gradient), gradient, -gradient
    square = dot(layout, gradient, gradient)
    active = square > tolerance.square()
    looks = 1 if gradient.device.type == "cpu" else _LOOKS
    for count in range(_most_products(gradient, layout)):
        if count % looks == 0 and not active.any():
            break
        image = product(direction)
        curvature = dot(layout, direction, image)
        defined = curvature.isfinite()
        image = torch.where(_rows(layout, defined), image, 0)  # without a Hessian, the direction is followed
        length = square / curvature
        ahead = step + scaled(layout, length, direction)
        leaves = ~(curvature > 0) | ~defined | ~(dot(layout, ahead, ahead) < radius.square())
        length = torch.where(leaves, _to_boundary(layout, step, direction, radius), length)
        length = torch.where(active, length, 0)
        step = step + scaled(layout, length, direction)
        residual = residual + scaled(layout, length, image)
        following = dot(layout, residual, residual)
        active = active & ~leaves & (following > tolerance.square())
        # Samples that are done keep a finite direction; their quotients may be 0/0.
        ratio = torch.where(active, following / square, 0)
        direction = scaled(layout, ratio, direction) - residual
        square = following
    return step, residual


def _with_gradient(step: Tensor, product: Product, gradient: Tensor, layout: Layout) -> Tensor:
    """The step with the derivative of the exact minimum of the model in the trust region, whose multiplier is constant.

    It needs no memory for the conjugate gradients, and is exact where the last steps are exact, near a minimum.
    """
    residual = gradient + product(step)
    square = dot(layout, step, step).detach()
    multiplier = (-dot(layout, residual, step).detach() / torch.where(square > 0, square, 1)).clamp(min=0)
    residual = residual + scaled(layout, multiplier, step)
    return step + _Solved.apply(residual, product, layout, multiplier)


class _Solved(torch.autograd.Function):
    """Zero, with the derivative of the solution of a linear system by the negative of its right-hand side."""

    @staticmethod
    def forward(ctx, residual, product, layout, multiplier):
        ctx.setup = product, layout, multiplier
        return torch.zeros_like(residual)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, cotangent):  # pyright: ignore[reportIncompatibleMethodOverride]  (from the decorator)
        product, layout, multiplier = ctx.setup

        def damped(vector: Tensor) -> Tensor:
            return product(vector).detach() + scaled(layout, multiplier, vector)

        norm = dot(layout, cotangent, cotangent).sqrt()
        unbounded = torch.full_like(norm, torch.inf)
        tolerance = norm * torch.finfo(norm.dtype).eps ** 0.75
        return _truncated(damped, cotangent, layout, unbounded, tolerance)[0], None, None, None


def _to_boundary(layout: Layout, step: Tensor, direction: Tensor, radius: Tensor) -> Tensor:
    """How far ``step`` can follow ``direction`` until its length is the radius, ``(batch,)``."""
    a, b = dot(layout, direction, direction), dot(layout, step, direction)
    c = (radius.square() - dot(layout, step, step)).clamp(min=0)
    root = (b.square() + a * c).sqrt()
    length = torch.where(b > 0, c / (b + root), (root - b) / a)
    return torch.where(radius.isfinite(), length, 0)


def _most_products(gradient: Tensor, layout: Layout) -> int:
    """Four times the dimension of the largest sample, at least 20: rounding delays conjugate gradients."""
    dense = isinstance(layout, Dense)
    largest = gradient.shape[1] if dense else int(layout.sum(torch.ones_like(gradient)).max())
    return max(20, 4 * largest)


def _rows(layout: Layout, mask: Tensor) -> Tensor:
    return layout.spread(mask.unsqueeze(1))
