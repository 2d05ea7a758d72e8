"""What a user gets wrong in a task, an energy or a call of the trainer is said in the user's terms."""

import pytest
import torch
from torch import nn

from energysolve import SGD, Energy, EnergySolver, MLPEnergy, Uniform
from energysolve.tasks import Task
from energysolve.training import SupervisedTrainer, Trainer


class Halves(Task):
    init = Uniform((3,))

    def sample(self, batch, difficulty="same", generator=None, device=None):
        x = torch.rand(batch, 3, generator=generator, device=device)
        return x, x / 2

    def error(self, solution, target):
        return (solution.y - target).square().mean(-1)


def train(task=None, energy=None, **options):
    task = task or Halves()
    energy = energy or MLPEnergy(3, 3, width=8)
    Trainer(EnergySolver(energy, SGD(1.0), init=task.init), task, batch_size=4, **options).fit(2)


class OverTheBatch(Halves):
    def error(self, solution, target):
        return (solution.y - target).square().mean()


class OfEachEntry(Halves):
    def error(self, solution, target):
        return (solution.y - target).square()


class AsList(Halves):
    def error(self, solution, target):
        return [0.0] * 4


class Detached(Halves):
    def error(self, solution, target):
        return (solution.y.detach() - target).square().mean(-1)


class OneTensor(Halves):
    def sample(self, *arguments, **options):
        return super().sample(*arguments, **options)[0]


class TooFew(Halves):
    def sample(self, batch, *arguments, **options):
        return super().sample(batch - 1, *arguments, **options)


class WithoutStart(Halves):
    init = None


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (OverTheBatch, r"OverTheBatch.error must return one number per sample, shape \(4,\); got shape \(\)"),
        (OfEachEntry, r"shape \(4,\); got shape \(4, 3\).*\.mean\(-1\)"),
        (AsList, "got a list"),
        (Detached, r"loss does not depend on the parameters.*no \.detach\(\)"),
        (OneTensor, r"OneTensor.sample must return problems and answers, \(x, target\); got a Tensor"),
        (TooFew, "TooFew.sample was asked for 4 problems and drew 3"),
        (WithoutStart, "no initial answers: give the solver init=, or WithoutStart an attribute init"),
    ],
)
def test_tasks(task, words):
    with pytest.raises(ValueError, match=words):
        train(task(), replay=20)


class Unused(Energy):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def evaluate(self, context, y):
        return (y - self.layer(context).detach()).square().sum(-1)


def test_an_energy_whose_parameters_move_nothing():
    with pytest.raises(ValueError, match="No parameter received a gradient: the answers do not depend on any"):
        train(energy=Unused())


class WithoutSecondDerivative(Unused):
    def evaluate(self, context, y):
        return torch.cdist(self.layer(context)[:, None], y[:, None]).flatten()


class InFloat64(Halves):
    def sample(self, *arguments, **options):
        return tuple(each.double() for each in super().sample(*arguments, **options))


@pytest.mark.parametrize(
    ("task", "energy", "words"),
    [
        (Halves, WithoutSecondDerivative, "no second derivative.*training need.*cdist by a norm of differences"),
        (InFloat64, None, r"mixes precisions.*x\.float\(\).*Double and Float"),
    ],
)
def test_errors_of_torch_are_explained(task, energy, words):
    with pytest.raises(RuntimeError, match=words):
        train(task(), energy and energy())


class OfSamples(nn.Module):
    """A model whose loss has one number per sample."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def loss(self, x, target, generator=None):
        return (self.layer(x) - target).square().mean(-1)


def test_a_loss_of_each_sample():
    with pytest.raises(ValueError, match=r"loss must be one number, got torch.float32 of shape \(4,\)"):
        SupervisedTrainer(OfSamples(), Halves(), batch_size=4).fit(1)


@pytest.mark.parametrize("iterations", [-1, True])
def test_a_number_of_iterations_that_is_none(iterations):
    trainer = Trainer(EnergySolver(MLPEnergy(3, 3, width=8), SGD(1.0)), Halves(), batch_size=4)
    with pytest.raises(ValueError, match="whole number of 0 or more as iterations"):
        trainer.fit(iterations)
