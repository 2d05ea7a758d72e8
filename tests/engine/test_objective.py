"""Evaluations carry gradients only when they are asked to."""

import torch

from energysolve import Dense
from energysolve.engine.objective import Objective


def test_energies_and_gradients_are_tracked_only_on_request():
    weight = torch.tensor(2.0, requires_grad=True)
    y = torch.tensor([[3.0], [1.0]], requires_grad=True)
    objective = Objective(lambda x, y: weight * y.square().sum(-1), None, Dense(2))
    tracked = objective.tracked()((y,))
    for plain in (objective((y,)), objective.checked((y,))):
        assert not plain.energy.requires_grad
        assert not plain.gradient[0].requires_grad
    assert torch.autograd.grad(tracked.energy.sum(), weight, retain_graph=True)[0] == 10
    assert torch.autograd.grad(tracked.gradient[0].sum(), [weight, y])[0] == 8
