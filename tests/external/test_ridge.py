"""Ridge regression: derivatives of the minimum in closed form (after jaxopt's implicit_diff tests).

With ``y* = (F'F + lI)^{-1} F't``, ``dy*/dl = -(F'F + lI)^{-1} y*``.
"""

import pytest
import torch
import torchopt

from energysolve import SGD, Adam, EnergySolver, GradientNorm, Implicit, Momentum, RMSProp, TorchOpt, Truncated, Unroll
from energysolve.energies import Ridge

# RMSProp converges along the edge of stability, so it is not in this table: derivatives of its iterates do not settle
# into that of their limit. `Implicit`, to which the path does not matter, is checked with it below.
OPTIMIZERS = {
    "sgd": SGD(0.12),
    "momentum": Momentum(0.05, momentum=0.6),
    "nesterov": TorchOpt(lambda: torchopt.sgd(0.05, momentum=0.6, nesterov=True)),
    "adam": Adam(0.1),
}
BATCH, FEATURES = 3, 3


@pytest.fixture
def regression():
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(BATCH, 8, FEATURES, generator=generator, dtype=torch.float64)
    features = torch.linalg.qr(random).Q * torch.tensor([1.0, 1.7, 2.4], dtype=torch.float64)
    targets = torch.randn(BATCH, 8, generator=generator, dtype=torch.float64)
    weight = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64, requires_grad=True)
    return features, targets, weight


def solve(regression, optimizer, differentiation, tol=1e-11, max_steps=3000):
    solver = EnergySolver(
        Ridge(), optimizer, halting=GradientNorm(tol), differentiation=differentiation, max_steps=max_steps
    )
    solution = solver.minimize(regression, torch.zeros(BATCH, FEATURES, dtype=torch.float64))
    solution.raise_for_status(strict=True)
    return solution.y


def derivative(y, weight):
    """dy/dl, ``(batch, features)``: samples do not interact, so each column takes one backward pass."""
    return torch.stack([torch.autograd.grad(column.sum(), weight, retain_graph=True)[0] for column in y.unbind(1)], 1)


def closed_form(regression):
    features, _, weight = regression
    matrix = features.mT @ features + weight.detach()[:, None, None] * torch.eye(FEATURES, dtype=torch.float64)
    return -torch.linalg.solve(matrix, Ridge().solve(regression).detach().unsqueeze(-1)).squeeze(-1)


def relative_error(got, expected):
    return ((got - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("differentiation", [Unroll(), Implicit()], ids=repr)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_derivative_with_respect_to_the_regularization(regression, name, differentiation):
    y = solve(regression, OPTIMIZERS[name], differentiation)
    assert relative_error(y.detach(), Ridge().solve(regression).detach()) <= 1e-9
    assert relative_error(derivative(y, regression[2]), closed_form(regression)) <= 1e-6


@pytest.mark.parametrize("differentiation", [Unroll(), Implicit()], ids=repr)
def test_the_hypergradient_of_a_validation_loss(regression, differentiation):
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(5, FEATURES, generator=generator, dtype=torch.float64)
    targets = torch.randn(BATCH, 5, generator=generator, dtype=torch.float64)

    def loss(y):
        return (y @ features.mT - targets).square().sum()

    weight = regression[2]
    (got,) = torch.autograd.grad(loss(solve(regression, SGD(0.12), differentiation)), weight)
    (expected,) = torch.autograd.grad(loss(Ridge().solve(regression)), weight)
    assert relative_error(got, expected) <= 1e-6


@pytest.mark.parametrize("differentiation", [Unroll(), Implicit()], ids=repr)
def test_the_derivatives_with_respect_to_the_data(regression, differentiation):
    data = [tensor.detach().requires_grad_() for tensor in regression]
    cotangent = torch.randn(BATCH, FEATURES, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    got = torch.autograd.grad((solve(tuple(data), SGD(0.12), differentiation) * cotangent).sum(), data)
    expected = torch.autograd.grad((Ridge().solve(tuple(data)) * cotangent).sum(), data)
    for one, other in zip(got, expected, strict=True):
        assert relative_error(one, other) <= 1e-6


def test_implicit_does_not_mind_how_rmsprop_got_there(regression):
    y = solve(regression, RMSProp(0.01), Implicit(), tol=1e-8)
    assert relative_error(derivative(y, regression[2]), closed_form(regression)) <= 1e-6


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam"])
def test_truncated_to_more_steps_than_were_taken_is_unroll(regression, name):
    def gradient(differentiation):
        y = solve(regression, OPTIMIZERS[name], differentiation, tol=0.1, max_steps=150)
        return torch.autograd.grad(y.sum(), regression[2])[0]

    full = gradient(Unroll())
    torch.testing.assert_close(gradient(Truncated(150)), full, rtol=1e-12, atol=1e-14)
    assert relative_error(gradient(Truncated(1)), full) > 0.1
