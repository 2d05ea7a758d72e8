"""How gradients reach the parameters of the energy, and ``x``.

Every mode finds the answers without tracking, so values, steps and status do not depend on the mode. A mode that
differentiates through steps then repeats them with tracking, the last steps of each sample for itself, and attaches the
gradient of the repetition to the answers.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .checks import check_whole
from .engine.linear import CG, LinearSolver
from .engine.loop import Carry, Outcome, run
from .engine.observers import AcceptedSteps, LastSteps, StepStart
from .engine.solve import Solve
from .engine.tracking import attach_replay, replay, stand_in, with_answer, without_gradient
from .halting import Halting, Never
from .layout import Layout
from .optimizers.base import Evaluation, InnerOptimizer
from .recorders import Nothing
from .solution import Status
from .trees import detach, tree_leaves, tree_map, tree_unflatten


class DifferentiationWarning(RuntimeWarning):
    """The derivative of some samples could not be computed; their gradient is zero."""


class Differentiation(ABC):
    """How gradients reach the parameters of the energy and ``x``."""

    @abstractmethod
    def minimize(self, solve: Solve, free: Any) -> Outcome:
        """The answers from the initial ``free``, with gradients attached. Called with gradients enabled."""

    def descend(self, solve: Solve, free: Any) -> Any:
        """The answers after exactly ``solve.max_steps`` steps (trials, of an optimizer that searches), with gradients.

        The energy at the answers is not evaluated, and the host never waits for the device. Called with gradients
        enabled.
        """
        return self.minimize(replace(solve, halting=Never()), free).at.free

    def check(self, halting: Halting) -> None:
        """Raise a ValueError for a halting criterion that does not work with this mode."""


@dataclass(frozen=True)
class Detached(Differentiation):
    """No gradients; memory does not depend on the number of steps."""

    def minimize(self, solve, free):
        with torch.no_grad():
            return solve.untracked(solve.encode(solve.x), free)[0]


@dataclass(frozen=True)
class Unroll(Differentiation):
    """Gradients through all steps of each sample, and to an initial point that requires them.

    Memory grows with the number of steps. Each step is computed twice: once to find the number of steps of each sample,
    once with tracking.
    """

    def minimize(self, solve, free):
        context = solve.encode(solve.x)
        found, accepted = solve.untracked(context, free, _watch_steps(solve, None))
        start = StepStart(free, solve.optimizer.begin(detach(free), solve.layout))
        return attach_replay(solve, context, free, found, start, solve.max_steps, accepted)

    def descend(self, solve, free):
        if solve.optimizer.searches:
            return super().descend(solve, free)
        begin = StepStart(free, solve.optimizer.begin(detach(free), solve.layout))
        return replay(solve.descent(solve.encode(solve.x)), begin, solve.max_steps)[0]


@dataclass(frozen=True)
class Truncated(Differentiation):
    """Gradients through the last ``k`` steps that each sample took; the paper's choice is ``k = 1`` (Section 3.2).

    Memory does not depend on the number of steps. Where no sample can halt early (`Never`, as in training), the last
    ``k`` steps are tracked as they are taken; otherwise they are repeated from iterates saved for each sample.

    Args:
        k: the number of steps, 1 or more.

    Example:
        >>> solver = EnergySolver(energy, SGD(0.1), init=Uniform((3,)), differentiation=Truncated(1))
        >>> (solver.minimize(x).y - target).square().mean().backward()
    """

    k: int

    def __post_init__(self):
        check_whole("Truncated", least=1, k=self.k)

    def minimize(self, solve, free):
        context = solve.encode(solve.x)
        fixed = not solve.optimizer.searches
        if fixed and solve.halting.earliest() > solve.max_steps > 0 and isinstance(solve.recorder, Nothing):
            found = self._track_last(solve, context, free)
            if found is not None:
                return found
        k = max(1, min(self.k, solve.max_steps))
        if fixed:
            watch = partial(LastSteps, k, solve.max_steps, layout=solve.layout)
            found, last = solve.untracked(context, free, watch)
            return attach_replay(solve, context, free, found, last.beginning(found.steps), k)
        found, accepted = solve.untracked(context, free, _watch_steps(solve, k))
        begin = accepted.start((found.steps - k).clamp(min=0))
        return attach_replay(solve, context, free, found, begin, k, accepted)

    def descend(self, solve, free):
        if solve.optimizer.searches:
            return super().descend(solve, free)
        context = solve.encode(solve.x)
        k = min(self.k, solve.max_steps)
        with torch.no_grad():
            descent = solve.descent(detach(context))
            begin = StepStart(detach(free), solve.optimizer.begin(detach(free), solve.layout))
            for _ in range(solve.max_steps - k):
                begin = StepStart(
                    *descent.optimizer.step(descent.objective(begin.free), begin.optimizer_state, descent.objective)
                )
        return replay(solve.descent(context), begin, k)[0]

    def _track_last(self, solve: Solve, context: Any, free: Any) -> Outcome | None:
        """Take ``max_steps`` steps and track the last ``k``; None if a sample became NaN or infinite."""
        k = min(self.k, solve.max_steps)
        untracked = solve.max_steps - k
        begin = StepStart(detach(free), solve.optimizer.begin(detach(free), solve.layout))
        moving = None
        if untracked:
            with torch.no_grad():
                descent = solve.descent(detach(context))
                carry = descent.start(begin.free)
                steps = range(untracked - 1)
                carry = run(descent, carry, steps, sync_every=solve.sync_every, advance=solve.advance)
                begin, moving = StepStart(*descent.propose(carry)), carry.active
        descent = solve.descent(context)
        ended, finite = replay(descent, begin, k)
        with torch.no_grad():
            last = solve.descent(detach(context)).objective.checked(detach(ended))
            finite = finite & descent.objective.finite(last)
            if not bool((finite if moving is None else finite & moving).all()):
                return None
        steps = torch.full_like(last.energy, solve.max_steps, dtype=torch.int64)
        return Outcome(last._replace(free=ended), steps, torch.full_like(steps, Status.MAX_STEPS), steps + 1)


@dataclass(frozen=True)
class Implicit(Differentiation):
    """Gradients by the implicit function theorem: ``dy = -H^{-1} d(gradient)`` at a minimum with Hessian ``H``.

    The gradient is as exact as the sample has converged, for any optimizer; memory and time do not depend on the number
    of steps. It is valid for samples that converged to a minimum in the interior of any constraint. All others (not
    converged, on a constraint, Hessian not positive definite, linear solve not converged) get a gradient of zero and
    are listed in a `DifferentiationWarning`.

    Args:
        linear_solver: solves linear systems with the Hessian, given its products with vectors.

    Example:
        >>> solver.replace(differentiation=Implicit(), halting=GradientNorm(1e-6)).minimize(x).y.sum().backward()
    """

    linear_solver: LinearSolver = field(default_factory=CG)

    def check(self, halting):
        if halting.earliest() == float("inf"):
            raise ValueError(
                "Implicit differentiates at minima, but the halting criterion never fires, so no sample converges. "
                "Use a criterion such as GradientNorm(1e-6), or Truncated or Unroll."
            )

    def descend(self, solve, free):
        return self.minimize(solve, free).at.free

    def minimize(self, solve, free):
        context = solve.encode(solve.x)
        found, _ = solve.untracked(context, free)
        with torch.no_grad():
            held = held_by_constraint(solve.optimizer, found.at, solve.layout)
        _warn((found.status == Status.MAX_STEPS), "did not converge in max_steps")
        _warn((found.status == Status.STALLED), "stalled before they converged")
        _warn((found.status == Status.CONVERGED) & held, "ended on a constraint")
        valid = (found.status == Status.CONVERGED) & ~held & (found.steps > 0)
        if not bool(valid.any()):
            return with_answer(found, without_gradient(solve, found.at.free))
        context, (point,) = stand_in(solve, context, valid, free, found, (found.at.free,))
        point = tree_map(lambda leaf: leaf.detach().requires_grad_(), point)
        gradient = solve.descent(context).objective.tracked()(point).gradient
        attached = _ImplicitFunction.apply(
            self.linear_solver,
            solve.layout,
            valid,
            tree_leaves(point),
            *tree_leaves(found.at.free),
            *tree_leaves(gradient),
        )
        return with_answer(found, tree_unflatten(found.at.free, attached))


def _watch_steps(solve: Solve, length: int | None) -> Callable[[Carry], AcceptedSteps] | None:
    """What watches the accepted steps of an optimizer that searches; see `AcceptedSteps`."""
    return partial(AcceptedSteps, layout=solve.layout, length=length) if solve.optimizer.searches else None


def held_by_constraint(optimizer: InnerOptimizer, at: Evaluation, layout: Layout) -> Tensor:
    """The samples at which a constraint balances the gradient."""
    if not optimizer.constrains:
        return torch.zeros_like(at.energy, dtype=torch.bool)
    balance = tree_map(torch.sub, at.gradient, optimizer.residual(at))
    rounding = 100 * torch.finfo(at.energy.dtype).eps * (1 + layout.norm(at.free))
    return layout.norm(balance) > rounding


def _warn(samples: Tensor, what: str) -> None:
    indices = samples.nonzero().flatten().tolist()
    if indices:
        shown = f"{indices[:20]}" + (" ..." if len(indices) > 20 else "")
        warnings.warn(
            f"Implicit: {len(indices)} of {len(samples)} samples {what} and get a gradient of zero: {shown}",
            DifferentiationWarning,
            stacklevel=2,
        )


class _ImplicitFunction(torch.autograd.Function):
    """The minimum as a function of the gradient at it, by the implicit function theorem."""

    @staticmethod
    def forward(ctx, linear_solver, layout, valid, point, *values_and_gradient):
        count = len(point)
        ctx.setup = linear_solver, layout, valid, point
        ctx.gradient = values_and_gradient[count:]
        return tuple(value.clone() for value in values_and_gradient[:count])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *cotangents):  # pyright: ignore[reportIncompatibleMethodOverride]  (from the decorator)
        linear_solver, layout, valid, point = ctx.setup
        followed = [index for index, leaf in enumerate(ctx.gradient) if leaf.requires_grad]

        def hessian(vector):
            return torch.autograd.grad(
                [ctx.gradient[index] for index in followed],
                point,
                [vector[index] for index in followed],
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )

        right = layout.where(valid, cotangents, tuple(torch.zeros_like(leaf) for leaf in cotangents))
        solved = linear_solver.solve(hessian, right, layout)
        _warn(solved.indefinite, "have a Hessian that is not positive definite")
        _warn(solved.failed & ~solved.indefinite, "did not reach the tolerance of the linear solver")
        return (None, None, None, None, *(None for _ in point), *(-leaf for leaf in solved.value))
