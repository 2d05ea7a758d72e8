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
        weights.append(torch.cat([p.flatten() for p in trainer.energy.parameters()]))
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-4, atol=1e-6)
    assert not torch.allclose(weights[0], torch.cat([p.flatten() for p in energy().parameters()]))


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_out_of_range(scale):
    with pytest.raises(ValueError, match="finite scale above 0"):
        energy(scale)


def test_the_scale_is_part_of_the_configuration():
    assert MLPEnergy(**energy(2.5).config()).scale == 2.5
