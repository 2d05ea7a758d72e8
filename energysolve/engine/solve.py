"""One solve, as the solver passes it to a differentiation mode."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..halting import Halting
from ..layout import Layout, SelectFunction, select_problems
from ..optimizers.base import InnerOptimizer
from ..recorders import Nothing, Recorder
from ..trees import detach
from .compaction import run_compacted
from .loop import Carry, Descent, Observer, Outcome, outcome, run
from .objective import Objective
from .observers import Recording
from .progress import SolveProgress


@dataclass(frozen=True, eq=False)
class Solve:
    """The settings of one solve. ``parameters`` are those of the energy that may require gradients."""

    x: Any
    encode: Callable[[Any], Any]
    function: Callable[..., Tensor]
    layout: Layout
    optimizer: InnerOptimizer
    halting: Halting
    recorder: Recorder
    max_steps: int
    sync_every: int
    select: SelectFunction | None = None
    advance: Callable[[Descent, Carry], Carry] = Descent.advance
    compact: bool = False
    parameters: tuple[Tensor, ...] = ()
    residual_function: Callable[..., Tensor] | None = None
    coarse: torch.dtype | None = None
    progress: SolveProgress | None = None

    def descent(self, context: Any, layout: Layout | None = None, overwrites: bool = False) -> Descent:
        """The descent on an encoded problem: of the whole batch, or of a part of it with its layout.

        For ``overwrites`` see `Objective`.
        """
        function, residuals = self.function, self.residual_function
        options = {"overwrites": overwrites, "coarse": self.coarse}
        objective = Objective(function, context, layout or self.layout, residuals, **options)
        return Descent(objective, self.optimizer, self.halting)

    def untracked(self, context: Any, free: Any, watch: Callable[[Carry], Any] | None = None) -> tuple[Outcome, Any]:
        """The answers without gradients, and the observer that ``watch`` makes from iterate 0."""
        with torch.no_grad():
            # Only an observer or compiled code may still need a state after the step from it.
            overwrites = watch is None and self.advance is Descent.advance
            descent = self.descent(detach(context), overwrites=overwrites)
            carry = descent.start(detach(free))
            recording = Recording(self.recorder, carry, self.layout, self.optimizer.searches)
            last = None if watch is None else watch(carry)
            watching = (None if isinstance(self.recorder, Nothing) else recording, last, self.progress)
            observers: tuple[Observer, ...] = tuple(observer for observer in watching if observer is not None)
            steps, sync = range(self.max_steps), self.sync_every
            if self.compact:
                only = partial(self._only, overwrites)
                carry = run_compacted(descent, carry, steps, only, sync_every=sync, observers=observers)
            else:
                carry = run(descent, carry, steps, sync_every=sync, advance=self.advance, observers=observers)
            return outcome(carry, recording.finish(carry.steps)), last

    def encoded(self, samples: Tensor) -> Any:
        """The encoded problems of the samples with these indices."""
        return self.encode(select_problems(self.x, samples, self.layout, self.select))

    def _only(self, overwrites: bool, samples: Tensor) -> Descent:
        return self.descent(detach(self.encoded(samples)), self.layout.select(samples)[0], overwrites)
