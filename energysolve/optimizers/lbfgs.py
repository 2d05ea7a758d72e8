"""Limited-memory quasi-Newton steps, each sample with its own memory and step lengths."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..checks import check_whole
from ..layout import Dense, Layout
from ..trees import tree_leaves
from .base import InnerOptimizer, PerSample
from .flat import combine, dot, flatten, padded, unflatten, unmoved
from .search import Search, decide


class _Pairs(NamedTuple):
    """Inner products of the pairs of each sample, in the order of the slots of the ring.

    ``R`` is the matrix of the products of steps with later changes of the gradient, upper triangular in the order of
    time. The inverse of a part of it that leaves out the oldest pairs is the same part of its inverse.

    Attributes:
        inverse: ``(batch, m, m)``, of ``R``; zero where pairs are unknown.
        slopes: ``(batch, m, m)``, the products of changes of the gradient with each other.
        curvatures: ``(batch, m)``, the diagonal of ``R``.
        scale: ``(batch,)``, the initial inverse curvature.
        known: ``(batch,)`` int64, how many pairs there are.
        slot: ``(batch,)`` int64, where the next pair goes.
    """

    inverse: Tensor
    slopes: Tensor
    curvatures: Tensor
    scale: Tensor
    known: Tensor
    slot: Tensor


class LBFGSState(NamedTuple):
    """The state of `LBFGS`.

    Attributes:
        stack: ``(rows, 2 m, columns)``, the last steps, and the changes of the gradient along them, each in a ring.
        point: ``(rows, columns)``, the iterate from which the last step was proposed.
        gradient: ``(rows, columns)``, the gradient there.
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
        point, m = padded(flatten(free)), self.memory
        one = point.new_ones(layout.batch)
        none = torch.zeros_like(one, dtype=torch.int64)
        inverse, slopes = one.new_zeros(2, layout.batch, m, m)
        pairs = _Pairs(inverse, slopes, one.new_zeros(layout.batch, m), one, none, none)
        stack = point.new_zeros(len(point), 2 * m, point.shape[1])
        return LBFGSState(stack, point, torch.zeros_like(point), PerSample(pairs), PerSample(Search.begin(one)))

    def step(self, at, state, evaluate):
        layout = evaluate.layout
        point, gradient = padded(flatten(at.free)), padded(flatten(at.gradient))
        state, along, square = _with_new_pair(state, point, gradient, layout, evaluate.overwrites)
        pairs, search = state.pairs.value, state.search.value
        direction = _direction(state, gradient, along, layout)
        slope = dot(layout, gradient, direction)
        # The gradient itself where the direction does not descend, and for a fresh start after many refusals.
        afresh = ~(slope < 0) | (search.refusals == _AFRESH)
        direction = torch.where(layout.spread(afresh.unsqueeze(1)), -gradient, direction)
        slope = torch.where(afresh, -square, slope)
        pairs = _forgotten(pairs, afresh)
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
        moved = padded(flatten(trial.free)) - state.point
        slope = dot(layout, padded(flatten(trial.gradient)), moved)
        lost = unmoved(layout, moved)
        accepted, search = decide(state.search.value, at.energy, trial.energy, slope, lost)
        return accepted, state._replace(search=PerSample(search))

    def follow(self, at, state, saved):
        layout = at.layout
        assert layout is not None
        point, gradient = padded(flatten(at.free)), padded(flatten(at.gradient))
        state, *_ = _with_new_pair(state, point, gradient, layout)
        # A sample may have forgotten its pairs when a candidate was refused, which is not repeated.
        forgot = (saved.search.value.refusals > 0) & (saved.pairs.value.known == 0)
        pairs = _forgotten(state.pairs.value, forgot)
        return state._replace(pairs=PerSample(pairs), search=saved.search)

    def stalled(self, state):
        return state.search.value.stalled


_AFRESH = 10
"""Refusals in a row after which a sample forgets its pairs."""


def _forgotten(pairs: _Pairs, samples: Tensor) -> _Pairs:
    """Without the pairs of ``samples``, ``(batch,)`` bool."""
    inverse = torch.where(samples.view(-1, 1, 1), 0, pairs.inverse)
    return pairs._replace(inverse=inverse, known=torch.where(samples, 0, pairs.known))


def _with_new_pair(
    state: LBFGSState, point: Tensor, gradient: Tensor, layout: Layout, overwrites: bool = False
) -> tuple[LBFGSState, Tensor, Tensor]:
    """The state at ``point``, with the pair of the step to it for the samples that moved and met positive curvature.

    Returns:
        The state, the inner products ``(batch, 2, m)`` of the gradient with the steps and with the changes of the
        gradient, and the square of its norm, ``(batch,)``.
    """
    pairs: _Pairs = state.pairs.value
    m = pairs.inverse.shape[-1]
    latest = torch.stack([point - state.point, gradient - state.gradient, gradient], 1)
    gram = layout.sums(torch.bmm(latest, latest.mT).flatten(1)).view(-1, 3, 3)
    length, square, curvature = gram[:, 0, 0], gram[:, 1, 1], gram[:, 0, 1]
    new = curvature > 1e-10 * (square * length).sqrt()
    # Products with the known pairs, and with the new one in its slot: (batch, change or gradient, step or change, m).
    both = layout.sums(torch.bmm(latest[:, 1:], state.stack.mT).flatten(1)).view(-1, 2, 2, m)
    here = (torch.arange(m, device=new.device) == pairs.slot.unsqueeze(1)) & new.unsqueeze(1)
    both = torch.where(here.view(-1, 1, 1, m), gram[:, 1:, :2].unsqueeze(3), both)
    earlier = torch.where(here, 0, both[:, 0, 0]).unsqueeze(2)
    reciprocal = torch.where(new, curvature, 1).reciprocal().unsqueeze(1)
    column = torch.where(here, reciprocal, torch.bmm(pairs.inverse, earlier).squeeze(2) * -reciprocal)
    updated = _Pairs(
        inverse=_replaced(pairs.inverse, pairs.slot, new, torch.where(here, reciprocal, 0), column, overwrites),
        slopes=_replaced(pairs.slopes, pairs.slot, new, both[:, 0, 1], both[:, 0, 1], overwrites),
        curvatures=torch.where(here, curvature.unsqueeze(1), pairs.curvatures),
        scale=torch.where(new, curvature / torch.where(new, square, 1), pairs.scale),
        known=torch.where(new, (pairs.known + 1).clamp(max=m), pairs.known),
        slot=torch.where(new, (pairs.slot + 1) % m, pairs.slot),
    )
    stack = state.stack if overwrites else state.stack.clone()
    _write(stack, latest[:, :2], layout.spread(torch.stack([pairs.slot, new.long()], 1)))
    return LBFGSState(stack, point, gradient, PerSample(updated), state.search), both[:, 1], gram[:, 2, 2]


def _replaced(matrix: Tensor, slot: Tensor, new: Tensor, row: Tensor, column: Tensor, overwrites: bool) -> Tensor:
    """The matrix ``(batch, m, m)`` with a row and column ``(batch, m)`` in the slot of the samples that are ``new``."""
    places = [(axis, slot.view(-1, 1, 1).expand_as(values.unsqueeze(axis))) for axis, values in ((1, row), (2, column))]
    if_new = new.view(-1, 1, 1)
    values = [
        torch.where(if_new, values.unsqueeze(axis), matrix.gather(axis, index))
        for (axis, index), values in zip(places, (row, column), strict=True)
    ]
    matrix = matrix if overwrites else matrix.clone()
    for (axis, index), each in zip(places, values, strict=True):
        matrix.scatter_(axis, index, each)
    return matrix


def _write(stack: Tensor, pair: Tensor, where: Tensor) -> None:
    """Write a pair into the slots ``where[:, 0]`` of the rows at which ``where[:, 1]`` is not 0."""
    count, slots, columns = stack.shape
    first = torch.arange(0, count * slots, slots, device=stack.device) + where[:, 0]
    index = torch.stack([first, first + slots // 2], 1).flatten()
    flat = stack.view(-1, columns)
    old = flat.index_select(0, index).view_as(pair)
    flat.index_copy_(0, index, torch.where(where[:, 1].view(-1, 1, 1) > 0, pair, old).flatten(0, 1))


def _direction(state: LBFGSState, gradient: Tensor, along: Tensor, layout: Layout) -> Tensor:
    """``-H gradient``, ``(rows, columns)``, by the compact form of the inverse (Byrd, Nocedal and Schnabel, 1994)."""
    pairs: _Pairs = state.pairs.value
    scale = pairs.scale.view(-1, 1, 1)
    with_steps, with_slopes = along.unsqueeze(3).unbind(1)
    u = torch.bmm(pairs.inverse, with_steps)
    inner = torch.bmm(pairs.slopes, u) - with_slopes
    v = torch.bmm(pairs.inverse.mT, torch.addcmul(scale * inner, pairs.curvatures.unsqueeze(2), u))
    weights = torch.cat([-v, scale * u], 1).squeeze(2)
    along_pairs = combine(layout, state.stack, weights)
    return torch.addcmul(along_pairs, layout.spread(-pairs.scale.unsqueeze(1)), gradient)
