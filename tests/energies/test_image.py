"""The convolutional energy of images: its laws, and that it learns."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from energysolve import SGD, EnergySolver, GradientNorm, Trainer, Truncated
from energysolve.energies import ConvEnergy
from energysolve.initializers import FromInput
from energysolve.tasks import Denoising

SIZES = st.integers(1, 11)


def energy_of(seed=0, symmetric=False):
    torch.manual_seed(seed)
    return ConvEnergy(width=4, depth=1, features=6, symmetric=symmetric).double().eval()


def images(batch, height, width, seed=0):
    return torch.rand(batch, 1, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(SIZES, SIZES, st.floats(0.01, 100))
def test_it_scales_with_image_and_noise(height, width, scale):
    energy, x, y = energy_of(), images(2, height, width), images(2, height, width, 1)
    torch.testing.assert_close(energy(scale * x, scale * y), scale**2 * energy(x, y))
    solver = EnergySolver(energy, SGD(0.3), init=FromInput(), max_steps=5)
    torch.testing.assert_close(solver.minimize(scale * x).y, scale * solver.minimize(x).y)


@given(SIZES, SIZES, st.floats(-9, 9))
def test_a_constant_shifts_the_answer(height, width, constant):
    energy, x, y = energy_of(), images(2, height, width), images(2, height, width, 1)
    torch.testing.assert_close(energy(x + constant, y + constant), energy(x, y), rtol=1e-6, atol=1e-10)
    solver = EnergySolver(energy, SGD(0.3), init=FromInput(), max_steps=3)
    torch.testing.assert_close(solver.minimize(x + constant).y, solver.minimize(x).y + constant, rtol=1e-6, atol=1e-8)
    flat = torch.full_like(x, constant)
    torch.testing.assert_close(solver.minimize(flat).y, flat, rtol=1e-9, atol=1e-9)


@given(SIZES, SIZES, st.integers(0, 3), st.booleans())
def test_flips_and_turns_commute_with_symmetric_energies(height, width, turns, flipped):
    def moved(each):
        return (each.flip(2) if flipped else each).rot90(turns, (2, 3))

    energy, x, y = energy_of(symmetric=True), images(2, height, width), images(2, height, width, 1)
    torch.testing.assert_close(energy(moved(x), moved(y)), energy(x, y))
    solver = EnergySolver(energy, SGD(0.3), init=FromInput(), max_steps=3)
    torch.testing.assert_close(solver.minimize(moved(x)).y, moved(solver.minimize(x).y))


def test_symmetric_energies_are_means_over_all_views():
    energy, x, y = energy_of(), images(1, 6, 9), images(1, 6, 9, 1)
    views = [
        lambda each, turns=turns, flipped=flipped: (each.mT if flipped else each).rot90(turns, (2, 3))
        for turns in range(4)
        for flipped in (False, True)
    ]
    expected = torch.stack([energy(view(x), view(y)) for view in views])
    assert expected.std() > 0  # the plain energy tells them apart
    symmetric = energy_of(symmetric=True)
    torch.testing.assert_close(symmetric(x, y), expected.mean(0))
    torch.testing.assert_close(symmetric.train()(x, y), energy(x, y))  # training does without


@given(SIZES, SIZES, st.integers(0, 99))
def test_it_is_strongly_convex(height, width, seed):
    energy, x = energy_of(), images(1, height, width)
    a, b = images(1, height, width, seed) * 3, images(1, height, width, seed + 100) * 3
    middle = (energy(x, a) + energy(x, b)) / 2 - (a - b).square().sum() / 8
    assert energy(x, (a + b) / 2) <= middle + 1e-9


def test_minimizers_from_all_starts_are_one():
    energy, x = energy_of(), images(3, 9, 6)
    solver = EnergySolver(energy, halting=GradientNorm(1e-9), max_steps=300)
    found = [solver.minimize(x, start).y for start in (x, 5 * images(3, 9, 6, 1))]
    torch.testing.assert_close(*found, rtol=0, atol=1e-8)
    (gradient,) = torch.autograd.grad(energy(x, found[0].requires_grad_()).sum(), found[0])
    assert gradient.abs().max() < 1e-8
    assert (found[0] - x).abs().max() > 1e-3


def test_the_noise_level_is_not_used():
    energy, x = energy_of(), images(2, 5, 5)
    torch.testing.assert_close(energy((x, torch.ones(2, dtype=x.dtype)), x), energy(x, x))


def test_derivatives_of_both_orders():
    energy, x = energy_of(), images(1, 5, 3)
    y = images(1, 5, 3, 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda y: energy(x, y), y)
    assert torch.autograd.gradgradcheck(lambda y: energy(x, y), y)


def test_training_by_the_last_steps_removes_noise():
    torch.manual_seed(0)
    task = Denoising(24)
    solver = EnergySolver(ConvEnergy(8, 0, 8), SGD(0.5), init=FromInput())
    options = {"train_steps": 5, "differentiation": Truncated(2), "replay": 64}
    Trainer(solver, task, batch_size=8, lr=1e-2, clip_norm=0.05, **options).fit(60)
    x, target = task.sample(40, "50", torch.Generator().manual_seed(1))
    found = solver.replace(max_steps=30, halting=GradientNorm(rtol=1e-3)).minimize(x)
    assert task.error(found, target).mean() < 0.4 * task.error_of(x, x, target).mean()


def test_saved_and_loaded(tmp_path):
    solver = EnergySolver(energy_of(), SGD(0.3), init=FromInput(), max_steps=5)
    solver.save_pretrained(tmp_path)
    x = images(2, 6, 7)
    torch.testing.assert_close(EnergySolver.from_pretrained(tmp_path).minimize(x).y, solver.minimize(x).y)


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="width"):
        ConvEnergy(width=0)
    with pytest.raises(ValueError, match="shape of the images"):
        energy_of()(images(1, 4, 4), images(1, 4, 5))
    with pytest.raises(ValueError, match="at least one pixel"):
        energy_of()(images(1, 0, 4), images(1, 0, 4))
