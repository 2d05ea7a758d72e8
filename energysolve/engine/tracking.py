"""Gradients of the last steps: the steps are repeated with tracking, and their gradient is attached to the answers."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..optimizers.base import PerSample, where_state
from ..solution import Status
from ..trees import detach, tree_leaves, tree_map
from .agreement import same_alone
from .loop import Descent, Outcome
from .observers import AcceptedSteps, StepStart
from .solve import Solve


def replay(
    descent: Descent,
    begin: StepStart,
    length: int,
    counts: Tensor | None = None,
    followed: Sequence[Any] | None = None,
) -> tuple[Any, Tensor]:
    """Repeat the last steps of a solve with tracking.

    Args:
        descent: the solve, with a tracked context.
        begin: where the last steps of each sample begin.
        length: the largest number of steps of a sample.
        counts: ``(batch,)``, the number of steps of each sample; by default ``length`` for all. A sample with fewer
            steps waits at its beginning rather than at its end: the beginning is evaluated in any case.
        followed: for an optimizer that searches, what `InnerOptimizer.follow` needs of each of the ``length`` steps.

    Returns:
        The free variables at the end, and the samples for which every evaluation was finite.
    """
    free, state = begin
    layout = descent.layout
    finite = torch.ones(layout.batch, dtype=torch.bool, device=tree_leaves(free)[0].device)
    objective = descent.objective.tracked()
    for step in range(length):
        at = objective(free)
        finite = finite & objective.finite(detach(at))
        current = state if followed is None else descent.optimizer.follow(at, state, followed[step])
        moved, next_state = descent.optimizer.step(at, current, objective)
        if counts is None:
            free, state = moved, next_state
        else:
            moves = counts >= length - step
            free, state = layout.where(moves, moved, free), where_state(layout, moves, next_state, state)
    return free, finite


def attach_replay(
    solve: Solve,
    context: Any,
    free: Any,
    found: Outcome,
    begin: StepStart,
    limit: int,
    accepted: AcceptedSteps | None = None,
) -> Outcome:
    """The answers with the gradient of at most ``limit`` last steps, which are repeated; ``free`` is iterate 0.

    For an optimizer that searches, ``accepted`` are the steps to follow.
    """
    counts = torch.where(found.status == Status.NONFINITE, 0, found.steps.clamp(max=limit))
    valid = counts > 0
    if not bool(valid.any()):
        return with_answer(found, without_gradient(solve, found.at.free))
    if not bool(valid.all()):  # a sample without steps passes no gradient to its initial point
        begin = begin._replace(free=solve.layout.where(valid, begin.free, detach(begin.free)))
    length, followed = int(counts.max()), None
    if accepted is not None:
        first = found.steps - length
        followed = [accepted.followed((first + step).clamp(min=0)) for step in range(length)]
    context, (begin, followed) = stand_in(solve, context, valid, free, found, (begin, followed))
    ended, _ = replay(solve.descent(context), begin, length, counts, followed)
    ended = solve.layout.where(valid, ended, found.at.free)
    return with_answer(found, tree_map(_Attach.apply, found.at.free, ended))


def with_answer(found: Outcome, free: Any) -> Outcome:
    """The outcome with ``free`` as its answers."""
    return found._replace(at=found.at._replace(free=free))


class _Attach(torch.autograd.Function):
    """The value of the first argument with the gradient of the second."""

    @staticmethod
    def forward(ctx, value, tracked):
        return value.clone()

    @staticmethod
    def backward(ctx, *grads):
        return None, grads[0]


def stand_in(solve: Solve, context: Any, valid: Tensor, free: Any, found: Outcome, tree: Any) -> tuple[Any, Any]:
    """Replace each sample that gets no gradient by a valid one, before anything tracked is evaluated on it.

    A zero gradient through a derivative that is not finite would be NaN. Where samples cannot replace each other
    (graphs of different sizes, problems that share a tensor as large as the batch), entries that are not finite
    become zero instead.

    Args:
        solve: the solve.
        context: the encoded problem.
        valid: ``(batch,)`` bool.
        free: the initial free variables.
        found: the outcome from there.
        tree: what is to be evaluated.

    Returns:
        The encoded problem and the tree after the replacement.
    """
    if bool(valid.all()):
        return context, tree
    rows = solve.layout.stand_in(valid)
    if rows is not None:
        take = partial(_map_tensors, lambda leaf: leaf.index_select(0, rows) if leaf.ndim else leaf)
        with suppress(Exception):  # of any kind: selected tensors that do not fit reach the user's code
            replaced = solve.encoded(rows)
            with torch.no_grad():
                known = solve.descent(detach(context)).objective(detach(free)), found.at
                moved = solve.descent(detach(replaced)).objective
                same = same_alone(known, [moved(take(detach(at.free))) for at in known], solve.layout, valid)
            if same:
                return replaced, take(tree)
    return context, _map_tensors(lambda leaf: leaf.nan_to_num(0.0, 0.0, 0.0), tree)


def _map_tensors(function: Callable[[Tensor], Tensor], tree: Any) -> Any:
    """Apply ``function`` to every tensor of a tree, those in `PerSample` parts included."""

    def apply(leaf: Any) -> Any:
        if isinstance(leaf, PerSample):
            return PerSample(_map_tensors(function, leaf.value))
        return function(leaf) if isinstance(leaf, Tensor) else leaf

    return tree_map(apply, tree)


def without_gradient(solve: Solve, free: Any) -> Any:
    """The answers with a derivative of zero by the problem and the parameters, so that ``backward`` can be called."""
    leaves = [*tree_leaves(solve.x), *solve.parameters]
    inputs = [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.requires_grad]
    inputs.append(torch.zeros(1, requires_grad=True))
    return tree_map(lambda leaf: _ZeroGradient.apply(leaf, *inputs), free)


class _ZeroGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value, *inputs):
        ctx.save_for_backward(*inputs)
        return value.clone()

    @staticmethod
    def backward(ctx, *grads):
        return None, *(torch.zeros_like(leaf) for leaf in ctx.saved_tensors)
