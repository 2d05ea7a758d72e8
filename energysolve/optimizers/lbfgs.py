"""Limited-memory quasi-Newton steps, each sample with its own memory and step lengths."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..checks import check_whole
from ..layout import Dense, Layout
from ..trees import tree_leaves
from .base import InnerOptimizer, PerSample
from .flat import combine, dot, dots, flatten, scaled, unflatten
from .search import Search, decide


class _Pairs(NamedTuple):
    """Inner products of the pairs of each sample, the newest last.

    Attributes:
        steps_slopes: ``(batch, m, m)``, of steps with changes of the gradient.
        slopes_slopes: ``(batch, m, m)``, of changes of the gradient.
        scale: ``(batch,)``, the initial inverse curvature.
        known: ``(batch,)`` int64, how many pairs there are.
    """

    steps_slopes: Tensor
    slopes_slopes: Tensor
    scale: Tensor
    known: Tensor


class LBFGSState(NamedTuple):
    """The state of `LBFGS`.

    Attributes:
        steps: ``(rows, m, features)``, the last steps, the newest last.
        slopes: ``(rows, m, features)``, the changes of the gradient along them.
        point: ``(rows, features)``, the iterate from which the last step was proposed.
        gradient: ``(rows, features)``, the gradient there.
        pairs: `_Pairs` of each sample.
        search: `Search` of each sample.
    """

    steps: Tensor
    slopes: Tensor
    point: Tensor
    gradient: Tensor
    pairs: PerSample
    search: PerSample


@dataclass(frozen=True)
class LBFGS(InnerOptimizer):
    """L-BFGS with a step length per sample: there is no step size to choose (Nocedal and Wright, Section 7.2).

    Each trial is one evaluation of the batch; each sample accepts it (sufficient decrease; by slopes where energies are
    equal to rounding) or shortens its step. Pairs without positive curvature are skipped. A direction that does not
    descend is replaced by the gradient. Candidates that are NaN or infinite are refused, so barriers are backed away
    from.

    Args:
        memory: pairs of steps and changes of the gradient that are kept, 1 or more.

    Example:
        >>> EnergySolver(energy, LBFGS(), init=Uniform((3,))).minimize(x)
    """

    searches = True

    memory: int = 10

    def __post_init__(self):
        check_whole("LBFGS", least=1, memory=self.memory)

    def init(self, free):
        return self.begin(free, Dense(len(tree_leaves(free)[0])))

    def begin(self, free, layout):
        point = flatten(free)
        stack = point.new_zeros(len(point), self.memory, point.shape[1])
        one = point.new_ones(layout.batch)
        products = one.new_zeros(layout.batch, self.memory, self.memory)
        pairs = _Pairs(products, products, one, torch.zeros_like(one, dtype=torch.int64))
        search = Search.begin(one)
        return LBFGSState(stack, stack, point, torch.zeros_like(point), PerSample(pairs), PerSample(search))

    def step(self, at, state, evaluate):
        layout = evaluate.layout
        point, gradient = flatten(at.free), flatten(at.gradient)
        state = _with_new_pair(state, point, gradient, layout)
        pairs, search = state.pairs.value, state.search.value
        direction = _direction(state, gradient, layout)
        slope = dot(layout, gradient, direction)
        # The gradient itself where the direction does not descend, and for a fresh start after many refusals.
        afresh = ~(slope < 0) | (search.refusals == _AFRESH)
        square = dot(layout, gradient, gradient)
        direction = torch.where(layout.spread(afresh.unsqueeze(1)), -gradient, direction)
        slope = torch.where(afresh, -square, slope)
        pairs = pairs._replace(known=torch.where(afresh, 0, pairs.known))
        # A step along a gradient of which nothing is known has the length 1.
        afresh = afresh | search.length.isnan()
        length = torch.where(afresh, torch.where(afresh, square, 1).rsqrt(), search.length)
        candidate = torch.addcmul(point, layout.spread(length.unsqueeze(1)), direction)
        search = search._replace(length=length, slope=length * slope)
        state = state._replace(pairs=PerSample(pairs), search=PerSample(search))
        return unflatten(candidate, at.free), state

    def accept(self, at, trial, state):
        layout = trial.layout
        assert layout is not None
        moved = flatten(trial.free) - state.point
        slope = dot(layout, flatten(trial.gradient), moved)
        lost = layout.norm((moved,)) == 0
        accepted, search = decide(state.search.value, at.energy, trial.energy, slope, lost)
        return accepted, state._replace(search=PerSample(search))

    def follow(self, at, state, saved):
        layout = at.layout
        assert layout is not None
        state = _with_new_pair(state, flatten(at.free), flatten(at.gradient), layout)
        search, pairs = saved.search, state.pairs.value
        # A sample may have forgotten its pairs when a candidate was refused, which is not repeated.
        forgot = (search.value.refusals > 0) & (saved.pairs.value.known == 0)
        pairs = pairs._replace(known=torch.where(forgot, 0, pairs.known))
        return state._replace(pairs=PerSample(pairs), search=search)

    def stalled(self, state):
        return state.search.value.stalled


_AFRESH = 10
"""Refusals in a row after which a sample forgets its pairs."""


def _with_new_pair(state: LBFGSState, point: Tensor, gradient: Tensor, layout: Layout) -> LBFGSState:
    """The state at ``point``, with the pair of the step to it for the samples that moved and met positive curvature."""
    step, change = point - state.point, gradient - state.gradient
    curvature, square = dot(layout, step, change), dot(layout, change, change)
    new = curvature > 1e-10 * (square * dot(layout, step, step)).sqrt()
    rows = layout.spread(new.unsqueeze(1)).unsqueeze(2)
    steps = torch.where(rows, torch.cat([state.steps[:, 1:], step.unsqueeze(1)], 1), state.steps)
    slopes = torch.where(rows, torch.cat([state.slopes[:, 1:], change.unsqueeze(1)], 1), state.slopes)
    pairs: _Pairs = state.pairs.value
    m = steps.shape[1]
    known = torch.where(new, (pairs.known + 1).clamp(max=m), pairs.known)
    mask = torch.arange(m, device=known.device) >= (m - known).unsqueeze(1)
    with_change = (torch.where(mask, dots(layout, stack, change), 0) for stack in (steps, slopes))
    of_steps, of_slopes = (
        torch.where(new.view(-1, 1, 1), _shifted(old, column), old)
        for old, column in zip((pairs.steps_slopes, pairs.slopes_slopes), with_change, strict=True)
    )
    scale = torch.where(new, curvature / torch.where(new, square, 1), pairs.scale)
    pairs = _Pairs(of_steps, of_slopes, scale, known)
    return LBFGSState(steps, slopes, point, gradient, PerSample(pairs), state.search)


def _shifted(products: Tensor, column: Tensor) -> Tensor:
    """The products without those of the oldest pair, and with those of the newest as the last column and row."""
    shifted = torch.nn.functional.pad(products[:, 1:, 1:], (0, 1, 0, 1))
    shifted[:, :, -1] = column
    shifted[:, -1, :] = column
    return shifted


def _direction(state: LBFGSState, gradient: Tensor, layout: Layout) -> Tensor:
    """``-H gradient``, ``(rows, features)``, by the compact form of the inverse (Byrd, Nocedal and Schnabel, 1994)."""
    pairs: _Pairs = state.pairs.value
    m = state.steps.shape[1]
    known = torch.arange(m, device=gradient.device) >= (m - pairs.known).unsqueeze(1)
    both = known.unsqueeze(1) & known.unsqueeze(2)
    upper = torch.where(both, pairs.steps_slopes.triu(), 0)
    curvature = upper.diagonal(dim1=1, dim2=2)
    upper = upper + torch.diag_embed((~known).to(upper.dtype))
    scale = pairs.scale.unsqueeze(1)
    along_steps = torch.where(known, dots(layout, state.steps, gradient), 0)
    along_slopes = torch.where(known, dots(layout, state.slopes, gradient), 0)
    u = torch.linalg.solve_triangular(upper, along_steps.unsqueeze(2), upper=True)
    inner = torch.where(both, pairs.slopes_slopes, 0) @ u
    right = curvature.unsqueeze(2) * u + scale.unsqueeze(2) * (inner - along_slopes.unsqueeze(2))
    v = torch.linalg.solve_triangular(upper.mT, right, upper=False)
    direction = combine(layout, state.slopes, scale * u.squeeze(2)) - combine(layout, state.steps, v.squeeze(2))
    return direction - scaled(layout, pairs.scale, gradient)
