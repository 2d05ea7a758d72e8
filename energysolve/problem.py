"""One solve, as the solver hands it to a differentiation mode."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .compaction import run_compacted
from .halting import Halting
from .layout import Layout, select_problems
from .loop import Carry, Descent, Observer, Outcome, outcome, run
from .objective import Objective
from .observers import Recording, Tail
from .optimizers.base import InnerOptimizer
from .recorders import Nothing, Recorder
from .trees import tree_leaves, tree_map


@dataclass(frozen=True, eq=False)
class Problem:
    """What to minimize, and how. ``parameters`` are those of the energy that may want a gradient."""

    x: Any
    encode: Callable[[Any], Any]
    function: Callable[..., Tensor]
    layout: Layout
    optimizer: InnerOptimizer
    halting: Halting
    recorder: Recorder
    max_steps: int
    sync_every: int
    advance: Callable[[Descent, Carry], Carry] = Descent.advance
    compact: bool = False
    parameters: tuple[Tensor, ...] = ()

    def descent(self, context: Any) -> Descent:
        return Descent(Objective(self.function, context, self.layout), self.optimizer, self.halting)

    def solve(self, context: Any, free: Any, tail: int = 0) -> tuple[Outcome, Tail | None]:
        """Find the answers, untracked, and keep where the last ``tail`` steps of each sample began."""
        with torch.no_grad():
            descent = self.descent(detach(context))
            carry = descent.start(detach(free))
            recording = Recording(self.recorder, carry, self.layout)
            last = Tail(tail, self.max_steps, carry, self.layout) if tail else None
            watching = (None if isinstance(self.recorder, Nothing) else recording, last)
            observers: tuple[Observer, ...] = tuple(observer for observer in watching if observer is not None)
            steps, sync = range(self.max_steps), self.sync_every
            if self.compact:
                carry = run_compacted(descent, carry, steps, self._only, sync_every=sync, observers=observers)
            else:
                carry = run(descent, carry, steps, sync_every=sync, advance=self.advance, observers=observers)
            return outcome(carry, recording.finish(carry.steps)), last

    def _only(self, samples: Tensor) -> Descent:
        """The solve of the samples with these indices alone."""
        context = self.encode(select_problems(self.x, samples, self.layout))
        layout, _ = self.layout.select(samples)
        return Descent(Objective(self.function, detach(context), layout), self.optimizer, self.halting)


def detach(tree: Any) -> Any:
    """The tree with every tensor in it detached."""
    return tree_map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, tree)


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
