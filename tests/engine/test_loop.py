"""The loop itself: what observers see, and samples that are not finite all at once."""

import pytest
import torch

from energysolve import SGD, After, Dense, EnergySolver, Never, Status, TargetEnergy
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
