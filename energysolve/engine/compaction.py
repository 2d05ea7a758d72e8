"""Compaction: samples that have halted leave the computation, and are back with their answers at the end.

What it asks for: the problem can be taken apart (`energysolve.layout.select_problems`), and the energy of a sample is
the same without the others. Both are put to the test each time samples leave: those that stay are evaluated once more,
at the initial point and where they are. If that gives anything but what is known, as with a tensor that all samples
share and that happens to be as large as the batch, or with dropout, the whole batch goes on together, under a
`CompactionWarning`.
"""

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..layout import Layout
from ..optimizers.base import Evaluation
from ..trees import tree_leaves, tree_map
from .loop import Carry, Descent, Observer, run

SHARE = 0.5
"""Samples leave when at most this share of those in the computation moves on. At a half, all the evaluations that test
what stays cost less than two of the whole batch, and a step costs at most twice what its active samples would."""


class CompactionWarning(RuntimeWarning):
    """A problem that could not be taken apart, so that halted samples stayed in the computation."""


class Part(NamedTuple):
    """Some of the samples of a batch, with the rows of the free variables that they own."""

    samples: Tensor
    rows: Tensor
    layout: Layout
    """Of the whole batch."""

    def of(self, carry: Carry) -> Carry:
        """These samples alone."""

        def take(indices: Tensor, size: int, leaf: Tensor) -> Tensor:
            return leaf.index_select(0, indices)

        return self._map(take, carry)

    def into(self, whole: Carry, carry: Carry) -> Carry:
        """The whole batch with these samples as they are in ``carry``."""

        def put(indices: Tensor, size: int, leaf: Tensor, old: Tensor) -> Tensor:
            # An optimizer's state may have got its shape and dtype from the first gradient.
            return old.to(leaf.dtype).expand(size, *leaf.shape[1:]).index_copy(0, indices, leaf)

        return self._map(put, carry, whole)

    def _map(self, function: Callable[..., Tensor], *carries: Carry) -> Carry:
        """``function(indices, size of the whole, leaf, ...)`` of every tensor that is made of rows or samples."""

        def rows(*trees: Any) -> Any:
            return tree_map(partial(_unless_shared, function, self.rows, self.layout.rows), *trees)

        def samples(*trees: Any) -> Any:
            return tree_map(partial(_unless_shared, function, self.samples, self.layout.batch), *trees)

        step, at, initial_energy, optimizer_state, *rest = zip(*carries, strict=True)
        free, energy, gradient = zip(*at, strict=True)
        return Carry(
            step[0],
            Evaluation(rows(*free), samples(*energy), rows(*gradient)),
            samples(*initial_energy),
            rows(*optimizer_state),
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
    """As `run`, with only the samples that are still active.

    Args:
        descent: the solve.
        carry: iterate 0.
        steps: the iterates to start a step from.
        only: the solve of the samples with these indices alone.
        sync_every: how many steps may pass before the host looks how many samples are active.
        observers: called with each new iterate of the whole batch and its index.
    """
    first = carry.at
    whole = run(descent, carry, steps, sync_every=sync_every, observers=observers, stop=_few_active)
    while True:
        steps = range(int(whole.step), steps.stop)
        samples = whole.active.nonzero().squeeze(1)
        if not (steps and len(samples)):
            return whole
        part = Part(samples, descent.layout.select(samples)[1], descent.layout)
        carry = part.of(whole)
        alone = _agreeing(only, part, carry, part.of(whole._replace(at=first)).at)
        if alone is None:
            return run(descent, whole, steps, sync_every=sync_every, observers=observers)
        watching = (partial(_show, observers, part, whole),) if observers else ()
        carry = run(alone, carry, steps, sync_every=sync_every, observers=watching, stop=_few_active)
        whole = part.into(whole, carry)


def _few_active(carry: Carry) -> bool:
    return int(carry.active.count_nonzero()) <= SHARE * len(carry.active)


def _show(observers: tuple[Observer, ...], part: Part, whole: Carry, step: int, carry: Carry) -> None:
    whole = part.into(whole, carry)
    for observe in observers:
        observe(step, whole)


def _agreeing(only: Callable[[Tensor], Descent], part: Part, carry: Carry, first: Evaluation) -> Descent | None:
    """The solve of the part alone; None if it differs from the part's solve in the whole batch."""
    known = first, carry.at
    device = first.energy.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):  # dropout draws no more than ever
        try:
            alone = only(part.samples)
            found = [alone.objective(at.free) for at in known]
        except Exception as error:  # of any kind: here tensors that do not fit meet in the user's code
            return _warn(f"evaluating a part of the batch alone raised {type(error).__name__}: {error}")
    if _agree(known, found, alone.layout):
        return alone
    return _warn("samples have another energy or gradient alone than in the whole batch")


def _agree(known: Sequence[Evaluation], found: Sequence[Evaluation], layout: Layout) -> bool:
    """Whether energies and gradients are the same to rounding.

    The second point alone would not do, where gradients vanish, nor the first, where answers may be zero. An energy has
    an arbitrary offset, so it is the descent from one to the other that tells which difference is small.
    """
    eps = max(torch.finfo(leaf.dtype).eps for leaf in tree_leaves(known[0].gradient))
    small = eps**0.5 * (known[1].energy - known[0].energy).abs().max()
    flat = eps**0.5 * torch.stack([layout.norm(at.gradient) for at in known]).max()
    for a, b in zip(known, found, strict=True):
        apart = (a.energy - b.energy).abs().max()
        bent = layout.norm(tree_map(torch.sub, a.gradient, b.gradient)).max()
        if not (apart <= small + 100 * eps * a.energy.abs().max() and bent <= flat):
            return False
    return True


def _warn(what: str) -> None:
    warnings.warn(
        f"compact=True is without effect: {what.rstrip('.')}. Every tensor in x with the leading size of the batch "
        "must have one row a sample, and the energy must be the same at every call (a module in evaluation mode).",
        CompactionWarning,
        stacklevel=2,
    )
