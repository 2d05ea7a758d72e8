"""The paper's network as an energy."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from energysolve import SGD, EnergySolver, MLPEnergy, Never, Uniform
from energysolve.tasks import Addition
from energysolve.training import Trainer


def energy(scale=1.0, **settings):
    torch.manual_seed(0)
    return MLPEnergy(6, 3, width=8, scale=scale, **settings)


@given(scale=st.floats(1e-3, 1e3), steps=st.integers(0, 20))
def test_a_scaled_energy_with_steps_scaled_against_it_descends_alike(scale, steps):
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = [
        EnergySolver(
            energy(each).double(), SGD(0.5 / each), init=Uniform(3), halting=Never(), max_steps=steps
        ).minimize(x, generator=torch.Generator().manual_seed(2))
        for each in (1.0, scale)
    ]
    torch.testing.assert_close(found[1].y, found[0].y)
    torch.testing.assert_close(found[1].energy, found[0].energy * scale)


def test_a_scaled_energy_trains_alike():
    weights = []
    for scale in (1.0, 64.0):  # a power of two, so that both round alike
        solver = EnergySolver(energy(scale), SGD(8 / scale))
        trainer = Trainer(solver, Addition(3), batch_size=4, generator=torch.Generator().manual_seed(0))
        trainer.fit(20)
        weights.append(torch.cat([p.flatten() for p in trainer.model.parameters()]))
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-4, atol=1e-6)
    assert not torch.allclose(weights[0], torch.cat([p.flatten() for p in energy().parameters()]))


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_out_of_range(scale):
    with pytest.raises(ValueError, match="finite scale above 0"):
        energy(scale)


def test_the_scale_is_part_of_the_configuration():
    assert MLPEnergy(**energy(2.5).config()).scale == 2.5


@given(shift=st.floats(-100, 100), stretch=st.floats(0.01, 100))
def test_standardized_problems_may_be_in_any_unit(shift, stretch):
    x = torch.randn(50, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.randn(50, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    first, other = energy(standardized=True).double(), energy(standardized=True).double()
    first.standardize(x)
    other.standardize(shift + stretch * x)
    torch.testing.assert_close(other(shift + stretch * x, y), first(x, y))
    standard = (x.flatten(1) - first.x_mean) / first.x_std
    torch.testing.assert_close(standard.mean(0), torch.zeros(6, dtype=torch.float64))
    assert standard.square().mean() == pytest.approx(1)


def test_standardization_is_part_of_the_state():
    first = energy(standardized=True)
    first.standardize(torch.randn(20, 6) + 5)
    again = MLPEnergy(**first.config())
    again.load_state_dict(first.state_dict())
    x, y = torch.randn(4, 6), torch.randn(4, 3)
    assert torch.equal(first(x, y), again(x, y))
    assert not torch.equal(first(x, y), energy()(x, y))


def test_what_cannot_be_standardized():
    with pytest.raises(ValueError, match="standardized=True"):
        energy().standardize(torch.randn(4, 6))
    with pytest.raises(ValueError, match="must be finite and differ"):
        energy(standardized=True).standardize(torch.ones(4, 6))
