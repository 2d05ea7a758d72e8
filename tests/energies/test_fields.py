"""Fields of experts against their formula, their symmetries and their curvature."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from energysolve import LBFGS, EnergySolver, FromInput, GradientNorm
from energysolve.energies import FieldsEnergy
from energysolve.energies.fields import _mirrored
from energysolve.images import solve_image


@pytest.fixture(scope="module")
def energy():
    torch.manual_seed(3)
    made = FieldsEnergy(filters=8, size=5, groups=4).double()
    with torch.no_grad():
        made.log_widths.fill_(0.5)
        made.log_weights.normal_()
        made.mixing.normal_(-1, 1)
    return made


def drawn(seed, *shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_formula(energy, image, sigma, y):
    """The energy of one image, with the filters one by one and the Huber function as it is written."""
    reach = energy.size // 2
    padded = torch.from_numpy(np.pad(y.detach().numpy(), reach, mode="reflect"))[None, None]
    responses = F.conv2d(padded, energy.filters()[:, None])[0] / sigma
    weights, ends = energy.potentials()
    total = (y - image).square().sum() / 2
    for pooled, a, b in zip(torch.einsum("kc,cij->kij", energy.pooling(), responses**2), weights, ends, strict=True):
        r = pooled.sqrt()

        def huber(t):
            return torch.where(t <= 1, t**2 / 2, t - 0.5)

        total = total + sigma**2 * (a * (huber(r) - b * huber(r / b))).sum()
    return total


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (2, 3), (5, 9), (8, 12), (13, 7)])
def test_formula(energy, shape):
    image, y, sigma = drawn(1, 2, 1, *shape), drawn(2, 2, 1, *shape), torch.tensor([0.1, 0.4], dtype=torch.float64)
    found = energy((image, sigma), y)
    expected = [by_formula(energy, image[i, 0], sigma[i], y[i, 0]) for i in range(2)]
    torch.testing.assert_close(found, torch.stack(expected))


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 99), st.floats(1e-3, 1e3), st.floats(-10, 10))
def test_symmetries(energy, height, width, seed, scale, shift):
    image, y, sigma = drawn(seed, 1, 1, height, width), drawn(seed + 100, 1, 1, height, width), drawn(seed, 1) + 0.01
    found = energy((image, sigma), y)

    def same(image, y, sigma=sigma):
        # The filters were made in single precision.
        torch.testing.assert_close(energy((image, sigma), y), found, rtol=1e-5, atol=1e-7)

    same(image + shift, y + shift)
    for turned in (lambda t: t.flip(2), lambda t: t.flip(3), lambda t: t.mT, lambda t: t.rot90(1, (2, 3))):
        same(turned(image), turned(y))
    scaled = energy((scale * image, scale * sigma), scale * y) / scale**2
    torch.testing.assert_close(scaled, found, rtol=1e-9, atol=0)


def test_mirroring_of_any_size():
    for side in (1, 2, 3, 5, 9):
        y = drawn(side, 1, 1, side, 1)
        expected = np.pad(y[0, 0, :, 0].numpy(), 4, mode="reflect")
        torch.testing.assert_close(_mirrored(y, 4, 2)[0, 0, :, 0], torch.from_numpy(expected))


def test_one_minimum_from_any_start(energy):
    image, sigma = drawn(5, 1, 1, 16, 16), torch.tensor([0.2], dtype=torch.float64)
    solver = EnergySolver(energy, LBFGS(), halting=GradientNorm(rtol=1e-9), max_steps=400)
    answers = [solver.minimize((image, sigma), y=start).y for start in (image, 3 * drawn(6, 1, 1, 16, 16), 0 * image)]
    assert energy.convexity < 1
    for answer in answers[1:]:
        torch.testing.assert_close(answer, answers[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("learned", "expected"), [(2.0, 2.0), (50.0, 3.0)], ids=["within", "beyond the bound"])
def test_negative_curvature_is_learned_up_to_the_bound(learned, expected):
    """The bound is that of the worst image, a wave of the filters' strongest frequency, at the worst amplitude."""
    torch.manual_seed(0)
    energy = FieldsEnergy(filters=4, size=5, groups=4, convexity=3.0).double()
    with torch.no_grad():
        energy.log_weights.fill_(5.0)
        energy.log_widths.fill_(3.0)
        energy.log_curvature.fill_(math.log(learned))
    weights, ends = energy.potentials()
    response = torch.fft.rfft2(energy.filters(), s=(64, 64)).abs().square()
    negative = torch.einsum("c,cij->ij", (weights / ends) @ energy.pooling(), response)
    assert negative.max().item() == pytest.approx(expected, rel=1e-2)


def test_images_of_one_colour_and_one_pixel(energy):
    for shape in ((1, 1), (20, 20)):
        image = torch.full((1, 1, *shape), 0.3, dtype=torch.float64)
        solution = EnergySolver(energy, init=FromInput()).minimize((image, torch.tensor([0.1]).double()))
        torch.testing.assert_close(solution.y, image)


def test_the_noise_of_a_large_image_is_estimated_once_for_all_tiles():
    torch.manual_seed(1)
    solver = EnergySolver(FieldsEnergy(4, 5, 4), init=FromInput(), max_steps=20)
    generator = torch.Generator().manual_seed(0)
    noise = torch.cat([0.02 * torch.randn(40, 40, generator=generator), torch.randn(40, 40, generator=generator)])
    found = solve_image(solver, (0.5 + 0.1 * noise).numpy(), tile=16, overlap=8)
    level = solver.energy.noise_level((0.5 + 0.1 * noise)[None, None])
    told = solve_image(solver, (0.5 + 0.1 * noise).numpy(), level.item(), tile=16, overlap=8)
    np.testing.assert_allclose(found.image, told.image, atol=1e-5)


def test_refusals(energy):
    with pytest.raises(ValueError, match=r"\(batch, 1, H, W\).*\(2, 3, 8, 8\)"):
        energy(torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8))
    with pytest.raises(ValueError, match="one noise level for each of the 2 images"):
        energy((torch.rand(2, 1, 8, 8), torch.rand(3)), torch.rand(2, 1, 8, 8))
    with pytest.raises(ValueError, match=r"expected answers \(2, 1, 8, 8\) like the images"):
        energy((torch.rand(2, 1, 8, 8), torch.rand(2)), torch.rand(2, 1, 8, 9))
    with pytest.raises(ValueError, match="16 x 16"):
        energy(torch.rand(2, 1, 8, 40), torch.rand(2, 1, 8, 40))
    for wrong in ({"filters": 6}, {"groups": 2}, {"size": 7}, {"convexity": -1}):
        with pytest.raises((ValueError, TypeError), match=next(iter(wrong))):
            FieldsEnergy(**wrong)
