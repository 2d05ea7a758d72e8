"""Observers of a descent: recorders, and where the last steps of each sample began."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..layout import Layout
from ..optimizers.base import PerSample, where_state
from ..recorders import Recorder
from ..trees import tree_map
from .loop import Carry


class Recording:
    """An observer that passes the iterates to a recorder."""

    def __init__(self, recorder: Recorder, carry: Carry, layout: Layout, searches: bool):
        self._recorder = recorder
        self._searches = searches
        self._state = recorder.init(carry.at.free, carry.at.energy, layout)

    def __call__(self, step: int, carry: Carry) -> None:
        step_of_samples = carry.steps if self._searches else carry.step
        self._state = self._recorder.update(self._state, carry.at.free, carry.at.energy, step_of_samples)

    def finish(self, steps: Tensor) -> Any:
        return self._recorder.finish(self._state, steps)


class StepStart(NamedTuple):
    """Where the last steps of each sample began: the free variables and the optimizer's state."""

    free: Any
    optimizer_state: Any


class AcceptedSteps:
    """An observer of an optimizer that searches: the state from which each step of each sample was accepted.

    Args:
        carry: iterate 0.
        layout: of the free variables.
        length: the number of last steps to keep, in as many slots, so that memory does not grow with the number of
            steps; None keeps what `InnerOptimizer.follow` needs of all steps.
    """

    def __init__(self, carry: Carry, layout: Layout, length: int | None):
        self._layout = layout
        self._before = carry
        start = StepStart(carry.at.free, carry.optimizer_state)
        self._slots = None if length is None else [start] * length
        self._trials: list[tuple[Tensor, Any]] = [(carry.steps, decisions(carry.optimizer_state))]

    def __call__(self, step: int, carry: Carry) -> None:
        before, self._before = self._before, carry
        if self._slots is None:
            self._trials.append((carry.steps, decisions(carry.optimizer_state)))
            return
        new, accepted, count = (
            StepStart(before.at.free, before.optimizer_state),
            carry.steps > before.steps,
            len(self._slots),
        )
        for slot, old in enumerate(self._slots):
            self._slots[slot] = where_state(self._layout, accepted & (before.steps % count == slot), new, old)

    def start(self, step: Tensor) -> StepStart:
        """Where each sample began the step with this index, ``(batch,)``, one of the last ``length``."""
        assert self._slots is not None
        which = step % len(self._slots)
        chosen = self._slots[0]
        for slot, candidate in enumerate(self._slots[1:], start=1):
            chosen = where_state(self._layout, which == slot, candidate, chosen)
        return chosen

    def followed(self, step: Tensor) -> Any:
        """What `InnerOptimizer.follow` needs of the step of each sample with this index, ``(batch,)``."""
        if self._slots is not None:
            return decisions(self.start(step).optimizer_state)
        # The last trial from the iterate with this index, which was accepted.
        trial = sum((steps <= step).long() for steps, _ in self._trials) - 1
        assert isinstance(trial, Tensor)
        chosen = self._trials[0][1]
        for index in trial.unique().tolist():
            chosen = where_state(self._layout, trial == index, self._trials[index][1], chosen)
        return chosen


def decisions(state: Any) -> Any:
    """The `PerSample` parts of an optimizer's state; other leaves are replaced by ``...``."""
    return tree_map(lambda leaf: leaf if isinstance(leaf, PerSample) else ..., state)


class LastSteps:
    """An observer that keeps the iterate at which the last ``length`` steps of each sample began.

    It is a ring of ``length`` slots, to which only active samples are written, so memory does not grow with the number
    of steps.
    """

    def __init__(self, length: int, max_steps: int, carry: Carry, layout: Layout):
        self._layout = layout
        self._max_steps = max_steps
        self._slots: list[StepStart | None] = [None] * length
        self(0, carry)

    def __call__(self, step: int, carry: Carry) -> None:
        if step == self._max_steps > 0:  # no step begins at the last iterate
            return
        slot = step % len(self._slots)
        new = StepStart(carry.at.free, carry.optimizer_state)
        old = self._slots[slot]
        self._slots[slot] = new if old is None else where_state(self._layout, carry.active, new, old)

    def beginning(self, steps: Tensor) -> StepStart:
        """Where each sample began its last steps, given the number of steps that it took in total."""
        length = len(self._slots)
        first = torch.where(steps < length, 0, steps % length)
        chosen = self._slots[0]
        assert chosen is not None
        for slot in range(1, length):
            candidate = self._slots[slot]
            if candidate is not None:
                chosen = where_state(self._layout, first == slot, candidate, chosen)
        return chosen
