"""How gradients reach the parameters of the energy, and ``x``.

Every mode finds the answers without tracking, so values, steps and status do not depend on the mode. A mode that
differentiates through steps then repeats them with tracking, the last steps of each sample for itself, and attaches the
gradient of the repetition to the answers.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .checks import check_whole
from .engine.explanations import check_second_derivative as check_second_derivative
from .engine.explanations import explained as explained
from .engine.generators import Generators
from .engine.implicit import attach_minimum
from .engine.linear import CG, LinearSolver
from .engine.loop import Carry, Outcome, run
from .engine.observers import AcceptedSteps, LastSteps, StepStart
from .engine.reports import (
    DifferentiationError,
    DifferentiationWarning,
    Failure,
    NanGradient,
    RaiseError,
    ZeroGradient,
)
from .engine.solve import Solve
from .engine.tracking import attach_replay, finite_derivative, replay
from .engine.witness import Witnessed
from .halting import Halting, Never
from .layout import Layout
from .optimizers.base import Evaluation, InnerOptimizer
from .recorders import Nothing
from .solution import Status
from .trees import detach, tree_leaves, tree_map

__all__ = [
    "Detached",
    "Differentiation",
    "DifferentiationError",
    "DifferentiationWarning",
    "Failure",
    "Implicit",
    "NanGradient",
    "RaiseError",
    "Truncated",
    "Unroll",
    "ZeroGradient",
    "held_by_constraint",
]


class Differentiation(ABC):
    """How gradients reach the parameters of the energy and ``x``.

    Examples:
        >>> import torch
        >>> from energysolve import Detached, EnergySolver, Implicit, Unroll
        >>> solver = EnergySolver(lambda x, y: (y - x.square()).square().sum(-1))
        >>> for mode in (Detached(), Unroll(), Implicit()):  # the answers do not depend on the mode
        ...     y = solver.replace(differentiation=mode).minimize(torch.full((1, 1), 3.0), torch.zeros(1, 1)).y
        ...     print(y.detach().round(decimals=3))
        tensor([[9.]])
        tensor([[9.]])
        tensor([[9.]])
    """

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
    """No gradients; memory does not depend on the number of steps.

    Examples:
        >>> import torch
        >>> from energysolve import Detached, EnergySolver, Unroll
        >>> from energysolve.energies import Quadratic
        >>> solver = EnergySolver(Quadratic(torch.eye(2)), differentiation=Detached())  # the matrix is a parameter
        >>> solver.minimize(torch.ones(1, 2), torch.zeros(1, 2)).y.requires_grad
        False
        >>> solver.replace(differentiation=Unroll()).minimize(torch.ones(1, 2), torch.zeros(1, 2)).y.requires_grad
        True
    """

    def minimize(self, solve, free):
        with torch.no_grad():
            return solve.untracked(solve.encode(solve.x), free)[0]


@dataclass(frozen=True)
class Unroll(Differentiation):
    """Gradients through all steps of each sample, and to an initial point that requires them.

    Memory grows with the number of steps. Each step is computed twice: once to find the number of steps of each sample,
    once with tracking.

    Examples:
        >>> import torch
        >>> from energysolve import SGD, EnergySolver, Never, Unroll
        >>> def energy(x, y):
        ...     return (y - x).square().sum(-1) / 2
        >>> x = torch.ones(1, 1, requires_grad=True)
        >>> solver = EnergySolver(energy, SGD(0.5), halting=Never(), differentiation=Unroll(), max_steps=3)
        >>> solver.minimize(x, torch.zeros(1, 1)).y.sum().backward()
        >>> x.grad  # of x (1 - 0.5^3)
        tensor([[0.8750]])
    """

    def minimize(self, solve, free):
        context = solve.encode(solve.x)
        generators = _generators(free)
        found, accepted = solve.untracked(context, free, _watch_steps(solve, None))
        start = StepStart(free, solve.optimizer.begin(detach(free), solve.layout))
        return attach_replay(solve, context, free, found, start, solve.max_steps, accepted, generators)

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

    Raises:
        ValueError: if ``k`` is not a whole number of 1 or more.

    Examples:
        >>> import torch
        >>> from energysolve import SGD, EnergySolver, Never, Truncated
        >>> def energy(x, y):
        ...     return (y - x).square().sum(-1) / 2
        >>> x = torch.ones(1, 1, requires_grad=True)
        >>> solver = EnergySolver(energy, SGD(0.5), halting=Never(), differentiation=Truncated(1), max_steps=3)
        >>> solver.minimize(x, torch.zeros(1, 1)).y.sum().backward()
        >>> x.grad  # of the last step alone, y - 0.5 (y - x)
        tensor([[0.5000]])
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
            watch = partial(LastSteps, k, solve.max_steps, _generators(free), layout=solve.layout)
            found, last = solve.untracked(context, free, watch)
            begin, generators = last.beginning(found.steps), last.generators(found.steps)
            return attach_replay(solve, context, free, found, begin, k, generators=generators)
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
        """Take ``max_steps`` steps and track the last ``k``; None if something is NaN or infinite, a derivative too."""
        k = min(self.k, solve.max_steps)
        untracked = solve.max_steps - k
        begin = StepStart(detach(free), solve.optimizer.begin(detach(free), solve.layout))
        moving = None
        if untracked:
            with torch.no_grad():
                descent = solve.descent(detach(context))
                carry = descent.start(begin.free)
                steps = range(untracked - 1)
                observers = () if solve.progress is None else (solve.progress,)
                options = {"sync_every": solve.sync_every, "advance": solve.advance, "observers": observers}
                carry = run(descent, carry, steps, **options)
                begin, moving = StepStart(*descent.propose(carry)), carry.active
                begin = begin._replace(free=solve.layout.where(moving, begin.free, carry.at.free))
        descent = solve.descent(context)
        begin = begin._replace(free=tree_map(lambda leaf: leaf.detach().requires_grad_(), begin.free))
        ended, finite = replay(descent, begin, k)
        finite = finite & finite_derivative(solve.layout, ended, begin.free)
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

    The gradient is as exact as the sample has converged, for any optimizer and from wherever it began; memory and time
    do not depend on the number of steps. Where a constraint is active (`Projected`), it is taken along the constraint:
    a coordinate held by a bound does not move. It can be differentiated once more; third derivatives are refused.

    Samples whose derivative cannot be had are named: those that did not converge by a criterion that can tell a
    minimum, that are no minimum (a steep slope, a Hessian that is not positive definite), that have no finite second
    derivative, or whose linear solve fails.

    Args:
        linear_solver: solves linear systems with the Hessian, given its products with vectors.
        on_failure: what these samples get: `ZeroGradient`, `NanGradient` or `RaiseError`.

    Raises:
        ValueError: from the solver, if its halting criterion never fires.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver, GradientNorm, Implicit
        >>> x = torch.tensor([[8.0]], requires_grad=True)
        >>> solver = EnergySolver(
        ...     lambda x, y: y.square().square().sum(-1) / 4 - (x * y).sum(-1),  # least at the cube root of x
        ...     halting=GradientNorm(1e-4),
        ...     differentiation=Implicit(),
        ... )
        >>> solver.minimize(x, torch.ones(1, 1)).y.sum().backward()
        >>> (12 * x.grad).round(decimals=2)  # 1 / (3 y^2) at y = 2
        tensor([[1.]])
    """

    linear_solver: LinearSolver = field(default_factory=CG)
    on_failure: Failure = field(default_factory=ZeroGradient)

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
        witnessed = Witnessed.of(solve.halting)
        found, _ = replace(solve, halting=witnessed).untracked(context, free)
        report = partial(self.on_failure.report, "Implicit")
        report(found.status == Status.MAX_STEPS, "did not converge in max_steps")
        report(found.status == Status.STALLED, "stalled before they converged")
        converged = found.status == Status.CONVERGED
        seen = Witnessed.seen(witnessed, found.halting_state, found.steps)
        report(converged & ~seen, "were stopped by a criterion that does not tell a minimum")
        return attach_minimum(solve, context, free, found, converged & seen, self.linear_solver, self.on_failure)


def _watch_steps(solve: Solve, length: int | None) -> Callable[[Carry], AcceptedSteps] | None:
    """What watches the accepted steps of an optimizer that searches; see `AcceptedSteps`."""
    return partial(AcceptedSteps, layout=solve.layout, length=length) if solve.optimizer.searches else None


def _generators(free: Any) -> Generators:
    return Generators.now(tree_leaves(free)[0].device)


def held_by_constraint(optimizer: InnerOptimizer, at: Evaluation, layout: Layout) -> Tensor:
    """The samples at which a constraint balances the gradient.

    Examples:
        >>> import torch
        >>> from energysolve import SGD, Box, Dense, Projected
        >>> from energysolve.differentiation import held_by_constraint
        >>> from energysolve.optimizers import Evaluation
        >>> at = Evaluation((torch.tensor([[0.0], [2.0]]),), torch.zeros(2), (torch.tensor([[1.0], [1.0]]),))
        >>> held_by_constraint(Projected(SGD(0.1), Box(low=0.0)), at, Dense(2))  # y = 0 cannot follow the slope below 0
        tensor([ True, False])
    """
    if not optimizer.constrains:
        return torch.zeros_like(at.energy, dtype=torch.bool)
    balance = tree_map(torch.sub, at.gradient, optimizer.residual(at))
    rounding = 100 * torch.finfo(at.energy.dtype).eps * (1 + layout.norm(at.free))
    return layout.norm(balance) > rounding
