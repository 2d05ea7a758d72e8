"""Agreement up to rounding, at and around its bounds."""

import pytest
import torch

from energysolve import Dense, Segment
from energysolve.engine.agreement import same_alone, same_to_rounding
from energysolve.optimizers.base import Evaluation

EPS = torch.finfo(torch.float64).eps


def numbers(*values, dtype=torch.float64):
    return torch.tensor(values, dtype=dtype)


@pytest.mark.parametrize(
    ("difference", "change", "offset", "expected"),
    [
        (0.0, 0.0, 0.0, True),
        (1e-9, 1.0, 0.0, True),  # the root of eps is 1.5e-8
        (1e-7, 1.0, 0.0, False),
        (-1e-7, 1.0, 0.0, False),
        (1e-7, 10.0, 0.0, True),
        (1e-6, 10.0, 0.0, False),
        (10 * EPS * 1e6, 0.0, 1e6, True),
        (10 * EPS * 1e6, 0.0, -1e6, True),
        (200 * EPS * 1e6, 0.0, 1e6, False),
        (1e-12, 0.0, 0.0, False),
    ],
)
def test_energies_agree_within_their_change_or_their_rounding(difference, change, offset, expected):
    known = numbers(offset, 0.0)
    for found in (known + numbers(difference, 0.0), known + numbers(0.0, difference)):
        assert same_to_rounding(known, found, torch.tensor(change), EPS) is expected


def test_the_bound_itself_agrees():
    eps = 2.0**-20
    assert same_to_rounding(numbers(0.0), numbers(2.0**-10), torch.tensor(1.0), eps)
    assert same_to_rounding(numbers(1.0), numbers(1.0 + 100 * eps), torch.tensor(0.0), eps)


def evaluation(energy, *gradient, dtype=torch.float64):
    leaves = tuple(torch.tensor(leaf, dtype=dtype) for leaf in gradient)
    return Evaluation(leaves, numbers(*energy, dtype=dtype), leaves)


def pair(dtype=torch.float64):
    first = evaluation([1.0, 2.0, 3.0], [[1.0], [2.0], [3.0]], [4.0, 5.0, 6.0], dtype=dtype)
    second = evaluation([0.0, 0.5, 1.0], [[0.0], [1.0], [0.0]], [0.0, 0.0, 1.0], dtype=dtype)
    return first, second


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("sample", range(3))
@pytest.mark.parametrize("field", ["energy", "first leaf", "second leaf"])
@pytest.mark.parametrize(("size", "expected"), [(1e-9, True), (1e-6, False), (-1e-6, False), (torch.nan, False)])
def test_a_difference_anywhere_is_found(which, sample, field, size, expected):
    found = list(pair())
    energy, gradient = found[which].energy.clone(), [leaf.clone() for leaf in found[which].gradient]
    {"energy": energy, "first leaf": gradient[0], "second leaf": gradient[1]}[field][sample] += size
    found[which] = Evaluation(found[which].free, energy, tuple(gradient))
    assert same_alone(pair(), found, Dense(3)) is expected
    others = torch.arange(3) != sample
    assert same_alone(pair(), found, Dense(3), others)
    assert same_alone(pair(), found, Dense(3), ~others) is expected


def test_the_precision_is_that_of_the_least_precise_leaf():
    def mixed(size):
        at = pair()[0]
        return at._replace(gradient=(at.gradient[0] + size, at.gradient[1].float())), pair()[1]

    assert same_alone(mixed(0.0), mixed(1e-5), Dense(3))
    assert not same_alone(mixed(0.0), mixed(1e-1), Dense(3))
    assert same_alone(pair(torch.float32), pair(torch.float32), Dense(3))


def test_the_scale_is_the_change_and_the_slope_of_the_samples_compared():
    """A sample that is left out, with a large gradient and a large change, makes nothing looser."""
    known = [at._replace(energy=at.energy.clone(), gradient=tuple(g.clone() for g in at.gradient)) for at in pair()]
    known[0].energy[2] = 1e9
    known[0].gradient[0][2] = 1e9
    compared = torch.tensor([True, True, False])
    for field in (0, 1):
        found = [at._replace(energy=at.energy.clone(), gradient=tuple(g.clone() for g in at.gradient)) for at in known]
        (found[0].energy if field else found[0].gradient[0])[0] += 1e-6
        assert not same_alone(known, found, Dense(3), compared)
    assert same_alone(known, known, Dense(3), compared)


def test_segments():
    layout = Segment(torch.tensor([1, 0, 1]), 2)
    known = [
        Evaluation((leaf,), numbers(*energy), (leaf,))
        for leaf, energy in ((numbers(1.0, 2.0, 3.0), (1.0, 2.0)), (numbers(0.0, 0.0, 1.0), (0.0, 0.0)))
    ]
    found = [known[0], known[1]._replace(gradient=(numbers(0.0, 1.0, 1.0),))]
    assert not same_alone(known, found, layout)
    assert same_alone(known, found, layout, torch.tensor([False, True]))
    assert not same_alone(known, found, layout, torch.tensor([True, False]))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_gradients_agree_relative_to_the_largest(scale):
    def scaled(at, energy=0.0, slope=0.0):
        gradient = (scale * (at.gradient[0] + slope), scale * at.gradient[1])
        return Evaluation(at.free, scale * (at.energy + energy), gradient)

    first, second = pair()
    known = [scaled(first), scaled(second)]
    for field in ("energy", "slope"):
        assert same_alone(known, [scaled(first, **{field: 1e-9}), scaled(second)], Dense(3))
        assert not same_alone(known, [scaled(first, **{field: 1e-6}), scaled(second)], Dense(3))


def test_the_offset_of_an_energy_makes_nothing_looser_but_its_rounding():
    known = [at._replace(energy=at.energy + 1e6) for at in pair()]
    assert same_alone(known, [known[0]._replace(energy=known[0].energy + 1e-9), known[1]], Dense(3))
    assert not same_alone(known, [known[0]._replace(energy=known[0].energy + 1e-5), known[1]], Dense(3))
