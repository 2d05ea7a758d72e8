"""The descent loop.

Iterate 0 is the initial point. At every iterate, the energy and its gradient are evaluated, and the halting criterion
decides which samples stop. A step proposes a candidate for every sample and accepts it for samples that are active and
finite there, so one `where` both freezes halted samples and reverts non-finite ones. An optimizer that searches may
refuse a candidate sample by sample; then the sample stays at its iterate, and only the optimizer's state changes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..halting import Halting, StepInfo
from ..layout import Layout, all_of, asks
from ..optimizers.base import Evaluation, InnerOptimizer
from ..solution import Status
from ..trees import tree_leaves, tree_map
from .lost import compares, lost
from .objective import Objective

__all__ = ["Carry", "Descent", "Observer", "Outcome", "StepInfo", "Trial", "all_halted", "outcome", "run"]


class Carry(NamedTuple):
    """The state of the loop at one iterate.

    Attributes:
        step: 0-d int64, the number of trials so far; with fixed steps the index of this iterate.
        at: the accepted free variables with their energy and gradient.
        initial_energy: ``(batch,)``.
        optimizer_state: of the inner optimizer.
        halting_state: of the halting criterion.
        active: ``(batch,)`` bool, the samples that take another step.
        fired: ``(batch,)`` bool, the samples stopped by the criterion.
        steps: ``(batch,)`` int64, the number of updates of each sample.
        evaluations: ``(batch,)`` int64, the number of evaluations of each sample.
        stalled: ``(batch,)`` bool, the samples that the optimizer cannot improve.
    """

    step: Tensor
    at: Evaluation
    initial_energy: Tensor
    optimizer_state: Any
    halting_state: Any
    active: Tensor
    fired: Tensor
    steps: Tensor
    evaluations: Tensor
    stalled: Tensor


class Trial(NamedTuple):
    """The candidates for the next iterate, and the decision of the criterion on them."""

    step: Tensor
    at: Evaluation
    optimizer_state: Any
    halting_state: Any
    fires: Tensor


class Outcome(NamedTuple):
    """The result of a descent, see `Solution`; ``at`` is the answer with its energy and gradient."""

    at: Evaluation
    steps: Tensor
    status: Tensor
    evaluations: Tensor
    record: Any = None
    halting_state: Any = None


@dataclass(frozen=True, eq=False)
class Descent:
    """One solve as a sequence of iterates."""

    objective: Objective
    optimizer: InnerOptimizer
    halting: Halting

    @property
    def layout(self) -> Layout:
        return self.objective.layout

    def start(self, free: Any) -> Carry:
        """Iterate 0."""
        at = self.objective.checked(free)
        finite = self.objective.finite(at)
        gradient = self.layout.where(finite, at.gradient, tree_map(torch.zeros_like, free))
        at = Evaluation(at.free, at.energy, gradient)
        step = torch.zeros((), dtype=torch.int64, device=at.energy.device)
        info = StepInfo(
            step=step,
            energy=at.energy,
            previous_energy=torch.full_like(at.energy, torch.inf),
            initial_energy=at.energy,
            gradient=self.optimizer.residual(at._replace(layout=self.layout)),
            free=free,
            previous=None,
            layout=self.layout,
        )
        fires, halting_state = self.halting.update(info, self.halting.init(at.energy))
        _check_fires(self.halting, fires, at.energy)
        return Carry(
            step=step,
            at=at,
            initial_energy=at.energy.clone(),  # an alias would compile the first step separately
            optimizer_state=self.optimizer.begin(free, self.layout),
            halting_state=halting_state,
            active=finite & ~fires,
            fired=finite & fires,
            steps=torch.zeros_like(at.energy, dtype=torch.int64),
            evaluations=torch.ones_like(at.energy, dtype=torch.int64),
            stalled=torch.zeros_like(finite),
        )

    def propose(self, carry: Carry) -> tuple[Any, Any]:
        """The candidate for the next iterate of every sample, and the optimizer's state there."""
        return self.optimizer.step(carry.at, carry.optimizer_state, self.objective)

    def evaluate(self, carry: Carry, all_active: bool = False) -> Trial:
        """Propose and evaluate a candidate for every sample, and apply the criterion to it.

        Samples that do not move are evaluated where they are, which is known to be in the energy's domain.
        """
        candidate, optimizer_state = self.propose(carry)
        if not all_active:
            candidate = self.layout.where(carry.active, candidate, carry.at.free)
        at = self.objective(candidate)
        step = carry.step + 1
        info = StepInfo(
            step=step,
            energy=at.energy,
            previous_energy=carry.at.energy,
            initial_energy=carry.initial_energy,
            gradient=self.optimizer.residual(at),
            free=candidate,
            previous=carry.at.free,
            layout=self.layout,
        )
        fires, halting_state = self.halting.update(info, carry.halting_state)
        return Trial(step, at, optimizer_state, halting_state, fires)

    def accept(self, carry: Carry, trial: Trial) -> Carry:
        """Accept the candidates of samples that are active and finite there."""
        accepted = carry.active & self.objective.finite(trial.at)
        stops = accepted & trial.fires
        lost, unseen = self._lost(carry, trial, stops)
        stops = stops & ~unseen
        return Carry(
            step=trial.step,
            at=self._chosen(accepted, trial.at, carry.at),
            initial_energy=carry.initial_energy,
            optimizer_state=trial.optimizer_state,
            halting_state=trial.halting_state,
            active=accepted ^ stops,
            fired=carry.fired | (stops & ~lost),
            steps=carry.steps + accepted,
            evaluations=carry.evaluations + carry.active,
            stalled=carry.stalled | (stops & lost),
        )

    def _chosen(self, mask: Tensor, new: Evaluation, old: Evaluation) -> Evaluation:
        return Evaluation(
            free=self.layout.where(mask, new.free, old.free),
            energy=torch.where(mask, new.energy, old.energy),
            gradient=self.layout.where(mask, new.gradient, old.gradient),
        )

    def _lost(self, carry: Carry, trial: Trial, stops: Tensor) -> tuple[Tensor, Tensor]:
        """Of the samples that stop, those at rest beside a slope, and those whose step the energy did not see."""
        if not compares(self.halting):
            none = torch.zeros_like(stops)
            return none, none
        return lost(self.objective, carry.at, trial.at, carry.initial_energy)

    def _tried(self, carry: Carry) -> tuple[Evaluation, Tensor, Any]:
        """The candidates evaluated, the samples that accept theirs, and the optimizer's state."""
        candidate, state = self.propose(carry)
        # Samples that do not move are evaluated where they are, which is known to be in the energy's domain.
        if all_of(carry.active):
            candidate = tree_map(Tensor.contiguous, candidate)
        else:
            candidate = self.layout.where(carry.active, candidate, carry.at.free)
        trial = self.objective(candidate)
        finite = self.objective.finite(trial)
        if not all_of(finite):
            trial = trial._replace(energy=torch.where(finite, trial.energy, torch.inf))
        accepted, state = self.optimizer.accept(carry.at, trial, state)
        return trial, accepted & carry.active & finite, state

    def search(self, carry: Carry) -> Carry:
        """One trial of an optimizer that searches: each sample accepts its candidate or stays where it is."""
        trial, accepted, state = self._tried(carry)
        info = StepInfo(
            step=carry.steps + 1,
            energy=trial.energy,
            previous_energy=carry.at.energy,
            initial_energy=carry.initial_energy,
            gradient=self.optimizer.residual(trial),
            free=trial.free,
            previous=carry.at.free,
            layout=self.layout,
        )
        fires, halting_state = self.halting.update(info, carry.halting_state)
        stops = accepted & fires
        stalled = carry.active & ~accepted & self.optimizer.stalled(state)
        if all_of(accepted):
            at = Evaluation(trial.free, trial.energy, tree_map(Tensor.contiguous, trial.gradient))
        else:
            at = self._chosen(accepted, trial, carry.at)
            halting_state = tree_map(partial(torch.where, accepted), halting_state, carry.halting_state)
        return Carry(
            step=carry.step + 1,
            at=at,
            initial_energy=carry.initial_energy,
            optimizer_state=state,
            halting_state=halting_state,
            active=carry.active & ~stops & ~stalled,
            fired=carry.fired | stops,
            steps=carry.steps + accepted,
            evaluations=carry.evaluations + carry.active,
            stalled=carry.stalled | stalled,
        )

    def advance(self, carry: Carry) -> Carry:
        """One step."""
        return self.search(carry) if self.optimizer.searches else self.accept(carry, self.evaluate(carry))


Observer = Callable[[int, Carry], None]


def all_halted(carry: Carry) -> bool:
    """Whether no sample is active."""
    return not carry.active.any()


def run(
    descent: Descent,
    carry: Carry,
    steps: range,
    *,
    sync_every: int,
    advance: Callable[[Descent, Carry], Carry] = Descent.advance,
    observers: tuple[Observer, ...] = (),
    stop: Callable[[Carry], bool] = all_halted,
) -> Carry:
    """Advance ``carry`` from iterate ``steps.start`` to ``steps.stop``, or until ``stop``.

    Args:
        descent: the solve.
        carry: the iterate to start from.
        steps: the iterates from which steps start.
        sync_every: the host evaluates ``stop`` every so many steps, which waits for the device.
        advance: `Descent.advance`, or a compiled version of it.
        observers: called with each new iterate and its index.
        stop: whether to stop; must be False while all samples are active.
    """
    if sync_every == 1 and advance is Descent.advance and not descent.optimizer.searches:
        carry, steps = _run_together(descent, carry, steps, observers)
    for step in steps:
        if (step - steps.start) % sync_every == 0 and stop(carry):
            break
        carry = advance(descent, carry)
        for observe in observers:
            observe(step + 1, carry)
    return carry


def _run_together(descent: Descent, carry: Carry, steps: range, observers: tuple[Observer, ...]) -> tuple[Carry, range]:
    """Fast path without masks while all samples are active. Returns the carry and the remaining steps."""
    if not carry.active.all():
        return carry, steps
    first, unchanged = carry.step, carry[5:]
    for step in steps:
        trial = descent.evaluate(carry, all_active=True)
        if _goes_on(descent.objective, trial):
            free, energy, gradient, _ = trial.at  # tuples by position: `_replace` takes a tenth of a small step
            at, states = Evaluation(free, energy, gradient), (trial.optimizer_state, trial.halting_state)
            carry = Carry(trial.step, at, carry.initial_energy, *states, *unchanged)
        else:
            carry = descent.accept(_counted(carry, first), trial)
            steps = range(step + 1, steps.stop)
            break
        for observe in observers:
            observe(step + 1, carry)
    else:
        return _counted(carry, first), range(0)
    for observe in observers:
        observe(step + 1, carry)
    return carry, steps


def _goes_on(objective: Objective, trial: Trial) -> bool:
    """Whether the trial is surely finite for all samples, and stops none."""
    at, fires = trial.at, trial.fires
    if fires.numel() == 1 and asks(fires):  # numbers take a tenth of the time of tensors
        return not fires and math.isfinite(
            sum(float(leaf.sum()) for leaf in tree_leaves(at.gradient)) + float(at.energy)
        )
    return bool((objective.surely_finite(at) > fires).all())


def _counted(carry: Carry, first: Tensor) -> Carry:
    """The carry with the steps that all samples have taken since step ``first``."""
    taken = carry.step - first
    return carry._replace(steps=carry.steps + taken, evaluations=carry.evaluations + taken)


def outcome(carry: Carry, record: Any = None) -> Outcome:
    """The outcome of a descent that stopped at ``carry``."""
    status = torch.where(carry.active, Status.MAX_STEPS, Status.NONFINITE)
    status = torch.where(carry.stalled, Status.STALLED, status)
    status = torch.where(carry.fired, Status.CONVERGED, status)
    return Outcome(carry.at, carry.steps, status, carry.evaluations, record, carry.halting_state)


def _check_fires(halting: Halting, fires: Any, energy: Tensor) -> None:
    if not isinstance(fires, Tensor) or fires.dtype != torch.bool or fires.shape != energy.shape:
        got = f"{fires.dtype} of shape {tuple(fires.shape)}" if isinstance(fires, Tensor) else type(fires).__name__
        raise ValueError(
            f"The halting criterion {halting!r} returned {got}; expected torch.bool of shape "
            f"{tuple(energy.shape)}, one decision per sample."
        )
