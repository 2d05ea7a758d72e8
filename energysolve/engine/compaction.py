"""Compaction: samples that have halted leave the computation; the result holds all of them.

Compaction requires that samples can be selected from the problem (`energysolve.layout.select_problems`), and that the
energy of a sample does not depend on the others. Both are verified each time samples leave: the remaining ones are
evaluated again, at the initial point and at their current iterate. If the result differs (a shared tensor that happens
to be as large as the batch, dropout), the solve continues with the whole batch, with a `CompactionWarning`.
"""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..layout import Layout
from ..optimizers.base import Evaluation, PerSample
from ..trees import tree_map
from .agreement import same_alone
from .loop import Carry, Descent, Observer, run
from .progress import SolveProgress

SHARE = 0.5
"""Samples leave when at most this share of those in the computation is active. With one half, all verifications
together cost less than two evaluations of the whole batch, and a step at most twice what its active samples would."""


class CompactionWarning(RuntimeWarning):
    """Samples could not be selected from the problem, so halted samples stayed in the computation."""


class Part(NamedTuple):
    """Some samples of a batch, and the rows of the free variables that belong to them."""

    samples: Tensor
    rows: Tensor
    layout: Layout
    """Of the whole batch."""

    def of(self, carry: Carry) -> Carry:
        """The carry of these samples alone."""

        def take(indices: Tensor, size: int, leaf: Tensor) -> Tensor:
            return leaf.index_select(0, indices)

        return self._map(take, carry)

    def evaluation(self, at: Evaluation) -> Evaluation:
        """The evaluation of these samples."""
        free, gradient = (
            tree_map(lambda leaf: leaf.index_select(0, self.rows), tree) for tree in (at.free, at.gradient)
        )
        return Evaluation(free, at.energy.index_select(0, self.samples), gradient)

    def into(self, whole: Carry, carry: Carry) -> Carry:
        """The carry of the whole batch, with these samples taken from ``carry``."""

        def put(indices: Tensor, size: int, leaf: Tensor, old: Tensor) -> Tensor:
            # An optimizer's state may take its shape and dtype from the first gradient.
            return old.to(leaf.dtype).expand(size, *leaf.shape[1:]).index_copy(0, indices, leaf)

        return self._map(put, carry, whole)

    def answers_into(self, whole: Carry, carry: Carry) -> Carry:
        """Like `into`, but the optimizer's state stays that of ``whole``."""
        without = [each._replace(optimizer_state=()) for each in (whole, carry)]
        return self.into(*without)._replace(optimizer_state=whole.optimizer_state)

    def _map(self, function: Callable[..., Tensor], *carries: Carry) -> Carry:
        """Apply ``function(indices, size of the whole, leaf, ...)`` to every tensor of rows or of samples."""

        def rows(*trees: Any) -> Any:
            return tree_map(partial(_unless_shared, function, self.rows, self.layout.rows), *trees)

        def samples(*trees: Any) -> Any:
            return tree_map(partial(_unless_shared, function, self.samples, self.layout.batch), *trees)

        def state(leaf: Any, *others: Any) -> Any:
            if isinstance(leaf, PerSample):
                return PerSample(samples(leaf.value, *(other.value for other in others)))
            return _unless_shared(function, self.rows, self.layout.rows, leaf, *others)

        step, at, initial_energy, optimizer_state, *rest = zip(*carries, strict=True)
        free, energy, gradient, _ = zip(*at, strict=True)
        return Carry(
            step[0],
            Evaluation(rows(*free), samples(*energy), rows(*gradient)),
            samples(*initial_energy),
            tree_map(state, *optimizer_state),
            *(samples(*trees) for trees in rest),
        )


def _unless_shared(function: Callable[..., Tensor], indices: Tensor, size: int, leaf: Any, *rest: Any) -> Any:
    return function(indices, size, leaf, *rest) if isinstance(leaf, Tensor) and leaf.ndim else leaf


def run_compacted(
    descent: Descent,
    carry: Carry,
    steps: range,
    only: Callable[[Tensor], Descent],
    *,
    sync_every: int,
    observers: tuple[Observer, ...] = (),
) -> Carry:
    """Like `run`, but halted samples leave the computation.

    Args:
        descent: the solve.
        carry: iterate 0.
        steps: the iterates from which steps start.
        only: from sample indices to the solve of these samples alone.
        sync_every: the host counts the active samples every so many steps.
        observers: called with each new iterate of the whole batch and its index.
    """
    first, layout = carry.at, descent.layout
    members = torch.arange(layout.batch, device=carry.active.device)
    carry = whole = run(descent, carry, steps, sync_every=sync_every, observers=observers, stop=_few_active)
    while True:
        steps = range(int(carry.step), steps.stop)
        samples = carry.active.nonzero().squeeze(1)
        if not (steps and len(samples)):
            return whole
        inner, rows = layout.select(samples)
        carry = Part(samples, rows, layout).of(carry)
        members, layout = members[samples], inner
        part = Part(members, descent.layout.select(members)[1], descent.layout)
        alone = _agreeing(only, part, carry, part.evaluation(first))
        if alone is None:
            return run(descent, part.into(whole, carry), steps, sync_every=sync_every, observers=observers)
        watching = (partial(_show, observers, part, whole),) if observers else ()
        carry = run(alone, carry, steps, sync_every=sync_every, observers=watching, stop=_few_active)
        # Nobody but observers looks at the optimizer's state of samples that have halted.
        whole = part.into(whole, carry) if observers else part.answers_into(whole, carry)


def _few_active(carry: Carry) -> bool:
    return int(carry.active.count_nonzero()) <= SHARE * len(carry.active)


def _show(observers: tuple[Observer, ...], part: Part, whole: Carry, step: int, carry: Carry) -> None:
    looking = [observe for observe in observers if not isinstance(observe, SolveProgress) or observe.due(step)]
    if looking:
        whole = part.into(whole, carry)
        for observe in looking:
            observe(step, whole)


def _agreeing(only: Callable[[Tensor], Descent], part: Part, carry: Carry, first: Evaluation) -> Descent | None:
    """The solve of the part alone; None, with a warning, if it differs from the solve in the whole batch."""
    known = first, carry.at
    device = first.energy.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):  # leaves the random state alone
        try:
            alone = only(part.samples)
            found = [alone.objective(at.free) for at in known]
        except Exception as error:  # of any kind: selected tensors that do not fit reach the user's code
            return _warn(f"evaluating a part of the batch alone raised {type(error).__name__}: {error}")
    if same_alone(known, found, alone.layout):
        return alone
    return _warn("samples have another energy or gradient alone than in the whole batch")


def _warn(what: str) -> None:
    warnings.warn(
        f"compact=True is without effect: {what.rstrip('.')}. Every tensor in x with the leading size of the batch "
        "must have one row per sample, or the solver needs select=; and the energy must be deterministic (a module in "
        "evaluation mode).",
        CompactionWarning,
        stacklevel=2,
    )
