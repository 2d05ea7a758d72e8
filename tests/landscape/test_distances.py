"""Energy against distance: quadratics, and SciPy's rank correlation."""

import numpy as np
import pytest
import scipy.stats
import torch
from bowls import bowl, generator

from energysolve import SGD, EnergySolver, Never, Uniform
from energysolve.landscape import Interpolations, Iterates, Noise, descent, energy_by_distance, spearman


def test_ranks_agree_with_scipy():
    some = generator()
    for count in (2, 3, 10, 200):
        a, b = torch.randn(2, count, generator=some)
        assert spearman(a, b) == pytest.approx(scipy.stats.spearmanr(a, b).statistic, abs=1e-12)
        a, b = torch.randint(0, 4, (2, max(count, 5)), generator=some)  # ties
        expected = scipy.stats.spearmanr(a.numpy(), b.numpy()).statistic
        assert spearman(a.double(), b.float()) == pytest.approx(expected, abs=1e-12)
    assert spearman(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, 5.0, torch.inf])) == pytest.approx(1)
    assert np.isnan(spearman(torch.tensor([1.0, 2.0, 3.0]), torch.ones(3)))
    assert np.isnan(spearman(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, torch.nan, 0.0])))


def test_an_isotropic_quadratic_is_perfectly_ordered():
    solver, x = bowl(2.0, 2.0, 2.0)
    found = energy_by_distance(descent(solver, x, generator=generator()), x, generator=generator())
    # E - E(target) = 2 |y - x|^2, that is 6 times the mean squared distance, whatever the offset of the problem.
    torch.testing.assert_close(found.energy, 6 * found.distance, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.target_energy, 3 + x.sum(1))
    assert found.rank_correlation == pytest.approx(1, abs=1e-4)
    assert found.rank_correlation_by_problem.tolist() == pytest.approx([1] * 5, abs=1e-4)
    assert found.problem.bincount().tolist() == [60] * 5
    assert found.kind.bincount().tolist() == [100] * 3


def test_rank_correlations_are_those_of_the_points():
    solver, x = bowl(0.1, 9.0)
    found = energy_by_distance(descent(solver, x, generator=generator()), x, generator=generator())
    overall = scipy.stats.spearmanr(found.distance, found.energy).statistic
    assert found.rank_correlation == pytest.approx(overall, abs=1e-12)
    assert overall < 0.999
    for problem, value in enumerate(found.rank_correlation_by_problem.tolist()):
        chosen = found.problem == problem
        assert value == pytest.approx(scipy.stats.spearmanr(found.distance[chosen], found.energy[chosen]).statistic)


def test_a_maximum_is_ordered_the_wrong_way():
    def hill(x, y):
        return -(y - x).square().sum(1)

    x = torch.randn(2, 3, dtype=torch.float64)
    path = descent(EnergySolver(hill, SGD(0.01), init=Uniform((3,)), halting=Never(), max_steps=5), x)
    assert energy_by_distance(path, x).rank_correlation == pytest.approx(-1)


def test_kinds_of_candidates():
    target, start = torch.zeros(4000), torch.full((4000,), 3.0)
    iterates = torch.stack([start * 0.5**k for k in range(11)])
    points = Interpolations(3)(target, iterates, None)
    torch.testing.assert_close(points[:, 0], torch.tensor([1.0, 2.0, 3.0]))
    noise = Noise(3)(target, iterates, generator())
    torch.testing.assert_close(noise.square().mean(1).sqrt(), torch.tensor([1.0, 2.0, 3.0]), rtol=0.05, atol=0)
    torch.testing.assert_close(Iterates(3)(target, iterates, None), iterates[[0, 5, 10]])
    assert len(Iterates(20)(target, iterates, None)) == 11
    with pytest.raises(ValueError, match="count"):
        Noise(0)
    solver, x = bowl(1.0, 2.0)
    with pytest.raises(ValueError, match="No candidates"):
        energy_by_distance(descent(solver, x), x, candidates={})


def test_own_candidates():
    solver, x = bowl(1.0, 2.0)

    def opposite(target, iterates, generator):
        return -target.expand(2, -1)

    found = energy_by_distance(descent(solver, x), x, candidates={"opposite": opposite})
    assert found.kinds == ("opposite",)
    torch.testing.assert_close(found.distance, (4 * x.square().mean(1)).repeat_interleave(2))
