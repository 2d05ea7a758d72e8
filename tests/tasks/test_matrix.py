"""Completion and inverse: the distributions, against closed forms, and the answers, against NumPy."""

import numpy as np
import pytest
import torch

from energysolve.tasks import Completion, Inverse


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("difficulty", "scale"), [("same", 20), ("harder", 5)])
def test_completion_problems(difficulty, scale):
    task = Completion()
    x, target = task.sample(4000, difficulty, generator())
    assert x.shape == target.shape == (4000, 20, 20)
    seen = x != 0
    torch.testing.assert_close(x[seen], target[seen], rtol=0, atol=0)
    assert abs(seen.double().mean().item() - 0.5) < 0.002
    # An entry of U Vᵀ sums ten products of independent standard normals.
    expected = 10 / scale**2 + 0.01
    assert target.var().item() == pytest.approx(expected, rel=0.02)
    # The floor: copying errs by half the variance.
    assert (x - target).square().mean().item() == pytest.approx(expected / 2, rel=0.02)


def test_completion_has_low_rank_without_noise():
    _, target = Completion(7, 5, rank=2, noise=0.0).sample(10, "harder", generator())
    assert target.shape == (10, 7, 5)
    values = torch.linalg.svdvals(target)
    assert (values[:, 1] > 1e-3).all()
    assert (values[:, 2:] < 1e-5).all()


@pytest.mark.parametrize(("difficulty", "shift"), [("same", 0.5), ("harder", 0.1)])
def test_inverse_problems(difficulty, shift):
    x, target = Inverse(20).sample(500, difficulty, generator())
    assert x.shape == target.shape == (500, 20, 20)
    torch.testing.assert_close(x, x.mT)
    assert np.linalg.eigvalsh(x.double().numpy()).min() > shift * (1 - 1e-4)
    # A diagonal entry is 2 Σ R² + shift, with 20 squares of mean 1/3.
    assert x.diagonal(dim1=1, dim2=2).mean().item() == pytest.approx(40 / 3 + shift, rel=0.01)
    np.testing.assert_allclose(target.numpy(), np.linalg.inv(x.double().numpy()), rtol=1e-4, atol=1e-6)


def test_the_error_is_the_mean_square_of_each_sample():
    _, target = Inverse(4).sample(3, generator=generator())

    class Answer:
        y = target + torch.tensor([0.0, 1.0, 2.0])[:, None, None]

    torch.testing.assert_close(Inverse(4).error(Answer(), target), torch.tensor([0.0, 1.0, 4.0]))
    torch.testing.assert_close(Completion(4, 4).error(Answer(), target), torch.tensor([0.0, 1.0, 4.0]))


def test_the_same_generator_gives_the_same_problems():
    for task in (Completion(6, 3), Inverse(5)):
        first, second = (task.sample(4, "harder", generator(3)) for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_bad_sizes():
    for make in (lambda: Completion(rows=0), lambda: Completion(rank=-1), lambda: Completion(noise=-1.0)):
        with pytest.raises(ValueError, match="Completion needs"):
            make()
    with pytest.raises(ValueError, match="Inverse needs"):
        Inverse(0)
    with pytest.raises(ValueError, match="'same', 'harder'"):
        Inverse().sample(2, "larger")
