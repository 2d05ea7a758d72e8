"""Step lengths per sample for optimizers of fixed steps."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..layout import Dense, Layout
from ..trees import tree_leaves
from .base import InnerOptimizer, PerSample, where_state
from .flat import dot, flatten, scaled, unflatten
from .projected import Projected
from .search import Search, backtrack


class BacktrackingState(NamedTuple):
    """The state of `Backtracking`.

    Attributes:
        inner: of the fixed-step optimizer, from which the last step was proposed.
        proposed: of the fixed-step optimizer after that step.
        point: ``(rows, features)``, the iterate from which the last step was proposed.
        search: `Search` of each sample.
        moved: ``(batch,)`` bool, whether the sample has left ``point``.
        enters: ``(batch,)`` bool, whether the step leads from an infeasible point into the constraint set.
    """

    inner: Any
    proposed: Any
    point: Tensor
    search: PerSample
    moved: PerSample
    enters: PerSample


@dataclass(frozen=True)
class Backtracking(InnerOptimizer):
    """Any fixed-step optimizer with a step length per sample (Nocedal and Wright, Algorithm 3.1).

    The step of the inner optimizer is multiplied by a length. Each sample accepts the candidate where its energy falls
    by a share of what the slope predicts, and shortens its step otherwise; its next step starts from the length
    accepted last, corrected by the change of the slope along that step. The state of the inner optimizer (a momentum,
    say) moves on only for samples that accepted. A step that does not descend is replaced by one of the same norm along
    the negative gradient.

    ``Backtracking(Projected(SGD(1.0), Box(0.0)))`` is the projected line search: the step is multiplied by the length
    and then projected (Bertsekas, IEEE Transactions on Automatic Control 21, 1976), and gradient criteria see the
    projected gradient. The first step from an infeasible point leads to its projection, even if the energy rises.

    Args:
        optimizer: SGD, Momentum, Adam, RMSProp, TorchOpt, or one of these inside Clipped or Projected. Its step size is
            no more than the first length to try.

    Raises:
        TypeError: if the optimizer chooses its steps itself.

    Examples:
        >>> import torch
        >>> from energysolve import SGD, Backtracking, EnergySolver
        >>> def energy(x, y):  # steps of size 1 would diverge
        ...     return 50 * (y - x).square().sum(-1)
        >>> solver = EnergySolver(energy, Backtracking(SGD(1.0)))
        >>> solver.minimize(torch.tensor([[2.0, -1.0]]), torch.zeros(1, 2)).y.round(decimals=3)
        tensor([[ 2., -1.]])
    """

    searches = True

    optimizer: InnerOptimizer

    def __post_init__(self):
        if not isinstance(self.optimizer, InnerOptimizer):
            raise TypeError(f"Backtracking needs an inner optimizer such as SGD(1.0), got {self.optimizer!r}.")
        if self._inner.searches:
            name = type(self._inner).__name__
            raise TypeError(f"{name} chooses its steps itself. Write {name}(...) without Backtracking around it.")

    @property
    def advice(self):
        advice = super().advice
        if self.constrains:
            return advice
        return advice._replace(unfinished=f"LBFGS() usually needs far fewer steps. {advice.unfinished}")

    @property
    def constrains(self):
        return self.optimizer.constrains

    @property
    def _parts(self) -> tuple[InnerOptimizer, tuple[Callable[[Any], Any], ...]]:
        """The optimizer inside all projections, and the projections in the order in which they apply."""
        inner, projections = self.optimizer, []
        while isinstance(inner, Projected):
            projections.insert(0, inner.project)
            inner = inner.optimizer
        return inner, tuple(projections)

    @property
    def _inner(self) -> InnerOptimizer:
        return self._parts[0]

    def init(self, free):
        return self.begin(free, Dense(len(tree_leaves(free)[0])))

    def begin(self, free, layout):
        inner, point = self._inner.begin(free, layout), flatten(free)
        one = point.new_ones(layout.batch)
        search = Search.begin(one)._replace(length=one)
        no = PerSample(torch.zeros_like(one).bool())
        return BacktrackingState(inner, inner, point, PerSample(search), no, no)

    def step(self, at, state, evaluate):
        layout = evaluate.layout
        search: Search = state.search.value
        inner = where_state(layout, state.moved.value, state.proposed, state.inner)
        proposal, proposed = self._inner.step(at, inner, evaluate)
        point, gradient = flatten(at.free), flatten(at.gradient)
        step = flatten(proposal) - point
        candidate, slope = self._candidate(at, point, gradient, step, layout, search.length)
        # The gradient, at the same norm, replaces proposals that do not descend, are not finite or refused too often.
        ratio = (_norm(layout, step) / _norm(layout, gradient)).detach()
        descent = -scaled(layout, ratio, gradient)
        other, other_slope = self._candidate(at, point, gradient, descent, layout, search.length)
        turned = ~(slope < 0) | (search.refusals >= _TURNED)
        candidate = torch.where(layout.spread(turned.unsqueeze(1)), other, candidate)
        search = search._replace(slope=torch.where(turned, other_slope, slope))
        enters = torch.zeros_like(turned)
        if self._parts[1]:
            feasible = self._project(point, at.free)
            far = 100 * torch.finfo(point.dtype).eps * (1 + layout.norm((point,)))
            enters = layout.norm((feasible - point,)) > far
            candidate = torch.where(layout.spread(enters.unsqueeze(1)), feasible, candidate)
        # Repeated steps are accepted without being asked for, see `follow`.
        moved = PerSample(torch.ones_like(turned))
        state = BacktrackingState(inner, proposed, point, PerSample(search), moved, PerSample(enters))
        return unflatten(candidate, at.free), state

    def _candidate(self, at, point, gradient, step, layout: Layout, length) -> tuple[Tensor, Tensor]:
        """The candidate ``(rows, features)`` at this length, and the slope ``(batch,)`` of the whole displacement."""
        candidate = torch.addcmul(point, layout.spread(length.unsqueeze(1)), step)
        if self._parts[1]:
            candidate = self._project(candidate, at.free)
        return candidate, dot(layout, gradient, candidate - point).detach()

    def _project(self, matrix: Tensor, like: Any) -> Tensor:
        tree = unflatten(matrix, like)
        for project in self._parts[1]:
            tree = project(tree)
        return flatten(tree)

    def accept(self, at, trial, state):
        layout = trial.layout
        assert layout is not None
        search: Search = state.search.value
        moved = flatten(trial.free) - state.point
        new_slope = dot(layout, flatten(trial.gradient), moved)
        lost = layout.norm((moved,)) == 0
        accepted, after = backtrack(search, at.energy, trial.energy, new_slope, lost, patience=2 * _TURNED)
        # A point outside the constraint set is no answer, whatever its energy.
        enters = state.enters.value
        after = Search(*(torch.where(enters, old, new) for old, new in zip(search, after, strict=True)))
        accepted = accepted | enters
        return accepted, state._replace(search=PerSample(after), moved=PerSample(accepted))

    def follow(self, at, state, saved):
        return state._replace(search=saved.search)

    def stalled(self, state):
        return state.search.value.stalled

    def residual(self, at):
        return self.optimizer.residual(at)


_TURNED = 4
"""Refusals in a row after which a sample tries the gradient; as many refusals later it has stalled at its rounding."""


def _norm(layout: Layout, matrix: Tensor) -> Tensor:
    """Norms ``(batch,)`` that can be divided by; NaN and infinity count as the largest."""
    square = dot(layout, matrix, matrix)
    return square.sqrt().nan_to_num(nan=1.0, posinf=1.0).clamp(min=torch.finfo(matrix.dtype).tiny)
