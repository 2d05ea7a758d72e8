"""How gradients reach the parameters of the energy, and ``x``.

Every mode first finds the answers without tracking anything, so values, steps and status are the same under all of
them. A mode that differentiates then replays, tracked, the steps that it differentiates through, each sample on its
own clock, and attaches the gradient of the replay to the values already found.
"""

import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .checks import check_whole
from .engine.linear import CG, LinearSolver
from .engine.loop import Outcome, run
from .engine.observers import StepStart
from .engine.problem import Problem
from .engine.tracking import attach_replay, replay, stand_in, with_answer, without_gradient
from .halting import Halting
from .layout import Layout
from .optimizers.base import Evaluation, InnerOptimizer
from .recorders import Nothing
from .solution import Status
from .trees import detach, tree_leaves, tree_map, tree_unflatten


class DifferentiationWarning(RuntimeWarning):
    """Samples whose derivative could not be computed; their gradient is zero."""


class Differentiation(ABC):
    """How gradients reach the parameters of the energy and ``x``."""

    @abstractmethod
    def solve(self, problem: Problem, free: Any) -> Outcome:
        """The answers from the initial ``free``, with gradients attached. Called with gradients enabled."""

    def descend(self, problem: Problem, free: Any) -> Any:
        """The answers after exactly ``problem.max_steps`` steps, with gradients attached, and nothing else: the energy
        at the answer is not evaluated, and the host never waits for the device. Called with gradients enabled.
        """
        return self.solve(problem, free).at.free

    def check(self, halting: Halting) -> None:
        """Raise a ValueError for a halting criterion that this mode cannot work with."""


@dataclass(frozen=True)
class Detached(Differentiation):
    """No gradients. Memory does not depend on the number of steps."""

    def solve(self, problem, free):
        with torch.no_grad():
            return problem.solve(problem.encode(problem.x), free)[0]


@dataclass(frozen=True)
class Unroll(Differentiation):
    """Gradients through every step that each sample took, and to an initial point that requires them.

    Memory grows with the number of steps, and the steps are evaluated twice: once to learn how many each sample
    takes, once tracked.
    """

    def solve(self, problem, free):
        context = problem.encode(problem.x)
        found, _ = problem.solve(context, free)
        start = StepStart(free, problem.optimizer.init(detach(free)))
        return attach_replay(problem, context, found, start, limit=problem.max_steps)

    def descend(self, problem, free):
        begin = StepStart(free, problem.optimizer.init(detach(free)))
        return replay(problem.descent(problem.encode(problem.x)), begin, problem.max_steps)[0]


@dataclass(frozen=True)
class Truncated(Differentiation):
    """Gradients through the last ``k`` steps that each sample took; the paper's choice is ``k = 1`` (Section 3.2).

    Memory does not depend on the number of steps. Where no sample can halt early (`Never`, as in training), the last
    ``k`` steps are tracked as they are taken, with no evaluation besides the one at the answer that gives its energy
    and status; otherwise they are taken once more from the iterates saved for each sample.

    Args:
        k: the number of steps, 1 or more.
    """

    k: int

    def __post_init__(self):
        check_whole("Truncated", least=1, k=self.k)

    def solve(self, problem, free):
        context = problem.encode(problem.x)
        if problem.halting.earliest() > problem.max_steps > 0 and isinstance(problem.recorder, Nothing):
            found = self._track_last(problem, context, free)
            if found is not None:
                return found
        k = max(1, min(self.k, problem.max_steps))
        found, last = problem.solve(context, free, last_steps=k)
        assert last is not None
        return attach_replay(problem, context, found, last.beginning(found.steps), limit=k)

    def descend(self, problem, free):
        context = problem.encode(problem.x)
        k = min(self.k, problem.max_steps)
        with torch.no_grad():
            descent = problem.descent(detach(context))
            begin = StepStart(detach(free), problem.optimizer.init(detach(free)))
            for _ in range(problem.max_steps - k):
                begin = StepStart(
                    *descent.optimizer.step(descent.objective(begin.free), begin.optimizer_state, descent.objective)
                )
        return replay(problem.descent(context), begin, k)[0]

    def _track_last(self, problem: Problem, context: Any, free: Any) -> Outcome | None:
        """Take ``max_steps`` steps and track the last ``k`` of them; None if a sample turns out not to be finite."""
        k = min(self.k, problem.max_steps)
        untracked = problem.max_steps - k
        begin = StepStart(detach(free), problem.optimizer.init(detach(free)))
        moving = None
        if untracked:
            with torch.no_grad():
                descent = problem.descent(detach(context))
                carry = descent.start(begin.free)
                steps = range(untracked - 1)
                carry = run(descent, carry, steps, sync_every=problem.sync_every, advance=problem.advance)
                begin, moving = StepStart(*descent.propose(carry)), carry.active
        descent = problem.descent(context)
        ended, finite = replay(descent, begin, k)
        with torch.no_grad():
            last = problem.descent(detach(context)).objective.checked(detach(ended))
            finite = finite & descent.objective.finite(last)
            if not bool((finite if moving is None else finite & moving).all()):
                return None
        steps = torch.full_like(last.energy, problem.max_steps, dtype=torch.int64)
        return Outcome(last._replace(free=ended), steps, torch.full_like(steps, Status.MAX_STEPS))


@dataclass(frozen=True)
class Implicit(Differentiation):
    """Gradients by the implicit function theorem: ``dy = -H^{-1} d(gradient)`` at a minimum with Hessian ``H``.

    Exact as far as the sample has converged, whatever the optimizer did; memory and time do not depend on the number
    of steps. It holds for samples that converged to a minimum that no constraint holds. The others (out of steps, held
    by a projection, a Hessian that is not positive definite, a linear solve that does not converge) get a gradient of
    zero and are named in a `DifferentiationWarning`.

    Args:
        linear_solver: solves with the Hessian, known by its products.
    """

    linear_solver: LinearSolver = field(default_factory=CG)

    def check(self, halting):
        if halting.earliest() == float("inf"):
            raise ValueError(
                "Implicit differentiates at minima, but the halting criterion never fires, so no sample converges. "
                "Use a criterion such as GradientNorm(1e-6), or Truncated or Unroll."
            )

    def solve(self, problem, free):
        context = problem.encode(problem.x)
        found, _ = problem.solve(context, free)
        with torch.no_grad():
            held = _held(problem.optimizer, found.at, problem.layout)
        _warn((found.status == Status.MAX_STEPS), "did not converge in max_steps")
        _warn((found.status == Status.CONVERGED) & held, "ended on a constraint")
        valid = (found.status == Status.CONVERGED) & ~held & (found.steps > 0)
        if not bool(valid.any()):
            return with_answer(found, without_gradient(problem, found.at.free))
        context, (point,) = stand_in(problem, context, valid, found.at.free, (found.at.free,))
        point = tree_map(lambda leaf: leaf.detach().requires_grad_(), point)
        gradient = problem.descent(context).objective(point, track=True).gradient
        attached = _ImplicitFunction.apply(
            self.linear_solver,
            problem.layout,
            valid,
            tree_leaves(point),
            *tree_leaves(found.at.free),
            *tree_leaves(gradient),
        )
        return with_answer(found, tree_unflatten(found.at.free, attached))


def _held(optimizer: InnerOptimizer, at: Evaluation, layout: Layout) -> Tensor:
    """The samples at which a constraint balances the gradient."""
    residual = optimizer.residual(at)
    if residual is at.gradient:
        return torch.zeros_like(at.energy, dtype=torch.bool)
    balance = tree_map(torch.sub, at.gradient, residual)
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
    """The minimum as a function of the gradient field there, by the implicit function theorem."""

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
