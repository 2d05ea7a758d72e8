"""Derivatives of minima by the implicit function theorem.

A minimum solves ``F(y, theta) = 0``, where ``F`` is the gradient, or the projected gradient under constraints. One
simplified Newton step ``y - J^-1 F(y, theta)`` with the constant ``J = dF/dy`` at the minimum stays there and has its
first derivative; a second such step from there has its second derivative too. Both are attached to the answers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..layout import Layout
from ..optimizers.base import Evaluation, InnerOptimizer
from ..solution import Status
from ..trees import detach, tree_leaves, tree_map, tree_unflatten
from .explanations import explained
from .linear import LinearSolver
from .loop import Outcome
from .objective import Objective
from .reports import Failure, RaiseError
from .solve import Solve
from .tracking import ATTEMPTS, BESIDE_OTHERS, NO_DERIVATIVE, Attach, Part, settled, with_answer, without_gradient

_STEEP = 0.5
"""A slope is that of a minimum if it is at most this share of what a change of ``y`` by its own size (or 1) makes."""

Leaves = list[Tensor]
Product = Callable[[Leaves], Leaves]


def attach_minimum(
    solve: Solve,
    context: Any,
    free: Any,
    found: Outcome,
    valid: Tensor,
    linear_solver: LinearSolver,
    failure: Failure,
) -> Outcome:
    """The answers with the derivatives of minima for the samples ``valid``; the others get what ``failure`` says.

    Raises:
        DifferentiationError: if the gradient at the answers is another one when it is evaluated again.
        EnergyError: if the energy has no second derivative.
    """
    report = partial(failure.report, "Implicit")
    failed, broken = ~valid & (found.status != Status.NONFINITE), torch.zeros_like(valid)
    for attempt in range(ATTEMPTS):
        if not bool(valid.any()):
            break
        # A gradient of NaN must reach the sample itself, so the sample must not be left out.
        part = Part.of(solve, context, valid, free, found, select=failure.gradient == 0)
        point = part.moved(broken, attempt, part.take(found.at.free))
        objective = part.descent().objective.tracked()
        equation = _Equation.at(objective, solve.optimizer, tree_map(_leaf, point))
        finite, curvature = _probe(equation)
        if settled(finite, part.valid, attempt):
            _check_same_gradient(equation, part, found, curvature)
            for wrong, what in (equation.steep(curvature), equation.skewed()):
                wrong = valid & ~part.spread(~wrong)
                report(wrong, what)
                valid, failed = valid & ~wrong, failed | wrong
            if not bool(valid.any()):
                break
            chosen = part.chosen(valid), part.chosen(failed)
            attached = _attached(_System(equation, linear_solver, *chosen, failure), objective, solve.optimizer, point)
            values = part.put(attached, found.at.free)
            return with_answer(found, tree_map(Attach.apply, found.at.free, values))
        finite = part.spread(finite)
        report(valid & ~finite, NO_DERIVATIVE)
        valid, failed, broken = valid & finite, failed | (valid & ~finite), broken | ~finite
    report(valid, BESIDE_OTHERS)
    return with_answer(found, without_gradient(solve, found.at.free, context, failure.gradient))


def _leaf(leaf: Tensor) -> Tensor:
    return leaf.detach().requires_grad_()


@dataclass(frozen=True, eq=False)
class _Equation:
    """``F`` at one point, part of the gradient graph, and products with its derivatives there.

    Attributes:
        layout: of the leaves.
        point: the leaves of ``y`` (and ``z``).
        values: the leaves of ``F``.
        gradient: the leaves of the energy's gradient.
        length: ``(batch,)``, the step along the gradient whose projection back ``F`` is; None without constraints.
        onto: the product with the derivative of the projection; None without constraints.
    """

    layout: Layout
    point: Leaves
    values: Leaves
    gradient: Leaves
    length: Tensor | None
    onto: Product | None

    @classmethod
    def at(cls, objective: Objective, optimizer: InnerOptimizer, point: Any) -> "_Equation":
        at = objective.twice(point)
        layout, gradient = objective.layout, tree_leaves(at.gradient)
        if not optimizer.constrains:
            return cls(layout, tree_leaves(point), gradient, gradient, None, None)
        with torch.no_grad():  # far steps would lose the point to rounding
            length = ((1 + layout.norm(at.free)) / layout.norm(at.gradient)).nan_to_num(1.0, 1.0, 1.0).clamp(max=1)
        step = layout.scale(length, at.gradient)
        values = tree_leaves(optimizer.residual(Evaluation(at.free, at.energy, step, layout)))
        fixed = Evaluation(detach(at.free), at.energy.detach(), tree_map(_leaf, step), layout)
        onto = partial(_pulled_back, tree_leaves(optimizer.residual(fixed)), tree_leaves(fixed.gradient))
        return cls(layout, tree_leaves(point), values, gradient, length, onto)

    def hessian(self, vector: Leaves) -> Leaves:
        """The product with the Hessian of the energy, times ``length``."""
        image = _pulled_back(self.gradient, self.point, vector)
        return image if self.length is None else self._scaled(self.length, image)

    def transposed(self, vector: Leaves) -> Leaves:
        """The product with the transposed ``J``."""
        return _pulled_back(self.values, self.point, vector)

    def steep(self, curvature: Tensor) -> tuple[Tensor, str]:
        """The samples ``(batch,)`` that are not at a minimum, however roughly, and what to say about them."""
        rounding = 100 * torch.finfo(curvature.dtype).eps * (1 + self.layout.norm(detach(self.point)))
        allowed = _STEEP * curvature + (0 if self.length is None else rounding)
        return ~(self.layout.norm(detach(self.values)) <= allowed), "are no minimum: their slope is steep"

    def skewed(self) -> tuple[Tensor, str]:
        """The samples ``(batch,)`` whose projection is not one to the nearest point."""
        what = "have a projection that does not lead to the nearest point"
        if self.onto is None:
            return torch.zeros(self.layout.batch, dtype=torch.bool, device=self.point[0].device), what
        a, b = ([_signs(leaf, seed) for leaf in self.point] for seed in (1, 2))
        left, right = self.layout.dot(a, self.onto(b)), self.layout.dot(b, self.onto(a))
        entries = self.layout.dot(a, a)
        return (left - right).abs() > torch.finfo(left.dtype).eps ** 0.5 * entries, what

    def _scaled(self, value: Tensor, leaves: Leaves) -> Leaves:
        return [self.layout.expand(value, leaf) * leaf for leaf in leaves]


def _probe(equation: _Equation) -> tuple[Tensor, Tensor]:
    """The samples with finite second derivatives, and how much ``F`` changes where ``y`` changes by its own size."""
    layout, point = equation.layout, detach(equation.point)
    image = equation.hessian([_signs(leaf, 0) * (1 + leaf.abs()) for leaf in point])
    tangent = image if equation.onto is None else equation.onto(image)
    sums = [layout.sum(leaf - leaf) for leaf in (*image, *tangent)]  # zero, or NaN
    return sum(sums[1:], start=sums[0]) == 0, layout.norm(image)


def _signs(leaf: Tensor, seed: int) -> Tensor:
    """Ones with random signs, the same at every call, so that differences do not cancel."""
    drawn = torch.randint(2, leaf.shape, generator=torch.Generator().manual_seed(seed))
    return (2 * drawn - 1).to(leaf)


def _check_same_gradient(equation: _Equation, part: Part, found: Outcome, curvature: Tensor) -> None:
    layout = equation.layout
    with torch.no_grad():
        known = tree_leaves(part.take(found.at.gradient))
        eps = torch.finfo(curvature.dtype).eps
        scale = curvature if equation.length is None else curvature / equation.length
        allowed = eps**0.25 * layout.norm(known) + eps**0.5 * scale
        other = part.valid & ~(layout.norm(_add(detach(equation.gradient), known, -1)) <= allowed)
    RaiseError().report("Implicit", ~part.spread(~other), _OTHER_GRADIENT)


_OTHER_GRADIENT = (
    "have another gradient when the energy is evaluated again, so their derivative would be that of another minimum. "
    "The energy must be deterministic during a solve: call .eval() on a network with dropout, draw noise before the "
    "solve and pass it in x, and change no buffer"
)


def _pulled_back(outputs: Leaves, inputs: Leaves, vector: Leaves) -> Leaves:
    followed = [index for index, leaf in enumerate(outputs) if leaf.requires_grad]
    if not followed:  # a linear energy
        return [torch.zeros_like(leaf) for leaf in inputs]
    with explained():
        slopes = torch.autograd.grad(
            [outputs[index] for index in followed],
            inputs,
            [vector[index] for index in followed],
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
    return [leaf.detach() for leaf in slopes]


def _add(a: Leaves, b: Leaves, sign: float = 1.0) -> Leaves:
    return [left + sign * right for left, right in zip(a, b, strict=True)]


@dataclass(frozen=True, eq=False)
class _System:
    """Linear systems with ``J``, for the samples ``valid``; the answer for those in ``failed`` is what they get."""

    equation: _Equation
    linear_solver: LinearSolver
    valid: Tensor
    failed: Tensor
    failure: Failure

    def solve(self, right: Leaves, transposed: bool) -> Leaves:
        """``J^-1 right``, or that with the transposed ``J``.

        With the derivative ``D`` of the projection, symmetric since the projection leads to the nearest point, and the
        scaled Hessian ``H``, ``J = 1 - D + D H``. Its inverse is ``1 + M (1 - H)`` with the symmetric ``M = D S^+ D``,
        where ``S = D - D^2 + D H D`` is positive definite at a minimum: on the tangent space of what is active.
        """
        equation, onto = self.equation, self.equation.onto
        right = self._masked(right)
        if onto is None:
            solved, failed = self._conjugate_gradients(equation.hessian, right)
        elif transposed:
            inner, failed = self._conjugate_gradients(self._on_tangents, onto(right))
            inner = onto(inner)
            solved = _add(_add(right, inner), equation.hessian(inner), -1)
        else:
            outer = onto(_add(right, equation.hessian(right), -1))
            inner, failed = self._conjugate_gradients(self._on_tangents, outer)
            solved = _add(right, onto(inner))
        lost = failed | self.failed
        fill = [torch.full_like(leaf, self.failure.gradient) for leaf in solved]
        return equation.layout.where(lost, fill, self._masked(solved))

    def _on_tangents(self, vector: Leaves) -> Leaves:
        onto = self.equation.onto
        assert onto is not None
        image = onto(vector)
        return _add(_add(image, onto(image), -1), onto(self.equation.hessian(image)))

    def _conjugate_gradients(self, operator: Product, right: Leaves) -> tuple[Leaves, Tensor]:
        solved = self.linear_solver.solve(operator, right, self.equation.layout)
        self.failure.report("Implicit", solved.indefinite, "have a Hessian that is not positive definite")
        lost = solved.failed & ~solved.indefinite
        self.failure.report("Implicit", lost, "did not reach the tolerance of the linear solver")
        return solved.value, solved.failed

    def _masked(self, leaves: Leaves) -> Leaves:
        return self.equation.layout.where(self.valid, leaves, [torch.zeros_like(leaf) for leaf in leaves])


class _Solved(torch.autograd.Function):
    """``J^-1 right`` with a constant ``J``, or that with the transposed ``J``."""

    @staticmethod
    def forward(ctx, system, transposed, *right):
        ctx.setup = system, transposed
        return tuple(system.solve(list(right), transposed))

    @staticmethod
    def backward(ctx, *cotangents):
        if torch.is_grad_enabled():
            raise RuntimeError(
                "Implicit gives first and second derivatives of answers, not third ones. Leave out create_graph=True "
                "in the second differentiation, or use Unroll."
            )
        system, transposed = ctx.setup
        return None, None, *system.solve(list(cotangents), not transposed)


class _Newton(torch.autograd.Function):
    """``point - J^-1 F`` with a constant ``J``, where ``F`` is zero to within the tolerance of the solve.

    Args:
        system: with ``J``.
        equation: ``F`` at ``point``; None if ``point`` is constant.
        count: of leaves.
        leaves: the values to return, ``point``, and ``F`` there.
    """

    @staticmethod
    def forward(ctx, system, equation, count, *leaves):
        ctx.setup = system, equation, count
        return tuple(leaf.clone() for leaf in leaves[:count])

    @staticmethod
    def backward(ctx, *cotangents):
        system, equation, count = ctx.setup
        nothing = (None,) * count
        if equation is None and not torch.is_grad_enabled() and not any(bool(leaf.any()) for leaf in cotangents):
            return None, None, None, *nothing, *nothing, *nothing  # a first derivative, see below
        right = system._masked(list(cotangents))
        solved = _Solved.apply(system, True, *right)
        to_point = nothing
        if equation is not None:
            # With the exact J this is ``right``. As it is, it cancels what reaches ``point`` through F to the last bit,
            # so that only a second derivative goes on from there.
            image = equation.transposed([leaf.detach() for leaf in solved])
            to_point = tuple(Attach.apply(value, leaf) for value, leaf in zip(image, right, strict=True))
        return None, None, None, *nothing, *to_point, *(-leaf for leaf in solved)


def _attached(system: _System, objective: Objective, optimizer: InnerOptimizer, point: Any) -> Any:
    """``point`` with the first and second derivative of the minimum there."""
    fixed = [leaf.detach() for leaf in tree_leaves(point)]
    first = _Newton.apply(system, None, len(fixed), *fixed, *fixed, *system.equation.values)
    # What reaches a leaf through F accumulates in its view, and then cancels as a whole.
    again = _Equation.at(objective, optimizer, tree_unflatten(point, [leaf.view_as(leaf) for leaf in first]))
    attached = _Newton.apply(system, again, len(fixed), *fixed, *first, *again.values)
    return tree_unflatten(point, attached)
