"""The loss of minima against the closed form of a quadratic energy."""

import pytest
import torch
from torch import nn

from energysolve import Energy, EnergySolver, Implicit, Zeros
from energysolve.energy import Normalized
from energysolve.training import MinimumLoss


class Shrink(Energy):
    """``1/2 |y - x|^2 + w/2 |y|^2``: its minimum is ``x / (1 + w)``."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))

    def normalized(self, x):
        unit = x.abs().amax(1)
        return Normalized(x / unit[:, None], unit, unit.square())

    def evaluate(self, context, y):
        return ((y - context).square() + self.weight * y.square()).sum(1) / 2

    def config(self):
        return {}


def problems():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 3, generator=generator, dtype=torch.float64) * torch.tensor([[1.0], [2.0], [30.0]]).repeat(2, 1)
    return x, 0.8 * x + 0.01 * torch.randn(6, 3, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("power", [0.0, 1.25, 2.0])
def test_loss_and_derivative(power):
    energy, (x, target) = Shrink(), problems()
    solver = EnergySolver(energy, init=Zeros((3,)), differentiation=Implicit())
    model = MinimumLoss(solver, power)
    loss = model.loss(x, target)
    loss.backward()
    weight = energy.weight.detach().clone().requires_grad_()
    errors = (x / (1 + weight) - target).square().mean(1) / x.abs().amax(1) ** power
    errors.mean().backward()
    assert loss.item() == pytest.approx(errors.mean().item(), rel=1e-6)
    assert energy.weight.grad is not None
    assert weight.grad is not None
    assert energy.weight.grad.item() == pytest.approx(weight.grad.item(), rel=1e-6)


def test_problems_as_training_poses_them():
    energy, (x, target) = Shrink(), problems()
    solver = EnergySolver(energy, init=Zeros((3,)), differentiation=Implicit())
    posed = MinimumLoss(solver, pose=lambda x, target: 1.5 * target)  # the minimum is the target
    assert posed.loss(x, target).item() == pytest.approx(0, abs=1e-9)


def test_power_is_checked():
    with pytest.raises(ValueError, match="power"):
        MinimumLoss(EnergySolver(Shrink(), init=Zeros((3,))), -1)
