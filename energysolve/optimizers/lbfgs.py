"""Limited-memory quasi-Newton steps, each sample with its own memory and step lengths."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..checks import check_whole
from ..layout import Dense, Layout, asks, none_of
from ..trees import tree_leaves
from .base import InnerOptimizer, PerSample
from .flat import combine, dot, flatten, padded, unflatten, unmoved
from .search import Search, decide


class _Pairs(NamedTuple):
    """Inner products of the pairs of each sample, in the order of the slots of the ring.

    The ring has one slot more than pairs. Into the free one goes the pair of the last step; if it is to be kept, the
    slot of the oldest pair becomes the free one.

    ``R`` is the matrix of the products of steps with later changes of the gradient, upper triangular in the order of
    time. The inverse of a part of it that leaves out the oldest pairs is the same part of its inverse.

    Attributes:
        inverse: ``(batch, m + 1, m + 1)``, of ``R``; zero where pairs are unknown, so in the free slot.
        slopes: ``(batch, m + 1, m + 1)``, the products of changes of the gradient with each other.
        curvatures: ``(batch, m + 1)``, the diagonal of ``R``.
        scale: ``(batch,)``, the initial inverse curvature.
        kept: ``(batch,)`` int64, how many pairs were kept so far, which tells the free slot.
    """

    inverse: Tensor
    slopes: Tensor
    curvatures: Tensor
    scale: Tensor
    kept: Tensor


class LBFGSState(NamedTuple):
    """The state of `LBFGS`.

    Attributes:
        stack: ``(rows, m + 1, 2, columns)``, a ring of the last steps and the changes of the gradient along them.
        point: ``(rows, columns)``, the iterate from which the last step was proposed.
        gradient: ``(rows, columns)``, the gradient there.
        pairs: `_Pairs` of each sample.
        search: `Search` of each sample.
        trials: 0-d int64, how many steps were proposed so far.
    """

    stack: Tensor
    point: Tensor
    gradient: Tensor
    pairs: PerSample
    search: PerSample
    trials: Tensor


@dataclass(frozen=True)
class LBFGS(InnerOptimizer):
    """L-BFGS with a step length per sample: there is no step size to choose (Nocedal and Wright, Section 7.2).

    Each trial is one evaluation of the batch; each sample accepts it (sufficient decrease; by slopes where energies are
    equal to rounding) or shortens its step. Pairs without positive curvature are skipped. A direction that does not
    descend is replaced by the gradient. Candidates that are NaN or infinite are refused, so barriers are backed away
    from.

    Args:
        memory: pairs of steps and changes of the gradient that are kept, 1 or more.

    Raises:
        ValueError: if ``memory`` is not a whole number of 1 or more.

    Examples:
        >>> import torch
        >>> from energysolve import LBFGS, EnergySolver
        >>> from energysolve.energies import Rosenbrock
        >>> solver = EnergySolver(Rosenbrock(), LBFGS(memory=5))
        >>> solver.minimize(torch.zeros(1, 2), torch.tensor([[-1.2, 1.0]])).y.round(decimals=2)
        tensor([[1., 1.]])
    """

    searches = True

    memory: int = 10

    def __post_init__(self):
        check_whole("LBFGS", least=1, memory=self.memory)

    def init(self, free):
        return self.begin(free, Dense(len(tree_leaves(free)[0])))

    def begin(self, free, layout):
        point, slots = padded(flatten(free)), self.memory + 1
        one = point.new_ones(layout.batch)
        kept = torch.zeros_like(one, dtype=torch.int64)
        inverse, slopes = one.new_zeros(2, layout.batch, slots, slots)
        pairs = _Pairs(inverse, slopes, one.new_zeros(layout.batch, slots), one, kept)
        stack = point.new_zeros(len(point), slots, 2, point.shape[1])
        none, search = torch.zeros((), dtype=torch.int64, device=one.device), Search.begin(one)
        return LBFGSState(stack, point, torch.zeros_like(point), PerSample(pairs), PerSample(search), none)

    def step(self, at, state, evaluate):
        layout = evaluate.layout
        point, gradient = padded(flatten(at.free)), padded(flatten(at.gradient))
        state, along = _with_new_pair(state, point, gradient, layout, evaluate.overwrites)
        pairs, search = state.pairs.value, state.search.value
        direction = _direction(state, gradient, along, layout)
        slope, length = dot(layout, gradient, direction), search.length
        # The gradient itself where the direction does not descend, for a fresh start after many refusals, and at first.
        afresh = ~(slope < 0) | (search.refusals == _AFRESH) | length.isnan()
        if not none_of(afresh):
            square = dot(layout, gradient, gradient)
            direction = torch.where(layout.spread(afresh.unsqueeze(1)), -gradient, direction)
            slope = torch.where(afresh, -square, slope)
            pairs = _forgotten(pairs, afresh)
            # A step along a gradient of which nothing is known has the length 1.
            length = torch.where(afresh, torch.where(afresh, square, 1).rsqrt(), length)
        candidate = torch.addcmul(point, layout.spread(length.unsqueeze(1)), direction)
        search = search._replace(length=length, slope=length * slope)
        state = state._replace(pairs=PerSample(pairs), search=PerSample(search), trials=state.trials + 1)
        return unflatten(candidate, at.free), state

    def accept(self, at, trial, state):
        layout = trial.layout
        assert layout is not None
        moved = padded(flatten(trial.free)) - state.point
        slope = dot(layout, padded(flatten(trial.gradient)), moved)
        lost = slope == 0
        if not none_of(lost):
            lost = unmoved(layout, moved)
        accepted, search = decide(state.search.value, at.energy, trial.energy, slope, lost)
        return accepted, state._replace(search=PerSample(search))

    def follow(self, at, state, saved):
        layout = at.layout
        assert layout is not None
        point, gradient = padded(flatten(at.free)), padded(flatten(at.gradient))
        state, *_ = _with_new_pair(state, point, gradient, layout)
        # A sample may have forgotten its pairs when a candidate was refused, which is not repeated.
        forgot = (saved.search.value.refusals > 0) & (saved.pairs.value.inverse == 0).flatten(1).all(1)
        pairs = _forgotten(state.pairs.value, forgot)
        return state._replace(pairs=PerSample(pairs), search=saved.search)

    def stalled(self, state):
        return state.search.value.stalled


_AFRESH = 10
"""Refusals in a row after which a sample forgets its pairs."""


def _forgotten(pairs: _Pairs, samples: Tensor) -> _Pairs:
    """Without the pairs of ``samples``, ``(batch,)`` bool."""
    return pairs._replace(inverse=torch.where(samples.view(-1, 1, 1), 0, pairs.inverse))


def _used(state: LBFGSState) -> int:
    """Of the slots of the ring, the first ones that may hold a pair: at most one is filled in each trial.

    The number of trials is the same for a sample in a batch and alone, so that products round alike.
    """
    slots = state.stack.shape[1]
    # Repeated steps may have different numbers of trials.
    return min(2 + int(state.trials), slots) if asks(state.trials) and not state.trials.ndim else slots


def _with_new_pair(
    state: LBFGSState, point: Tensor, gradient: Tensor, layout: Layout, overwrites: bool = False
) -> tuple[LBFGSState, Tensor]:
    """The state at ``point``, with the pair of the step to it for the samples that moved and met positive curvature.

    Returns:
        The state, and the inner products ``(batch, used slots, step or change)`` of the gradient with the pairs.
    """
    pairs: _Pairs = state.pairs.value
    slots, used = state.stack.shape[1], _used(state)
    free = (pairs.kept % slots).unsqueeze(1)
    step, change = point - state.point, gradient - state.gradient
    stack = state.stack if overwrites else state.stack.clone()
    _write(stack, step, change, layout.spread(free))
    # Products with the pairs, the new one among them: (batch, slot, step or change, change or gradient).
    latest = torch.stack([change, gradient], 1)
    products = layout.sums(torch.bmm(_matrix(stack, used), latest.mT).flatten(1)).view(-1, used, 2, 2)
    turns, along = products.unbind(3)
    curvature, square = turns.gather(1, free.unsqueeze(2).expand(-1, 1, 2)).squeeze(1).unbind(1)
    new = curvature > 1e-10 * square.sqrt() * layout.norm((step,))
    reciprocal = torch.where(new, curvature, 1).reciprocal().unsqueeze(1)
    column = torch.bmm(pairs.inverse[:, :used, :used], turns[:, :, :1]).squeeze(2) * -reciprocal
    here = torch.arange(slots, device=free.device) == free
    column = torch.where(here[:, :used], reciprocal, column)
    inverse, slopes = (each if overwrites else each.clone() for each in (pairs.inverse, pairs.slopes))
    rows, columns = _slot(free, used)
    inverse[:, :used, :used].scatter_(2, columns, column.unsqueeze(2))
    slopes[:, :used, :used].scatter_(1, rows, turns[:, :, 1:].mT).scatter_(2, columns, turns[:, :, 1:])
    kept = pairs.kept + new
    rows, columns = _slot((kept % slots).unsqueeze(1), used)
    inverse[:, :used, :used].scatter_(1, rows, 0.0).scatter_(2, columns, 0.0)
    updated = pairs._replace(
        inverse=inverse,
        slopes=slopes,
        curvatures=torch.where(here, curvature.unsqueeze(1), pairs.curvatures),
        scale=torch.where(new, curvature / torch.where(new, square, 1), pairs.scale),
        kept=kept,
    )
    return LBFGSState(stack, point, gradient, PerSample(updated), state.search, state.trials), along


def _slot(slot: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The indices at which `scatter_` finds the row and the column of a slot ``(batch, 1)`` of each sample."""
    return slot.unsqueeze(2).expand(-1, 1, size), slot.unsqueeze(2).expand(-1, size, 1)


def _matrix(stack: Tensor, used: int) -> Tensor:
    """The pairs in the first slots as ``(rows, 2 used, columns)``."""
    return stack[:, :used].flatten(1, 2)


def _write(stack: Tensor, step: Tensor, change: Tensor, slot: Tensor) -> None:
    """Write a pair into the slot ``(rows, 1)`` of each row."""
    count, slots, _, columns = stack.shape
    first = torch.arange(0, 2 * count * slots, 2 * slots, device=stack.device) + 2 * slot.squeeze(1)
    flat = stack.view(-1, columns)
    flat.index_copy_(0, first, step)
    flat.index_copy_(0, first + 1, change)


def _direction(state: LBFGSState, gradient: Tensor, along: Tensor, layout: Layout) -> Tensor:
    """``-H gradient``, ``(rows, columns)``, by the compact form of the inverse (Byrd, Nocedal and Schnabel, 1994)."""
    pairs: _Pairs = state.pairs.value
    used = along.shape[1]
    inverse, slopes = pairs.inverse[:, :used, :used], pairs.slopes[:, :used, :used]
    scale = pairs.scale.view(-1, 1, 1)
    with_steps, with_slopes = along.unsqueeze(2).unbind(3)
    u = torch.bmm(inverse, with_steps)
    inner = torch.bmm(slopes, u) - with_slopes
    v = torch.bmm(inverse.mT, torch.addcmul(scale * inner, pairs.curvatures[:, :used].unsqueeze(2), u))
    weights = torch.cat([-v, scale * u], 2).flatten(1)
    along_pairs = combine(layout, _matrix(state.stack, used), weights)
    return torch.addcmul(along_pairs, layout.spread(-pairs.scale.unsqueeze(1)), gradient)
