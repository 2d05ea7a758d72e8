"""What the strategies generate, and that they leave out nothing that they name."""

import optree
import pytest
import torch
from hypothesis import find, given, settings
from hypothesis import strategies as st

from energysolve import (
    SGD,
    Adam,
    After,
    Dense,
    EnergyChange,
    EnergyIncrease,
    GradientNorm,
    Momentum,
    Never,
    Projected,
    RMSProp,
    Segment,
    StepNorm,
    TargetEnergy,
    TorchOpt,
)
from energysolve.halting import Both, Either, Patience
from energysolve.testing.strategies import (
    batches,
    criteria,
    energies,
    optimizers,
    quadratic,
    simple_criteria,
    tolerances,
)

SEARCH = settings(max_examples=2000, deadline=None, database=None, derandomize=True)


def structure(tree):
    return optree.tree_map(lambda leaf: tuple(leaf.shape[1:]), tree)


@settings(max_examples=200, deadline=None)
@given(batches(min_batch=2, max_batch=3))
def test_batches_hold_together(batch):
    layout = batch.layout
    assert 2 <= layout.batch <= 3
    assert len(batch.x["width"]) == layout.batch
    assert (batch.x["width"] >= 0.5).all()
    assert isinstance(layout, Segment) == ("index" in batch.x)
    trees = [batch.y, batch.x["target"], *([] if batch.z is None else [batch.z])]
    for tree in trees:
        assert structure(tree) == structure(batch.y)
        assert all(len(leaf) == layout.rows and leaf.dtype == torch.float64 for leaf in optree.tree_leaves(tree))
    assert not torch.equal(*(optree.tree_leaves(tree)[0] for tree in (batch.y, batch.x["target"])))


@pytest.mark.parametrize(
    "holds",
    [
        lambda batch: isinstance(batch.layout, Dense),
        lambda batch: isinstance(batch.layout, Segment) and len(batch.layout.index.unique()) < batch.layout.batch,
        lambda batch: isinstance(batch.layout, Segment) and (batch.layout.index.diff() < 0).any(),
        lambda batch: batch.z is not None,
        lambda batch: isinstance(batch.y, torch.Tensor) and batch.y.ndim == 1,
        lambda batch: isinstance(batch.y, tuple) and len(batch.y) == 2,
        lambda batch: isinstance(batch.y, dict) and len(batch.y) == 2,
        lambda batch: batch.layout.batch == 1,
        lambda batch: batch.layout.batch == 4,
    ],
)
def test_every_kind_of_batch_is_drawn(holds):
    find(batches(), lambda batch: bool(holds(batch)), settings=SEARCH)


def test_the_dtype_of_a_batch_is_the_one_asked_for():
    batch = find(batches(dtype=torch.float32), lambda batch: batch.z is not None, settings=SEARCH)
    floats = [batch.x["width"], *optree.tree_leaves((batch.x["target"], batch.y, batch.z))]
    assert {leaf.dtype for leaf in floats} == {torch.float32}


@settings(max_examples=200, deadline=None)
@given(energies(), batches(min_batch=2), st.data())
def test_a_selection_of_a_batch_has_the_energies_of_its_samples(energy, batch, data):
    samples = data.draw(st.permutations(range(batch.layout.batch)))[: data.draw(st.integers(1, batch.layout.batch))]
    part = batch.select(torch.tensor(samples))

    def value(batch):
        return energy(batch.x, batch.y, *([] if batch.z is None else [batch.z]))

    assert torch.equal(value(part), value(batch)[samples])


@settings(max_examples=100, deadline=None)
@given(energies(), batches())
def test_energies_are_least_where_the_answers_meet_the_targets(energy, batch):
    """Zero there, and more anywhere else, for every shape; a scratchpad adds its distance from the answers."""
    pads = () if batch.z is None else (batch.x["target"],)
    assert (energy(batch.x, batch.x["target"], *pads) == 0).all()
    owned = batch.layout.sum(torch.ones(batch.layout.rows, 1)) > 0
    assert torch.equal(energy(batch.x, batch.y, *([] if batch.z is None else [batch.z])) > 0, owned)


def test_the_energy_of_a_batch_written_out():
    simple = lambda batch: batch.z is not None and isinstance(batch.layout, Dense)  # noqa: E731
    batch = find(batches(), simple, settings=SEARCH)
    energy = find(energies(), lambda energy: energy.shape is quadratic, settings=SEARCH)
    energy.stiffness.data.fill_(2)
    expected = 2 * batch.x["width"][:, 0] * (batch.y - batch.x["target"]).square().sum(-1)
    torch.testing.assert_close(energy(batch.x, batch.y, batch.z), expected + 0.3 * (batch.z - batch.y).square().sum(-1))


@given(tolerances(1e-3, 1e-2))
def test_tolerances_lie_within_their_bounds(tolerance):
    assert 1e-3 <= tolerance <= 1e-2


@pytest.mark.parametrize("kind", [Either, Both, Patience])
def test_criteria_are_also_compositions(kind):
    find(criteria(), lambda criterion: isinstance(criterion, kind), settings=SEARCH)


def kinds(strategy):
    """The classes that are among 200 draws."""
    drawn = set()

    @settings(max_examples=200, database=None, derandomize=True, deadline=None)
    @given(strategy)
    def draw(value):
        drawn.add(type(value))

    draw()
    return drawn


def test_simple_criteria_are_of_every_kind_and_not_composed():
    assert kinds(simple_criteria()) == {
        After,
        EnergyChange,
        EnergyIncrease,
        GradientNorm,
        Never,
        StepNorm,
        TargetEnergy,
    }


def test_optimizers_are_of_every_kind():
    assert kinds(optimizers()) >= {SGD, Momentum, Adam, RMSProp, TorchOpt, Projected}


def test_projections_bind_at_times():
    """The box of the strategy cuts off answers that the batches start from."""
    projected = find(optimizers(), lambda optimizer: isinstance(optimizer, Projected), settings=SEARCH)
    batch = find(batches(), lambda batch: isinstance(batch.y, torch.Tensor), settings=SEARCH)
    assert projected.projection(batch.y + 10).max() == 1.5
    assert projected.projection(batch.y - 10).min() == -1
