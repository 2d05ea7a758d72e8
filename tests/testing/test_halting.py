"""`check_halting` finds every fault that it promises to find, each planted alone in a criterion."""

import re

import pytest
import torch
from hypothesis import given, settings

from energysolve import After, GradientNorm, Halting, Never, halting
from energysolve.testing import check_halting
from energysolve.testing.strategies import criteria


class Falls(Halting):
    """Correct, with memory: the energy fell at every iterate so far."""

    def init(self, energy):
        return torch.ones_like(energy, dtype=torch.bool)

    def update(self, info, state):
        state = state & (info.energy < info.previous_energy)
        return state, state


@halting
def low_and_flat(info):
    return (info.energy < 1) & (info.gradient_norm < 1) & (info.step_norm < 1)


def faulty(criterion, *words: str, **options) -> None:
    with pytest.raises(AssertionError, match="(?s)" + ".*".join(re.escape(word) for word in words)):
        check_halting(criterion, **options)


@pytest.mark.parametrize("criterion", [Falls(), Falls().patience(3) | low_and_flat, low_and_flat, Never()])
def test_correct_criteria_pass(criterion):
    check_halting(criterion)


@settings(max_examples=50, deadline=None)
@given(criteria())
def test_criteria_of_the_strategies_pass(criterion):
    check_halting(criterion, steps=8, batch=3)


def test_criteria_that_look_at_answers_of_a_shape():
    @halting
    def edges_are_small(info):
        return info.free[0][:, 0, :, -1].abs().amax(1) < 0.5

    check_halting(edges_are_small, shape=(1, 4, 2))
    with pytest.raises(IndexError):
        check_halting(edges_are_small)

    @halting
    def compared_to_others(info):
        images = info.free[0]
        return (images - images.mean(0)).abs().flatten(1).amax(1) < 1.5

    faulty(compared_to_others, "differs alone and in a batch", shape=(1, 4, 2))


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize("criterion", [GradientNorm, lambda info: info.energy < 1])
def test_no_criterion(criterion):
    with pytest.raises(AssertionError, match=r"Expected a Halting.*@halting"):
        check_halting(criterion)


@pytest.mark.parametrize(
    ("decide", "words"),
    [
        (lambda info: (info.energy < 1).all(), "torch.bool of shape ()"),
        (lambda info: (info.energy < 1).unsqueeze(1), "torch.bool of shape (6, 1)"),
        (lambda info: info.energy - 1, "torch.float64 of shape (6,)"),
    ],
)
def test_no_decision_for_each_sample(decide, words):
    faulty(halting(decide), "At iterate 0 the criterion returned", words, "expected a torch.bool tensor", "(6,)")


def test_no_tensor():
    faulty(type("One", (Halting,), {"update": lambda self, info, state: (False, state)})(), "returned a bool")


def test_the_form_is_looked_at_at_every_iterate():
    wide = halting(lambda info: (info.energy < 1).expand(1 + (info.step == 20), -1).squeeze(0))
    faulty(wide, "At iterate 20 the criterion returned", "(2, 6)")


class Early(Halting):
    """Fires at iterate ``n``, later by its own account."""

    def __init__(self, n, account):
        self.n, self.account = n, account

    def fires(self, info):
        return (info.step >= self.n).expand_as(info.energy)

    def earliest(self):
        return self.account


def test_firing_before_earliest():
    faulty(Early(2, 3), "fired at iterate 2", "earliest()", "3")
    check_halting(Early(3, 3))


def test_one_sample_firing_before_earliest():
    class Low(Early):
        def fires(self, info):
            return (info.energy == info.initial_energy.min()) & (info.step == 0) & (len(info.energy) == 6)

    faulty(Low(0, 1), "fired at iterate 0", "earliest()")


def test_state_kept_on_the_object():
    class Counting(Halting):
        calls = 0

        def fires(self, info):
            self.calls += 1
            return torch.full_like(info.energy, self.calls > 21, dtype=torch.bool)

    faulty(Counting(), "differ the second time", "update(info, state)")


@pytest.mark.parametrize(
    "decide",
    [
        lambda info: info.energy < info.energy.mean(),
        lambda info: info.gradient[0].norm(dim=-1) < info.gradient[0].norm(),
        lambda info: (info.energy > 0) & (torch.arange(len(info.energy)) == 0),
        lambda info: info.free[0].sum(-1) < info.free[0].sum(),
        lambda info: info.initial_energy < info.initial_energy.max(),
    ],
)
def test_samples_judged_together(decide):
    faulty(halting(decide), "decision on sample", "differs alone and in a batch")


def test_a_fault_in_the_last_sample():
    last = halting(lambda info: (info.energy > 0) & (torch.arange(len(info.energy)) == 5))
    faulty(last, "decision on sample 5 differs alone")


def test_a_fault_that_shows_only_where_the_energy_rises():
    rises = halting(lambda info: (info.energy > info.previous_energy).any().expand_as(info.energy))
    faulty(rises, "differs alone and in a batch")


def test_a_fault_that_shows_only_where_the_energy_falls():
    """In one of the two descents the energy of some sample rises at every step."""
    falls = halting(lambda info: (info.energy < info.previous_energy).all().expand_as(info.energy) & (info.step > 3))
    faulty(falls & After(15), "differs alone and in a batch")


def test_memory_shared_by_the_batch():
    class Lowest(Halting):
        def init(self, energy):
            return energy

        def update(self, info, state):
            lowest = torch.minimum(state, info.energy).min().expand_as(state)
            return info.energy <= lowest, lowest

    faulty(Lowest(), "differs alone and in a batch")


def test_steps_and_batch_are_how_far_it_looks():
    check_halting(Early(21, 30))
    faulty(Early(21, 30), "fired at iterate 21", steps=21)
    check_halting(Early(21, 30), steps=20)
    faulty(halting(lambda info: info.energy.mean() < 1), "(3,)", batch=3)


def test_memory_on_the_object():
    """Even where it changes no decision of the checked descents."""

    class Counting(Halting):
        calls = 0

        def fires(self, info):
            self.calls += 1
            return info.energy < 1

    faulty(Counting(), "changed its attribute calls", "return it from update")
