"""`check_optimizer` finds every fault that it promises to find, each planted alone in gradient descent."""

import re

import optree
import pytest
import torch
import torchopt
from hypothesis import given, settings

from energysolve import LBFGS, SGD, Adam, Backtracking, Dense, Momentum, NewtonCG, Projected, TorchOpt
from energysolve.optimizers import Ball, InnerOptimizer, Simplex
from energysolve.optimizers.base import PerSample
from energysolve.testing import check_optimizer
from energysolve.testing.strategies import optimizers


class Descent(InnerOptimizer):
    """Correct; the faults override ``step``."""

    def init(self, free):
        return torch.zeros((), dtype=torch.int64)

    def step(self, at, state, evaluate):
        return self.moved(at), state + 1

    def moved(self, at, length=0.1):
        return tuple(leaf - length * slope for leaf, slope in zip(at.free, at.gradient, strict=True))


def fault(step=None, init=None) -> Descent:
    body = {name: method for name, method in (("step", step), ("init", init)) if method is not None}
    return type("Faulty", (Descent,), body)()


def faulty(optimizer, *words: str, **options) -> None:
    with pytest.raises(AssertionError, match="(?s)" + ".*".join(re.escape(word) for word in words)):
        check_optimizer(optimizer, **options)


@pytest.mark.parametrize(
    "optimizer",
    [
        Descent(),
        Projected(SGD(0.1), Ball()),
        TorchOpt(lambda: torchopt.sgd(0.1, momentum=0.9, nesterov=True)),
        Projected(SGD(0.1), Simplex()),
    ],
)
def test_correct_optimizers_pass(optimizer):
    check_optimizer(optimizer)


@settings(max_examples=30, deadline=None)
@given(optimizers())
def test_optimizers_of_the_strategies_pass(optimizer):
    check_optimizer(optimizer, steps=3, batch=2)


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize("optimizer", [SGD, torchopt.sgd(0.1)], ids=["class", "torchopt"])
def test_no_optimizer(optimizer):
    with pytest.raises(AssertionError, match="Expected an InnerOptimizer instance"):
        check_optimizer(optimizer)


def test_state_kept_on_the_object():
    def step(self, at, state, evaluate):
        self.length = 0.9 * getattr(self, "length", 0.1)
        return self.moved(at, self.length), state

    faulty(fault(step), "different results the second time", "no state on the object")


def test_state_kept_on_the_object_from_the_fifth_step_on():
    def step(self, at, state, evaluate):
        self.calls = getattr(self, "calls", 0) + 1
        return self.moved(at, 0.1 if self.calls <= 9 else 0.2), state

    faulty(fault(step), "different results the second time")


@pytest.mark.parametrize("which", ["free", "gradient"])
def test_the_evaluation_changed_in_place(which):
    def step(self, at, state, evaluate):
        moved = self.moved(at)
        getattr(at, which)[1].mul_(0.5)
        return moved, state

    faulty(fault(step), "A step changed the evaluation or the state", "in place")


def test_the_state_changed_in_place():
    """Steps are right, but an earlier state is lost: replaying the last steps would begin at a later one."""

    def init(self, free):
        return optree.tree_map(torch.zeros_like, free)

    def step(self, at, state, evaluate):
        for velocity, slope in zip(state, at.gradient, strict=True):
            velocity.mul_(0.9).add_(slope)
        return tuple(leaf - 0.1 * velocity for leaf, velocity in zip(at.free, state, strict=True)), state

    faulty(fault(step, init), "A step changed the evaluation or the state", "in place")


@pytest.mark.parametrize(
    "change",
    [
        list,
        lambda free: free[:1],
        lambda free: tuple(leaf.unsqueeze(1) for leaf in free),
        lambda free: (free[0], free[1].float()),
    ],
    ids=["list", "no scratchpad", "shape", "dtype"],
)
def test_other_free_variables(change):
    faulty(fault(lambda self, at, state, evaluate: (change(self.moved(at)), state)), "changed the free variables")


def test_other_free_variables_at_the_last_step():
    def step(self, at, state, evaluate):
        return (list if int(state) == 4 else tuple)(self.moved(at)), state + 1

    faulty(fault(step), "changed the free variables")


@pytest.mark.parametrize(
    "change", [lambda state: state.unsqueeze(0), lambda state: state.double() + (state > 1), lambda state: (state,) * 2]
)
def test_another_state(change):
    def step(self, at, state, evaluate):
        found, count = (
            state if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], int) else (state, 0)
        )
        return self.moved(at), (change(found) if count == 2 else found, count + 1)

    faulty(fault(step), "state changed from", "shapes and dtypes must stay")


@pytest.mark.parametrize(
    "shared",
    [
        lambda at: at.gradient[0].norm(),
        lambda at: at.energy.mean(),
        lambda at: at.gradient[1].abs().max(),
        lambda at: at.energy[-1],
        lambda at: torch.tensor(float(len(at.energy))),
    ],
)
def test_samples_that_move_together(shared):
    def step(self, at, state, evaluate):
        return self.moved(at, 0.1 / (1 + shared(at))), state

    faulty(fault(step), "iterates of sample", "differ alone and in a batch")


def test_a_line_search_over_the_batch():
    def step(self, at, state, evaluate):
        trials = [self.moved(at, length) for length in (0.1, 0.2, 0.4)]
        return min(trials, key=lambda free: float(evaluate(free).energy.sum())), state

    faulty(fault(step), "iterates of sample", "differ alone and in a batch")


def test_one_sample_that_moves_with_others():
    def step(self, at, state, evaluate):
        y, z = self.moved(at)
        return (y, z + 1e-6 * (torch.arange(len(z)) == 3).unsqueeze(1)), state

    faulty(fault(step), "iterates of sample 3 differ alone")


def test_nan_that_spreads():
    def step(self, at, state, evaluate):
        return tuple(leaf + 0 * leaf.sum() for leaf in self.moved(at)), state

    faulty(fault(step), "A sample that is NaN changed the steps of others", "torch.where")


def test_steps_and_batch_are_how_far_it_looks():
    def step(self, at, state, evaluate):
        return self.moved(at, 0.1 + 0.1 * (int(state) >= 5 and len(at.energy) > 1)), state + 1

    check_optimizer(fault(step))
    faulty(fault(step), "After step 5", steps=6)
    check_optimizer(fault(step), steps=6, batch=1)


@pytest.mark.parametrize(
    "optimizer",
    [
        LBFGS(),
        LBFGS(memory=1),
        NewtonCG(),
        Backtracking(SGD(0.1)),
        Backtracking(Momentum(0.1)),
        Backtracking(Adam(0.1)),
    ],
    ids=repr,
)
@pytest.mark.parametrize("scratchpad", [True, False])
def test_searches_pass(optimizer, scratchpad):
    check_optimizer(optimizer, scratchpad=scratchpad)


class Own(Descent):
    """For answers alone."""

    def step(self, at, state, evaluate):
        (y,), (gradient,) = at.free, at.gradient
        return (y - 0.1 * gradient,), state + 1


def test_no_scratchpad():
    check_optimizer(Own(), scratchpad=False)


class Halving(InnerOptimizer):
    """Correct: half the length after each refusal, twice the length after each step; the faults override a method."""

    searches = True

    def init(self, free):
        return self.begin(free, Dense(len(free[0])))

    def begin(self, free, layout):
        return PerSample(torch.ones(layout.batch, dtype=free[0].dtype))

    def step(self, at, state, evaluate):
        return tuple(y - state.value.unsqueeze(1) * g for y, g in zip(at.free, at.gradient, strict=True)), state

    def accept(self, at, trial, state):
        accepted = trial.energy < at.energy
        return accepted, PerSample(torch.where(accepted, 2 * state.value, state.value / 2))

    def stalled(self, state):
        return state.value < 1e-12


def halving(**methods):
    return type("Faulty", (Halving,), methods)()


def test_a_correct_search_passes():
    check_optimizer(Halving())


def test_a_search_that_accepts_a_rise():
    def accept(self, at, trial, state):
        return at.energy < torch.inf, state

    faulty(halving(accept=accept), "higher energy was accepted", "shorter step")


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize("mask", [lambda a: a.all(), lambda a: a.long(), lambda a: a.unsqueeze(1)])
@pytest.mark.parametrize("name", ["accept", "stalled"])
def test_decisions_that_are_not_one_per_sample(name, mask):
    def accept(self, at, trial, state):
        accepted, state = Halving.accept(self, at, trial, state)
        return mask(accepted), state

    def stalled(self, state):
        return mask(Halving.stalled(self, state))

    faulty(halving(**{name: {"accept": accept, "stalled": stalled}[name]}), f"{name} returned", "(4,)")


def test_accept_that_changes_its_state_in_place():
    def accept(self, at, trial, state):
        state.value.mul_(0.5)
        return trial.energy < at.energy, state

    faulty(halving(accept=accept), "accept changed", "in place")


def test_a_length_that_the_batch_shares():
    def accept(self, at, trial, state):
        accepted = trial.energy < at.energy
        return accepted, PerSample(torch.where(accepted.all(), state.value, state.value / 2))

    faulty(halving(accept=accept), "alone and in a batch")


def test_a_refusal_that_spreads_from_nan():
    def accept(self, at, trial, state):
        accepted = trial.energy < at.energy
        spread = (0 * at.energy).sum()
        return accepted, PerSample(torch.where(accepted, 2 * state.value, state.value / 2) + spread)

    faulty(halving(accept=accept), "A sample that is NaN changed the steps of others")


def test_accept_that_changes_the_dtype_of_its_state():
    def accept(self, at, trial, state):
        accepted, state = Halving.accept(self, at, trial, state)
        other = torch.float32 if state.value.dtype == torch.float64 else torch.float64
        return accepted, PerSample(state.value.to(other))

    faulty(halving(accept=accept), "state changed from")


def test_steps_that_cannot_be_repeated():
    def follow(self, at, state, saved):
        return state

    faulty(halving(follow=follow), "After follow", "does not repeat")
