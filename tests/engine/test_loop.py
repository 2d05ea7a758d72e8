"""The loop itself: what observers see, and samples that are not finite all at once."""

import pytest
import torch

from energysolve import SGD, After, Dense, EnergySolver, GradientNorm, Never, Status, TargetEnergy
from energysolve.engine.loop import Descent, run
from energysolve.engine.objective import Objective

X = torch.tensor([[0.8], [1.0], [20.0]])


def bowl(x, y):
    return (x - y).square().sum(-1)


@pytest.mark.parametrize("sync_every", [1, 2])
@pytest.mark.parametrize("halting", [Never(), TargetEnergy(0.7), TargetEnergy(0.3)], ids=repr)
def test_observers_see_every_iterate_with_its_index(halting, sync_every):
    """Whether all samples are active until the end, or one halts at once, or on the way."""
    descent, seen = Descent(Objective(bowl, X, Dense(3)), SGD(0.1), halting), []

    def observe(step, carry):
        seen.append((step, int(carry.step), carry.at.free[0].flatten().tolist()))

    first = descent.start((torch.zeros(3, 1),))
    middle = run(descent, first, range(4), sync_every=sync_every, observers=(observe,))
    run(descent, middle, range(4, 6), sync_every=sync_every, observers=(observe,))
    assert [step for step, _, _ in seen] == [step for _, step, _ in seen] == [1, 2, 3, 4, 5, 6]
    carry = first
    for _, _, answers in seen:
        carry = descent.advance(carry)
        assert carry.at.free[0].flatten().tolist() == answers


@pytest.mark.parametrize("sync_every", [1, 2])
def test_a_criterion_that_fires_where_all_samples_are_not_finite(sync_every):
    def cliff(x, y):
        return bowl(x, y) + torch.where(y > 0.5, torch.nan, 0.0).sum(-1)

    y = torch.zeros(3, 1)
    solver = EnergySolver(cliff, SGD(10.0), halting=After(1), max_steps=3, sync_every=sync_every)
    solution = solver.minimize(X.clamp(min=1), y)
    assert solution.status.tolist() == [Status.NONFINITE] * 3
    assert solution.steps.tolist() == [0] * 3
    assert torch.equal(solution.y, y)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf], ids=str)
@pytest.mark.parametrize("slope", [False, True], ids=["energy", "gradient"])
def test_a_problem_alone_ends_where_it_ends_in_a_batch(bad, slope):
    """Its numbers are looked at one by one, those of a batch in tensors."""

    def energy(x, y):
        outside = y.sum(1) > 1.5
        beyond = torch.where(outside, bad, 0.0)
        return (y - x).square().sum(1) + (beyond * (y - y.detach()).sum(1) if slope else beyond)

    x, y = torch.tensor([[1.0, 1.0], [0.5, 0.5]]), torch.zeros(2, 2)
    solver = EnergySolver(energy, SGD(0.1), halting=GradientNorm(1e-3), max_steps=100)
    together = solver.minimize(x, y)
    assert together.status.tolist() == [Status.NONFINITE, Status.CONVERGED]
    assert together.steps[0] > 1
    for index in range(2):
        alone = solver.minimize(x[index : index + 1], y[index : index + 1])
        for name in ("y", "energy", "steps", "status", "evaluations"):
            assert torch.equal(getattr(alone, name)[0], getattr(together, name)[index]), name
