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
    """Inner products of the pairs of each sample, in the order of time, the newest last.

    Attributes:
        upper: ``(batch, m, m)``, of steps with changes of the gradient, of a step with later changes only; the unit
            matrix where pairs are unknown.
        slopes: ``(batch, m, m)``, of changes of the gradient with each other; zero where pairs are unknown.
        scale: ``(batch,)``, the initial inverse curvature.
        known: ``(batch,)`` int64, how many pairs there are.
        slot: ``(batch,)`` int64, where the next pair goes.
    """

    upper: Tensor
    slopes: Tensor
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
        point = padded(flatten(free))
        one = point.new_ones(layout.batch)
        none = torch.zeros_like(one, dtype=torch.int64)
        unknown = [each.expand(layout.batch, -1, -1) for each in _unknown(one, self.memory)]
        pairs = _Pairs(*unknown, one, none, none)
        stack = point.new_zeros(len(point), 2 * self.memory, point.shape[1])
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


def _unknown(like: Tensor, memory: int) -> tuple[Tensor, Tensor]:
    """``upper`` and ``slopes`` of `_Pairs`, each ``(m, m)``, where no pair is known."""
    zero = like.new_zeros(memory, memory)
    return torch.eye(memory, dtype=like.dtype, device=like.device), zero


def _forgotten(pairs: _Pairs, samples: Tensor) -> _Pairs:
    """Without the pairs of ``samples``, ``(batch,)`` bool."""
    upper, slopes = _unknown(pairs.scale, pairs.upper.shape[-1])
    return pairs._replace(
        upper=torch.where(samples.view(-1, 1, 1), upper, pairs.upper),
        slopes=torch.where(samples.view(-1, 1, 1), slopes, pairs.slopes),
        known=torch.where(samples, 0, pairs.known),
    )


def _with_new_pair(
    state: LBFGSState, point: Tensor, gradient: Tensor, layout: Layout, overwrites: bool = False
) -> tuple[LBFGSState, Tensor, Tensor]:
    """The state at ``point``, with the pair of the step to it for the samples that moved and met positive curvature.

    Returns:
        The state, the inner products ``(batch, 2, m)`` of the gradient with the steps and with the changes of the
        gradient, the newest last, and the square of its norm, ``(batch,)``.
    """
    pairs: _Pairs = state.pairs.value
    m = pairs.upper.shape[-1]
    latest = torch.stack([point - state.point, gradient - state.gradient, gradient], 1)
    gram = layout.sums(torch.bmm(latest, latest.mT).flatten(1)).view(-1, 3, 3)
    length, square, curvature = gram[:, 0, 0], gram[:, 1, 1], gram[:, 0, 1]
    new = curvature > 1e-10 * (square * length).sqrt()
    # The products of the change and of the gradient with what is known: (batch, change or gradient, step or change, m).
    both = layout.sums(torch.bmm(latest[:, 1:], state.stack.mT).flatten(1)).view(-1, 2, 2, m)
    places = torch.arange(m, device=new.device)
    order = ((pairs.slot.unsqueeze(1) + places) % m).view(-1, 1, 1, m)
    both = both.gather(3, order.expand(-1, 2, 2, m))
    both = torch.where((places >= (m - pairs.known).unsqueeze(1)).view(-1, 1, 1, m), both, 0)
    if_new = new.view(-1, 1, 1, 1)
    both = torch.where(if_new, torch.cat([both[..., 1:], gram[:, 1:, :2].unsqueeze(3)], 3), both)
    updated = PerSample(
        _Pairs(
            upper=torch.where(new.view(-1, 1, 1), _shifted(pairs.upper, both[:, 0, 0]), pairs.upper),
            slopes=torch.where(new.view(-1, 1, 1), _bordered(pairs.slopes, both[:, 0, 1]), pairs.slopes),
            scale=torch.where(new, curvature / torch.where(new, square, 1), pairs.scale),
            known=torch.where(new, (pairs.known + 1).clamp(max=m), pairs.known),
            slot=torch.where(new, (pairs.slot + 1) % m, pairs.slot),
        )
    )
    stack = state.stack if overwrites else state.stack.clone()
    _write(stack, latest[:, :2], layout.spread(torch.stack([pairs.slot, new.long()], 1)))
    return LBFGSState(stack, point, gradient, updated, state.search), both[:, 1], gram[:, 2, 2]


def _write(stack: Tensor, pair: Tensor, where: Tensor) -> None:
    """Write a pair into the slots ``where[:, 0]`` of the rows at which ``where[:, 1]`` is not 0."""
    count, slots, columns = stack.shape
    first = torch.arange(0, count * slots, slots, device=stack.device) + where[:, 0]
    index = torch.stack([first, first + slots // 2], 1).flatten()
    flat = stack.view(-1, columns)
    old = flat.index_select(0, index).view_as(pair)
    flat.index_copy_(0, index, torch.where(where[:, 1].view(-1, 1, 1) > 0, pair, old).flatten(0, 1))


def _shifted(products: Tensor, column: Tensor) -> Tensor:
    """The products ``(batch, m, m)`` without those of the oldest pair; those of the newest are the last column."""
    shifted = torch.nn.functional.pad(products[:, 1:, 1:], (0, 1, 0, 1))
    shifted[:, :, -1] = column
    return shifted


def _bordered(products: Tensor, column: Tensor) -> Tensor:
    """Like `_shifted`, of symmetric products: those of the newest pair are also the last row."""
    shifted = _shifted(products, column)
    shifted[:, -1] = column
    return shifted


def _direction(state: LBFGSState, gradient: Tensor, along: Tensor, layout: Layout) -> Tensor:
    """``-H gradient``, ``(rows, columns)``, by the compact form of the inverse (Byrd, Nocedal and Schnabel, 1994)."""
    pairs: _Pairs = state.pairs.value
    m = pairs.upper.shape[-1]
    scale = pairs.scale.view(-1, 1, 1)
    with_steps, with_slopes = along.unsqueeze(3).unbind(1)
    u = torch.linalg.solve_triangular(pairs.upper, with_steps, upper=True)
    inner = pairs.slopes @ u - with_slopes
    right = torch.addcmul(scale * inner, pairs.upper.diagonal(dim1=1, dim2=2).unsqueeze(2), u)
    v = torch.linalg.solve_triangular(pairs.upper.mT, right, upper=False)
    # From the order of time to that of the slots. Unknown pairs have the weight 0.
    order = (torch.arange(m, device=gradient.device) - pairs.slot.unsqueeze(1)) % m
    weights = torch.stack([-v, scale * u], 1).squeeze(3).gather(2, order.unsqueeze(1).expand(-1, 2, m))
    return torch.addcmul(
        combine(layout, state.stack, weights.flatten(1)), layout.spread(-pairs.scale.unsqueeze(1)), gradient
    )
