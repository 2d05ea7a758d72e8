"""Training of fixed points: the loss against the steps written out, and a map whose parameters are known."""

import pytest
import torch
from torch import nn

from energysolve import LeastSquares, MLPEnergy, Uniform
from energysolve.tasks import Task
from energysolve.training import EquilibriumSteps, SupervisedTrainer


class Line(LeastSquares):
    """``m(x, y) = a x + b y``."""

    def __init__(self):
        super().__init__(None)
        self.a, self.b = nn.Parameter(torch.tensor(0.3)), nn.Parameter(torch.tensor(-0.2))

    def residuals(self, context, y):
        return y - self.a * context - self.b * y

    def config(self):
        return {}


class Doubling(Task):
    init = Uniform((2,))

    def sample(self, batch, difficulty="same", generator=None, device=None):
        x = torch.rand(batch, 2, generator=generator, device=device)
        return x, 2 * x

    def error(self, solution, target):
        return (solution.y - target).square().mean(-1)


def test_the_loss_is_that_of_the_last_steps_and_of_the_answer():
    model = EquilibriumSteps(Line(), Uniform((2,)), steps=4, tracked=2, step_size=0.5, consistency=3.0)
    x, target = Doubling().sample(5, generator=torch.Generator().manual_seed(0))
    y = model.initial(x, torch.Generator().manual_seed(1))
    loss, last = model.loss_from(x, target, y)
    a, b = (parameter.detach().clone().requires_grad_() for parameter in (model.energy.a, model.energy.b))
    for k in range(4):
        y = (y - 0.5 * (y - a * x - b * y)).detach() if k < 2 else y - 0.5 * (y - a * x - b * y)
    expected = (y - target).square().mean() + 3 * ((1 - b) * target - a * x).square().mean()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(last, y.detach())
    assert not last.requires_grad
    ours = torch.autograd.grad(loss, list(model.parameters()))
    torch.testing.assert_close(ours, torch.autograd.grad(expected, [a, b]))
    assert torch.equal(model.loss(x, target, torch.Generator().manual_seed(1)), loss)


def test_training_finds_a_map_with_the_right_fixed_point():
    model = EquilibriumSteps(Line(), Uniform((2,)), steps=20, consistency=1.0)  # long enough to arrive
    SupervisedTrainer(model, Doubling(), replay=100, batch_size=16, lr=0.05).fit(300)
    fixed_point = model.energy.a / (1 - model.energy.b)
    assert fixed_point.item() == pytest.approx(2, abs=0.01)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: EquilibriumSteps(MLPEnergy(2, 2), Uniform((2,))), TypeError, "needs a LeastSquares energy"),
        (lambda: EquilibriumSteps(Line(), Uniform((2,)), step_size=0), ValueError, r"step_size in \(0, 1\], got 0"),
        (lambda: EquilibriumSteps(Line(), Uniform((2,)), steps=0), ValueError, "steps"),
        (lambda: EquilibriumSteps(Line(), Uniform((2,)), consistency=-1), ValueError, "consistency"),
        (lambda: LeastSquares(None), TypeError, "needs a function residuals"),
    ],
)
def test_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
