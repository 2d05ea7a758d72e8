"""Floors against closed forms."""

import pytest
import torch

from energysolve.evaluation.floors import MEAN_SAMPLE, mean_target
from energysolve.tasks import Addition, Completion, Inverse


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("difficulty", "scale", "zero"), [("same", 20, 2 / 3), ("harder", 5, 25 / 6)])
def test_floors_in_closed_form(difficulty, scale, zero):
    task = Addition(50)
    found = task.floors(difficulty, *task.sample(2000, difficulty, generator()))
    assert list(found) == ["predict zero"]
    assert found["predict zero"].shape == (2000,)
    assert found["predict zero"].mean().item() == pytest.approx(zero, rel=0.02)
    task = Completion()
    found = task.floors(difficulty, *task.sample(2000, difficulty, generator()))
    variance = 10 / scale**2 + 0.1**2
    assert found["copy"].mean().item() == pytest.approx(variance / 2, rel=0.02)
    assert found["predict zero"].mean().item() == pytest.approx(variance, rel=0.02)


def test_the_constants_of_the_inverse():
    task = Inverse(6)
    x, target = task.sample(3000, "harder", generator())
    means = {name: mean_target(task, name, generator(1), sample=3500) for name in task.difficulties}
    found = task.floors("harder", x, target, means.__getitem__)
    assert list(found) == ["predict zero", "training mean", "own mean"]
    # The error of the mean itself is the variance.
    assert found["own mean"].mean().item() == pytest.approx(target.var(0).mean().item(), rel=0.02)
    assert found["own mean"].mean() < found["training mean"].mean() < found["predict zero"].mean()
    same = task.sample(100, "same", generator())
    assert list(task.floors("same", *same, means.__getitem__)) == ["predict zero", "training mean"]
    assert list(task.floors("same", *same)) == ["predict zero"]
    expected = (means["same"].float() - target).square().mean((1, 2))
    torch.testing.assert_close(found["training mean"], expected)


def test_the_mean_is_of_as_many_problems_as_asked():
    task = Inverse(3)
    draw = generator()
    targets = torch.cat([task.sample(count, "same", draw)[1] for count in (1000, 1000, 7)])
    torch.testing.assert_close(mean_target(task, "same", generator(), sample=2007), targets.double().mean(0))
    assert MEAN_SAMPLE >= 10_000
    with pytest.raises(ValueError, match="difficulty"):
        mean_target(task, "larger", generator())
