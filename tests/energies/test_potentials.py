"""Sums of potentials a few rows at a time, against all responses at once and finite differences."""

import pytest
import torch

from energysolve.energies import FieldsEnergy, potentials
from energysolve.energies.potentials import potentials_at_once, sum_of_potentials
from energysolve.testing import check_energy


@pytest.fixture(autouse=True)
def few_blocks_at_once(monkeypatch):
    monkeypatch.setattr(potentials, "CHUNK", 6)


def problem(batch=2, masked=True):
    """Two images of 7 by 5 blocks of four pixels, and filters that reach two blocks: 6 by 4 responses."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    filters, groups = 3, 2
    weights, ends = drawn(groups, 1).abs() / 2, 1 + drawn(groups, 1).abs()
    inside = (drawn(4, 1, 24) > 0).double() if masked else None
    parts = drawn(4 * filters, 4, 2, 2), drawn(groups, filters).abs(), weights, (1 - 1 / ends) * weights, ends, inside
    return drawn(batch, 4, 7, 5).requires_grad_(), parts


@pytest.mark.parametrize("masked", [False, True], ids=["whole blocks", "pixels beyond the border"])
@pytest.mark.parametrize("chunk", [1, 6, 8, 23], ids=lambda chunk: f"{chunk} blocks at once")
def test_values_and_derivatives_are_those_of_all_responses_at_once(monkeypatch, chunk, masked):
    monkeypatch.setattr(potentials, "CHUNK", chunk)
    image, parts = problem(masked=masked)
    expected, found = potentials_at_once(image, *parts), sum_of_potentials(image, *parts)
    assert torch.allclose(found, expected)
    derivatives = [torch.autograd.grad(each, image, torch.tensor([1.0, -2.0]).double()) for each in (found, expected)]
    assert torch.allclose(derivatives[0][0], derivatives[1][0])
    with torch.no_grad():
        assert torch.allclose(sum_of_potentials(image, *parts), expected)


def test_the_derivative_is_differentiable():
    image, parts = problem(batch=1)
    assert torch.autograd.gradcheck(lambda y: sum_of_potentials(y, *parts), image)
    assert torch.autograd.gradgradcheck(lambda y: sum_of_potentials(y, *parts), image)


def test_derivatives_by_the_parameters_are_not_lost():
    image, parts = problem()
    learned = [part.requires_grad_() for part in parts[:-1]]
    found = torch.autograd.grad(sum_of_potentials(image, *parts).sum(), learned)
    expected = torch.autograd.grad(potentials_at_once(image, *parts).sum(), learned)
    assert all(map(torch.equal, found, expected))


def test_an_image_has_the_energy_in_a_batch_that_it_has_alone():
    image, parts = problem(batch=3)
    alone = torch.cat([sum_of_potentials(each[None], *parts) for each in image])
    assert torch.equal(sum_of_potentials(image, *parts), alone)


def test_the_energy_of_images_in_chunks_keeps_its_contract():
    torch.manual_seed(0)
    energy = FieldsEnergy(filters=4, size=5, groups=4)
    x = torch.rand(2, 1, 22, 19), torch.tensor([0.1, 0.2])
    check_energy(energy, x, torch.rand(2, 1, 22, 19))
