"""Observers of a descent: recorders, and where the last steps of each sample began."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..layout import Layout
from ..optimizers.base import where_state
from ..recorders import Recorder
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
