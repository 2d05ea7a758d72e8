"""Fixed-point steps with Anderson memory, certified by the energy."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..checks import check_whole
from ..layout import Dense, Layout, as_matrix
from ..trees import tree_leaves, tree_map
from .base import InnerOptimizer, PerSample
from .flat import combine, dot, dots, flatten, scaled, unflatten
from .search import ARMIJO, Search, backtrack

_FAILURES = 4
"""Refused fixed-point steps in a row after which gradient steps take over."""
_DESCENTS = 5
"""Gradient steps after which the fixed-point step is tried again."""


class _Course(NamedTuple):
    """What each sample remembers, tensors ``(batch,)`` unless stated.

    Attributes:
        products: ``(batch, m, m)``, inner products of the changes of the residual, the newest last.
        known: how many pairs there are.
        recent: ``(batch, window - 1)``, the energies accepted before the current one; ``-inf`` where there are none.
        step: the step size of the fixed-point step.
        failures: refused fixed-point steps in a row.
        descents: gradient steps since the last fixed-point step.
        fixed: whether the step that was last proposed is a fixed-point step.
        search: of the gradient steps.
        moved: whether the sample accepted the last step, so that there is a new pair.
    """

    products: Tensor
    known: Tensor
    recent: Tensor
    step: Tensor
    failures: Tensor
    descents: Tensor
    fixed: Tensor
    search: Search
    moved: Tensor


class FixedPointState(NamedTuple):
    """The state of `FixedPoint`.

    Attributes:
        changes: ``(rows, m, features)``, the last changes of the iterate, the newest last.
        turns: ``(rows, m, features)``, the changes of the residual with them.
        point: ``(rows, features)``, the iterate from which the last step was proposed.
        residual: ``(rows, features)``, the residual there.
        course: `_Course` of each sample.
    """

    changes: Tensor
    turns: Tensor
    point: Tensor
    residual: Tensor
    course: PerSample


@dataclass(frozen=True)
class FixedPoint(InnerOptimizer):
    """Fixed points ``y = m(x, y)`` of a map, by ``E = 1/2 |y - m(x, y)|^2`` written as `LeastSquares`.

    Picard steps ``y - s r`` along the residual ``r = y - m(x, y)``, with Anderson memory for each sample (Anderson,
    J. ACM 12, 1965; type II of Fang and Saad, 2009): the residual is extrapolated to its least norm over the last
    pairs. The energy certifies the steps: a step is accepted where the energy falls below the largest of the last
    ``window`` energies of the sample (Grippo, Lampariello and Lucidi, 1986). So the energy may rise from one iterate to
    the next, but that largest one never does, and no iterate lies above the first; with ``window=1`` the energy never
    rises. Where a step is refused, the memory is dropped and then the step size ``s`` halved; where fixed-point steps
    go on failing, steps along the gradient of the energy take over, under which the energy falls. With ``window=None``
    every finite step is accepted, for maps whose iteration converges although the energy rises for long on the way: it
    certifies the answer, not the way.

    Gradient criteria see the norm of the residual: ``GradientNorm(tol)`` holds where ``|y - m(x, y)| <= tol``, and a
    minimum of the energy that is no fixed point ends as ``STALLED`` or ``MAX_STEPS``. Each trial evaluates the residual
    once more than the energy.

    The residual has the shape of ``y``: ``(batch, m)``, or ``(rows, m)`` where ``LeastSquares`` has a layout; for trees
    and scratchpads, the residuals of all leaves of ``(y, z)`` side by side, in their order.

    Args:
        memory: pairs of changes that are kept, 0 or more; without any, plain Picard steps.
        step_size: the first step size of the fixed-point step, above 0 and at most 1.
        window: accepted energies that a new one is compared with, 1 or more; None: a new one may be of any size.

    Raises:
        ValueError: if an argument is out of range; from a solve, if the residual does not have the shape of ``y``.
        TypeError: from a solve, if the energy is not a `LeastSquares`.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver, FixedPoint, GradientNorm, LeastSquares, Zeros
        >>> energy = LeastSquares(lambda x, y: y - torch.cos(x * y))
        >>> solver = EnergySolver(energy, FixedPoint(), init=Zeros((1,)), halting=GradientNorm(1e-5))
        >>> y = solver.minimize(torch.tensor([[1.0], [0.5]])).y
        >>> torch.allclose(y, torch.cos(torch.tensor([[1.0], [0.5]]) * y), atol=1e-4)
        True
        >>> y[0].round(decimals=2)  # the fixed point of the cosine
        tensor([0.7400])
    """

    searches = True

    memory: int = 5
    step_size: float = 1.0
    window: int | None = 3

    def __post_init__(self):
        check_whole("FixedPoint", least=0, memory=self.memory)
        if self.window is not None:
            check_whole("FixedPoint", least=1, window=self.window)
        if isinstance(self.step_size, bool) or not 0 < self.step_size <= 1:
            raise ValueError(f"FixedPoint needs a step_size in (0, 1], got {self.step_size!r}.")

    @property
    def _others(self) -> int:
        """How many energies to keep beside the current one."""
        return 0 if self.window is None else self.window - 1

    def init(self, free):
        return self.begin(free, Dense(len(tree_leaves(free)[0])))

    def begin(self, free, layout):
        point = flatten(free)
        stack = point.new_zeros(len(point), self.memory, point.shape[1])
        one = point.new_ones(layout.batch)
        none = torch.zeros_like(one, dtype=torch.int64)
        course = _Course(
            products=one.new_zeros(layout.batch, self.memory, self.memory),
            known=none,
            recent=one.new_full((layout.batch, self._others), -torch.inf),
            step=self.step_size * one,
            failures=none,
            descents=none,
            fixed=none > 0,
            search=Search.begin(one),
            moved=none > 0,
        )
        return FixedPointState(stack, stack, point, torch.zeros_like(point), PerSample(course))

    def step(self, at, state, evaluate):
        layout = evaluate.layout
        point, gradient = flatten(at.free), flatten(at.gradient)
        residual = evaluate.residuals(at.free)
        if residual.shape != point.shape:
            raise ValueError(
                f"FixedPoint needs residuals y - m(x, y) of the shape of y, {tuple(point.shape)} with its leaves side "
                f"by side; got {tuple(residual.shape)}."
            )
        state = _with_new_pair(state, point, residual, layout)
        course: _Course = state.course.value
        fixed = (course.failures < _FAILURES) | (course.descents >= _DESCENTS)
        extrapolated = (course.failures == 0) | (course.failures >= _FAILURES)
        course = course._replace(fixed=fixed, known=torch.where(extrapolated, course.known, 0))
        direction = -scaled(layout, course.step, residual)
        if self.memory:
            weights = _weights(state, course, residual, layout)
            direction = direction - combine(layout, state.changes, weights)
            direction = direction + scaled(layout, course.step, combine(layout, state.turns, weights))
        # The first gradient step would reach energy zero if the energy were linear (Polyak's step length).
        square = dot(layout, gradient, gradient).detach()
        length = course.search.length
        polyak = at.energy.detach() / square.clamp(min=torch.finfo(square.dtype).tiny)
        length = torch.where(length.isnan(), polyak, length)
        search = course.search._replace(length=length, slope=-length * square)
        direction = torch.where(layout.spread(fixed.unsqueeze(1)), direction, -scaled(layout, length, gradient))
        # Repeated steps are accepted without being asked for, see `follow`.
        course = course._replace(search=search, moved=torch.ones_like(course.moved))
        state = state._replace(point=point, residual=residual, course=PerSample(course))
        return unflatten(point + direction, at.free), state

    def accept(self, at, trial, state):
        layout = trial.layout
        assert layout is not None
        course: _Course = state.course.value
        moved = flatten(trial.free) - state.point
        lost = layout.norm((moved,)) == 0
        ceiling = torch.cat([at.energy.unsqueeze(1), course.recent], 1).amax(1)
        low = trial.energy.isfinite() if self.window is None else trial.energy <= (1 - ARMIJO) * ceiling
        certified = low & ~lost
        new_slope = dot(layout, flatten(trial.gradient), moved)
        falls, search = backtrack(course.search, at.energy, trial.energy, new_slope, lost)
        fixed = course.fixed
        accepted = torch.where(fixed, certified, falls)
        search = Search(*(torch.where(fixed, old, new) for old, new in zip(course.search, search, strict=True)))
        # No residual is smaller than the rounding of y.
        floor = 10 * torch.finfo(moved.dtype).eps * layout.norm((state.point,))
        search = search._replace(stalled=~accepted & (search.stalled & ~fixed | (2 * at.energy <= floor.square())))
        course = self._after(course, accepted, at.energy)
        return accepted, state._replace(course=PerSample(course._replace(search=search)))

    def _after(self, course: _Course, accepted: Tensor, energy: Tensor) -> _Course:
        """The course after a decision at an iterate of this energy."""
        fixed = course.fixed
        failures = torch.where(fixed, torch.where(accepted, 0, course.failures + 1), course.failures)
        # The step size is halved when a step without memory is refused, grows slowly, and starts afresh after descents.
        plain = (course.known == 0) & (course.failures < _FAILURES)
        step = torch.where(fixed & ~accepted & plain, course.step / 2, course.step)
        step = torch.where(fixed & accepted, (1.1 * step).clamp(max=self.step_size), step)
        step = torch.where(failures >= _FAILURES, self.step_size, step)
        recent = torch.cat([course.recent[:, 1:], energy.unsqueeze(1)], 1)[:, : self._others]
        return course._replace(
            recent=torch.where(accepted.unsqueeze(1), recent, course.recent),
            step=step,
            failures=failures,
            descents=torch.where(fixed, 0, course.descents + accepted.long()),
            moved=accepted,
        )

    def follow(self, at, state, saved):
        own, course = state.course.value, saved.course.value
        # After a refusal, the saved count includes the pair that this step is going to add, or has dropped it.
        known = course.known - (own.moved & ~course.moved).long()
        course = course._replace(products=own.products, known=known, moved=own.moved)
        return state._replace(course=PerSample(course))

    def stalled(self, state):
        return state.course.value.search.stalled

    def residual(self, at):
        """A tree whose norm is that of the residual, spread evenly over the entries of a sample."""
        layout, leaves = at.layout, tree_leaves(at.free)
        assert layout is not None
        entries = torch.stack([layout.sum(torch.ones_like(as_matrix(leaf))) for leaf in leaves]).sum(0)
        even = (2 * at.energy.clamp(min=0) / entries.clamp(min=1)).sqrt()
        return tree_map(lambda leaf: layout.expand(even, leaf).to(leaf.dtype).expand_as(leaf), at.free)


def _with_new_pair(state: FixedPointState, point: Tensor, residual: Tensor, layout: Layout) -> FixedPointState:
    """The state with the changes since the last iterate, for the samples that moved."""
    course: _Course = state.course.value
    m = state.changes.shape[1]
    if not m:
        return state
    new = course.moved
    rows = layout.spread(new.unsqueeze(1)).unsqueeze(2)
    change, turn = (point - state.point).unsqueeze(1), (residual - state.residual).unsqueeze(1)
    changes = torch.where(rows, torch.cat([state.changes[:, 1:], change], 1), state.changes)
    turns = torch.where(rows, torch.cat([state.turns[:, 1:], turn], 1), state.turns)
    column = dots(layout, turns, turn.squeeze(1))
    shifted = torch.nn.functional.pad(course.products[:, 1:, 1:], (0, 1, 0, 1))
    shifted[:, :, -1] = column
    shifted[:, -1, :] = column
    course = course._replace(
        products=torch.where(new.view(-1, 1, 1), shifted, course.products),
        known=torch.where(new, (course.known + 1).clamp(max=m), course.known),
    )
    return state._replace(changes=changes, turns=turns, course=PerSample(course))


def _weights(state: FixedPointState, course: _Course, residual: Tensor, layout: Layout) -> Tensor:
    """The weights ``(batch, m)`` of the known turns whose sum is nearest to the residual."""
    m = state.changes.shape[1]
    known = torch.arange(m, device=residual.device) >= (m - course.known).unsqueeze(1)
    norms = course.products.diagonal(dim1=1, dim2=2).sqrt()
    known = known & (norms > 0)
    inverse = torch.where(known, 1 / torch.where(known, norms, 1), 0)  # turns of norm 1, whatever their scale
    products = inverse.unsqueeze(2) * course.products * inverse.unsqueeze(1)
    ridge = 10 * m * torch.finfo(residual.dtype).eps
    matrix = products + torch.diag_embed(torch.where(known, ridge, 1.0).to(products.dtype))
    right = inverse * dots(layout, state.turns, residual)
    weights, _ = torch.linalg.solve_ex(matrix, right.unsqueeze(2))
    return torch.where(known & weights.squeeze(2).isfinite(), inverse * weights.squeeze(2), 0)
