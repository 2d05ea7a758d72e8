"""Arguments of optimizers and projections."""

import re

import pytest
import torch

from energysolve import SGD, Adam, EnergySolver, Momentum, Projected, RMSProp, TorchOpt
from energysolve.optimizers import Ball, Box

NAN, INF = float("nan"), float("inf")

pytestmark = pytest.mark.usefixtures("no_type_checks")


def bowl(x, y):
    return (x - y).square().sum(-1)


def raises(kind, *words):
    return pytest.raises(kind, match="(?s)" + ".*".join(re.escape(word) for word in words))


@pytest.mark.parametrize("optimizer", [SGD, Momentum, Adam, RMSProp])
@pytest.mark.parametrize("lr", [-0.1, NAN, INF, "fast", None, True])
def test_a_step_size_out_of_range(optimizer, lr):
    with raises(ValueError, f"{optimizer.__name__} needs a finite lr of 0 or more, got {lr!r}"):
        optimizer(lr)


@pytest.mark.parametrize("optimizer", [SGD, Momentum, Adam, RMSProp])
def test_a_step_size_of_zero_moves_nothing(optimizer):
    y = torch.ones(2, 3)
    assert torch.equal(EnergySolver(bowl, optimizer(0), max_steps=3).minimize(torch.zeros(2, 3), y).y, y)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Momentum(0.1, 1.0), ["Momentum needs a momentum in [0, 1)", "1.0"]),
        (lambda: Momentum(0.1, -0.1), ["Momentum needs a momentum in [0, 1)", "-0.1"]),
        (lambda: Momentum(0.1, NAN), ["Momentum needs a momentum in [0, 1)", "nan"]),
        (lambda: Box(1.0, -1.0), ["Box needs low <= high, got low=1.0 and high=-1.0"]),
        (lambda: Box(NAN, 1.0), ["Box needs low <= high", "nan"]),
        (lambda: Ball(0.0), ["Ball needs a positive, finite radius, got 0.0"]),
        (lambda: Ball(-1.0), ["Ball needs a positive, finite radius", "-1.0"]),
        (lambda: Ball(INF), ["Ball needs a positive, finite radius", "inf"]),
        (lambda: Ball(NAN), ["Ball needs a positive, finite radius", "nan"]),
    ],
)
def test_an_argument_out_of_range(make, words):
    with raises(ValueError, *words):
        make()


def test_the_least_arguments_that_are_allowed():
    assert Momentum(0.1, 0.0).momentum == 0
    y = torch.tensor([[-3.0, 2.0]])
    assert torch.equal(Box()(y), y)
    assert Box(1.0, 1.0)(y).tolist() == [[1.0, 1.0]]
    assert Ball(1e-30)(y).norm() <= 1e-29


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TorchOpt(3), ["TorchOpt needs a function without arguments", "got a int"]),
        (lambda: TorchOpt("sgd"), ["TorchOpt needs a function without arguments", "got a str"]),
        (lambda: Projected(3, Box(0.0, 1.0)), ["Projected needs an inner optimizer such as SGD(0.1), got 3"]),
        (lambda: Projected(SGD, Box(0.0, 1.0)), ["Projected needs an inner optimizer", "SGD"]),
        (lambda: Projected(SGD(0.1), (0.0, 1.0)), ["Projected needs a function of y as its projection", "(0.0, 1.0)"]),
    ],
)
def test_an_argument_of_the_wrong_kind(make, words):
    with raises(TypeError, *words):
        make()


@pytest.mark.parametrize("made", [3, type("Half", (), {"init": None})(), type("Half", (), {"update": None})()])
def test_a_factory_that_makes_no_transformation(made):
    with raises(TypeError, "factory of TorchOpt must return a torchopt transformation", "returned"):
        EnergySolver(bowl, TorchOpt(lambda: made)).minimize(torch.zeros(2, 3), torch.ones(2, 3))
