"""Observers of a descent: recorders, and where the last steps of each sample began."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..layout import Layout
from ..optimizers.base import PerSample, where_state
from ..recorders import Recorder
from ..trees import tree_map
from .generators import Generators
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
    """An observer of an optimizer that searches: where each step of each sample began, and how it was accepted.

    Args:
        carry: iterate 0.
        layout: of the free variables.
        length: the number of last steps to keep, in a ring, so that memory does not grow with the number of steps; None
            keeps what `InnerOptimizer.follow` needs of all steps.
    """

    def __init__(self, carry: Carry, layout: Layout, length: int | None):
        self._layout = layout
        self._before = carry
        # One slot more than steps: a sample has also arrived at its last iterate, from which no step begins.
        slots = 0 if length is None else length + 1
        self._starts = [StepStart(carry.at.free, carry.optimizer_state)] * slots
        self._accepted = [decisions(carry.optimizer_state)] * slots
        self._trials: list[tuple[Tensor, Any]] = []
        self._all = length is None

    def __call__(self, step: int, carry: Carry) -> None:
        before, self._before = self._before, carry
        chosen = decisions(before.optimizer_state)
        if self._all:
            self._trials.append((before.steps, chosen))
            return
        accepted, count = carry.steps > before.steps, len(self._starts)
        new = StepStart(carry.at.free, carry.optimizer_state)
        for slot in range(count):
            began, arrived = (accepted & (steps % count == slot) for steps in (before.steps, carry.steps))
            self._accepted[slot] = where_state(self._layout, began, chosen, self._accepted[slot])
            self._starts[slot] = where_state(self._layout, arrived, new, self._starts[slot])

    def start(self, step: Tensor) -> StepStart:
        """Where each sample began the step with this index, ``(batch,)``, one of the last ``length``."""
        return self._pick(self._starts, step % len(self._starts))

    def followed(self, step: Tensor) -> Any:
        """What `InnerOptimizer.follow` needs of the step of each sample with this index, ``(batch,)``."""
        if not self._all:
            return self._pick(self._accepted, step % len(self._accepted))
        # The last trial from the iterate with this index is the one that was accepted.
        last = sum((steps <= step).long() for steps, _ in self._trials) - 1
        assert isinstance(last, Tensor)
        return self._pick([chosen for _, chosen in self._trials], last)

    def _pick(self, trees: list[Any], index: Tensor) -> Any:
        """For each sample the tree with its index."""
        chosen = trees[0]
        for each in index.unique().tolist():
            chosen = where_state(self._layout, index == each, trees[each], chosen)
        return chosen


def decisions(state: Any) -> Any:
    """The `PerSample` parts of an optimizer's state; other leaves are replaced by ``...``."""
    return tree_map(lambda leaf: leaf if isinstance(leaf, PerSample) else ..., state)


class LastSteps:
    """An observer that keeps the iterate at which the last ``length`` steps of each sample began.

    It is a ring of ``length`` slots, to which only active samples are written, so memory does not grow with the number
    of steps.
    """

    def __init__(self, length: int, max_steps: int, generators: Generators, carry: Carry, layout: Layout):
        self._layout = layout
        self._max_steps = max_steps
        self._slots: list[StepStart | None] = [None] * length
        self._generators = [generators] * length
        self._next = generators
        self(0, carry)

    def __call__(self, step: int, carry: Carry) -> None:
        if step == self._max_steps > 0:  # no step begins at the last iterate
            return
        slot = step % len(self._slots)
        device = carry.active.device
        if device.type != "cpu" or carry.active.any():  # asking another device would take longer
            # Each iterate is evaluated again when steps are repeated: from the state before it was evaluated.
            self._generators[slot], self._next = self._next, Generators.now(device)
        new = StepStart(carry.at.free, carry.optimizer_state)
        old = self._slots[slot]
        self._slots[slot] = new if old is None else where_state(self._layout, carry.active, new, old)

    def generators(self, steps: Tensor) -> Generators | None:
        """The state of the generators where the samples began their last steps, if they did so together."""
        if not bool((steps == steps[0]).all()):
            return None
        first = int(steps[0])
        return self._generators[0 if first < len(self._slots) else first % len(self._slots)]

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
