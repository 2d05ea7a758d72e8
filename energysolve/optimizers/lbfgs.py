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
        steps_slopes: ``(batch, m, m)``, of steps with changes of the gradient; of a step with later changes only.
        slopes_slopes: ``(batch, m, m)``, of changes of the gradient.
        scale: ``(batch,)``, the initial inverse curvature.
        known: ``(batch,)`` int64, how many pairs there are.
        slot: ``(batch,)`` int64, where the next pair goes.
    """

    steps_slopes: Tensor
    slopes_slopes: Tensor
    scale: Tensor
    known: Tensor
    slot: Tensor


class LBFGSState(NamedTuple):
    """The state of `LBFGS`.

    Attributes:
        stack: ``(rows, 2 m, features)``, the last steps, and the changes of the gradient along them, each in a ring.
        point: ``(rows, features)``, the iterate from which the last step was proposed.
        gradient: ``(rows, features)``, the gradient there.
        pairs: `_Pairs` of each sample.
        search: `Search` of each sample.
    """

    stack: Tensor
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
        stack = point.new_zeros(len(point), 2 * self.memory, point.shape[1])
        one = point.new_ones(layout.batch)
        products = one.new_zeros(layout.batch, self.memory, self.memory)
        none = torch.zeros_like(one, dtype=torch.int64)
        pairs = PerSample(_Pairs(products, products, one, none, none))
        return LBFGSState(stack, point, torch.zeros_like(point), pairs, PerSample(Search.begin(one)))

    def step(self, at, state, evaluate):
        layout = evaluate.layout
        point, gradient = flatten(at.free), flatten(at.gradient)
        state, along = _with_new_pair(state, point, gradient, layout)
        pairs, search = state.pairs.value, state.search.value
        direction = _direction(state, gradient, along, layout)
        square, slope = layout.sums(torch.stack([gradient * gradient, gradient * direction], 1).sum(2)).unbind(1)
        # The gradient itself where the direction does not descend, and for a fresh start after many refusals.
        afresh = ~(slope < 0) | (search.refusals == _AFRESH)
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
        state, _ = _with_new_pair(state, flatten(at.free), flatten(at.gradient), layout)
        search, pairs = saved.search, state.pairs.value
        # A sample may have forgotten its pairs when a candidate was refused, which is not repeated.
        forgot = (search.value.refusals > 0) & (saved.pairs.value.known == 0)
        pairs = pairs._replace(known=torch.where(forgot, 0, pairs.known))
        return state._replace(pairs=PerSample(pairs), search=search)

    def stalled(self, state):
        return state.search.value.stalled


_AFRESH = 10
"""Refusals in a row after which a sample forgets its pairs."""


def _with_new_pair(
    state: LBFGSState, point: Tensor, gradient: Tensor, layout: Layout
) -> tuple[LBFGSState, tuple[Tensor, Tensor]]:
    """The state at ``point``, with the pair of the step to it for the samples that moved and met positive curvature.

    Returns:
        The state, and the inner products ``(batch, m)`` of the gradient with the steps and with the changes of the
        gradient, the newest last.
    """
    pairs: _Pairs = state.pairs.value
    m = pairs.steps_slopes.shape[1]
    step, change = point - state.point, gradient - state.gradient
    products = [step * change, change * change, step * step, step * gradient, change * gradient]
    curvature, square, length, *along_new = layout.sums(torch.stack(products, 1).sum(2)).unbind(1)
    new = curvature > 1e-10 * (square * length).sqrt()
    # The products of what is known with the change and with the gradient, the newest last.
    along = [dots(layout, state.stack, vector) for vector in (change, gradient)]
    both = torch.stack(along, 2).view(-1, 2, m, 2)
    order = (pairs.slot.unsqueeze(1) + torch.arange(m, device=new.device)) % m
    both = both.gather(2, order.view(-1, 1, m, 1).expand(-1, 2, m, 2))
    known = torch.where(new, (pairs.known + 1).clamp(max=m), pairs.known)
    old = torch.arange(m, device=new.device) >= (m - pairs.known).unsqueeze(1)
    both = torch.where(old.view(-1, 1, m, 1), both, 0)
    shifted = torch.cat([both[:, :, 1:], torch.zeros_like(both[:, :, :1])], 2)
    shifted[:, :, -1, 0] = torch.stack([curvature, square], 1)
    shifted[:, :, -1, 1] = torch.stack(along_new, 1)
    steps, slopes = torch.where(new.view(-1, 1, 1, 1), shifted, both).unbind(1)
    of_steps, of_slopes = (
        torch.where(new.view(-1, 1, 1), _shifted(before, column[:, :, 0]), before)
        for before, column in ((pairs.steps_slopes, steps), (pairs.slopes_slopes, slopes))
    )
    scale = torch.where(new, curvature / torch.where(new, square, 1), pairs.scale)
    slot = torch.where(new, (pairs.slot + 1) % m, pairs.slot)
    stack = _written(state.stack, step, change, layout.spread(torch.stack([pairs.slot, new.long()], 1)))
    updated = PerSample(_Pairs(of_steps, of_slopes, scale, known, slot))
    return LBFGSState(stack, point, gradient, updated, state.search), (steps[:, :, 1], slopes[:, :, 1])


def _written(stack: Tensor, step: Tensor, change: Tensor, where: Tensor) -> Tensor:
    """The stack with a pair in the slots ``where[:, 0]``, for the rows at which ``where[:, 1]`` is not 0."""
    rows = torch.arange(len(stack), device=stack.device).unsqueeze(1)
    slots = torch.stack([where[:, 0], where[:, 0] + stack.shape[1] // 2], 1)
    pair = torch.where(where[:, 1].view(-1, 1, 1) > 0, torch.stack([step, change], 1), stack[rows, slots])
    return stack.clone().index_put_((rows, slots), pair)


def _shifted(products: Tensor, column: Tensor) -> Tensor:
    """The products without those of the oldest pair, and with those of the newest as the last column and row."""
    shifted = torch.nn.functional.pad(products[:, 1:, 1:], (0, 1, 0, 1))
    shifted[:, :, -1] = column
    shifted[:, -1, :] = column
    return shifted


def _direction(state: LBFGSState, gradient: Tensor, along: tuple[Tensor, Tensor], layout: Layout) -> Tensor:
    """``-H gradient``, ``(rows, features)``, by the compact form of the inverse (Byrd, Nocedal and Schnabel, 1994)."""
    pairs: _Pairs = state.pairs.value
    m = pairs.steps_slopes.shape[1]
    places = torch.arange(m, device=gradient.device)
    known = places >= (m - pairs.known).unsqueeze(1)
    both = known.unsqueeze(1) & known.unsqueeze(2)
    upper = torch.where(both, pairs.steps_slopes, 0).triu() + torch.diag_embed((~known).to(gradient.dtype))
    scale = pairs.scale.unsqueeze(1)
    u = torch.linalg.solve_triangular(upper, along[0].unsqueeze(2), upper=True)
    inner = torch.where(both, pairs.slopes_slopes, 0) @ u - along[1].unsqueeze(2)
    right = upper.diagonal(dim1=1, dim2=2).unsqueeze(2) * u + scale.unsqueeze(2) * inner
    v = torch.linalg.solve_triangular(upper.mT, right, upper=False)
    weights = torch.cat([-v, scale.unsqueeze(2) * u], 2)
    # From the order of time to that of the slots.
    order = (places - pairs.slot.unsqueeze(1)) % m
    weights = torch.where(known.unsqueeze(2), weights, 0).gather(1, order.unsqueeze(2).expand(-1, m, 2))
    return combine(layout, state.stack, weights.mT.flatten(1)) - scaled(layout, pairs.scale, gradient)
