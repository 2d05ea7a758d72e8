"""Derivatives of the last steps: they are taken again, tracked, and their gradient is attached to the answers."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..solution import Status
from ..trees import detach, tree_leaves, tree_map
from .loop import Descent, Outcome
from .observers import StepStart, where_state
from .problem import Problem


def replay(descent: Descent, begin: StepStart, length: int, counts: Tensor | None = None) -> tuple[Any, Tensor]:
    """Take the last steps of a solve again, tracked.

    Args:
        descent: the solve, with a tracked context.
        begin: where the steps of each sample begin.
        length: the most steps that a sample takes.
        counts: ``(batch,)``, the steps that each sample takes; by default all take ``length``. A sample with fewer
            waits at its beginning, a point that it is evaluated at anyway, rather than at its end.

    Returns:
        The free variables at the end, and where every evaluation on the way was finite.
    """
    free, state = begin
    layout = descent.layout
    finite = torch.ones(layout.batch, dtype=torch.bool, device=tree_leaves(free)[0].device)
    evaluate = partial(descent.objective, track=True)
    for step in range(length):
        at = evaluate(free)
        finite = finite & descent.objective.finite(detach(at))
        moved, next_state = descent.optimizer.step(at, state, evaluate)
        if counts is None:
            free, state = moved, next_state
        else:
            moves = counts >= length - step
            free, state = layout.where(moves, moved, free), where_state(layout, moves, next_state, state)
    return free, finite


def attach_replay(problem: Problem, context: Any, found: Outcome, begin: StepStart, limit: int) -> Outcome:
    """The answers with the gradient of the last steps, at most ``limit`` of them, which are replayed."""
    counts = torch.where(found.status == Status.NONFINITE, 0, found.steps.clamp(max=limit))
    valid = counts > 0
    if not bool(valid.any()):
        return with_answer(found, without_gradient(problem, found.at.free))
    if not bool(valid.all()):  # the initial point of a sample without gradient gets none, whatever comes back to it
        begin = begin._replace(free=problem.layout.where(valid, begin.free, detach(begin.free)))
    context, begin = stand_in(problem, context, valid, found.at.free, begin)
    ended, _ = replay(problem.descent(context), StepStart(*begin), int(counts.max()), counts)
    ended = problem.layout.where(valid, ended, found.at.free)
    return with_answer(found, tree_map(_Attach.apply, found.at.free, ended))


def with_answer(found: Outcome, free: Any) -> Outcome:
    """The outcome with ``free`` as its answers."""
    return found._replace(at=found.at._replace(free=free))


class _Attach(torch.autograd.Function):
    """The first argument's value with the second argument's gradient."""

    @staticmethod
    def forward(ctx, value, tracked):
        return value.clone()

    @staticmethod
    def backward(ctx, *grads):
        return None, grads[0]


def stand_in(problem: Problem, context: Any, valid: Tensor, answers: Any, tree: Any) -> tuple[Any, Any]:
    """Put a valid sample in the place of each one that gets no gradient, before anything tracked is evaluated there.

    A gradient of zero through a derivative that is not finite would be NaN. Where samples cannot stand in for each
    other (graphs of different sizes, problems that share a tensor as large as the batch), entries that are not finite
    become zero.

    Args:
        problem: the solve.
        context: the encoded problem.
        valid: ``(batch,)`` bool.
        answers: free variables at which to see whether the valid samples are still the same.
        tree: what is to be evaluated.
    """
    if bool(valid.all()):
        return context, tree
    rows = problem.layout.stand_in(valid)
    if rows is not None:
        batch = len(valid)

        def take(leaf: Any) -> Any:
            fits = isinstance(leaf, Tensor) and leaf.ndim > 0 and leaf.shape[0] == batch
            return leaf.index_select(0, rows) if fits else leaf

        replaced = problem.encode(tree_map(take, problem.x))
        if _agree(problem, valid, (context, answers), (replaced, tree_map(take, answers))):
            return replaced, tree_map(take, tree)
    return context, tree_map(_finite_entries, tree)


def _agree(problem: Problem, valid: Tensor, before: tuple[Any, Any], after: tuple[Any, Any]) -> bool:
    """Whether valid samples have kept energy and slope, as they must if every tensor in ``x`` has one row a sample."""
    with torch.no_grad():
        a, b = (problem.descent(detach(context)).objective(detach(free)) for context, free in (before, after))
    slopes = [problem.layout.norm(at.gradient) for at in (a, b)]
    rounding = torch.finfo(a.energy.dtype).eps ** 0.5
    return all(
        torch.allclose(p[valid], q[valid], rtol=rounding, atol=rounding) for p, q in ((a.energy, b.energy), slopes)
    )


def _finite_entries(leaf: Any) -> Any:
    return leaf.nan_to_num(0.0, 0.0, 0.0) if isinstance(leaf, Tensor) else leaf


def without_gradient(problem: Problem, free: Any) -> Any:
    """The answers as functions of the problem and the parameters with derivative zero, so that backward still runs."""
    leaves = [*tree_leaves(problem.x), *problem.parameters]
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
