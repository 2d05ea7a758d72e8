"""What Implicit reports rather than hides."""

import warnings

import pytest
import torch

from energysolve import SGD, EnergySolver, GradientNorm, Implicit, Projected
from energysolve.differentiation import DifferentiationWarning
from energysolve.engine.linear import CG
from energysolve.optimizers import Box

DOUBLE = torch.float64


def gradient_of(solver, x, y, weight):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        solution = solver.minimize(x, y)
        gradients = [
            torch.autograd.grad(solution.y[i].sum(), weight, retain_graph=True)[0].item() for i in range(len(x))
        ]
    return gradients, [str(warning.message) for warning in caught if warning.category is DifferentiationWarning]


def test_a_sample_on_a_constraint_is_reported():
    """Minimum of ``w (y - x)^2`` at ``w x``'s side of a box: inside, dy/dw = x; held by the box, no derivative."""
    weight = torch.tensor(2.0, dtype=DOUBLE, requires_grad=True)
    x = torch.tensor([[0.1], [3.0]], dtype=DOUBLE)
    solver = EnergySolver(
        lambda x, y: (y - weight * x).square().sum(-1),
        Projected(SGD(0.3), Box(-1.0, 1.0)),
        halting=GradientNorm(1e-10),
        differentiation=Implicit(),
    )
    gradients, messages = gradient_of(solver, x, torch.zeros(2, 1, dtype=DOUBLE), weight)
    assert gradients == pytest.approx([0.1, 0.0])
    assert len(messages) == 1
    assert "1 of 2 samples ended on a constraint" in messages[0]
    assert "[1]" in messages[0]


def test_a_sample_at_a_saddle_is_reported():
    weight = torch.tensor(1.0, dtype=DOUBLE, requires_grad=True)
    x = torch.tensor([[1.0], [-1.0]], dtype=DOUBLE)
    solver = EnergySolver(
        lambda x, y: (x * (y - weight).square()).sum(-1),
        SGD(0.25),
        halting=GradientNorm(1e-6),
        differentiation=Implicit(),
    )
    start = torch.tensor([[0.5], [1.0 + 1e-9]], dtype=DOUBLE)  # the second begins beside the top of a hill
    moved = solver.minimize(x, start)
    assert moved.steps[1] == 0
    solver = solver.replace(halting=GradientNorm(1e-6).patience(2))
    gradients, messages = gradient_of(solver, x, start, weight)
    assert gradients == pytest.approx([1.0, 0.0])
    assert any("not positive definite" in message and "[1]" in message for message in messages)


def test_a_sample_that_ran_out_of_steps_is_reported():
    weight = torch.tensor(1.0, dtype=DOUBLE, requires_grad=True)
    x = torch.tensor([[1.0], [1e-3]], dtype=DOUBLE)
    solver = EnergySolver(
        lambda x, y: (x * (y - weight).square()).sum(-1),
        SGD(0.4),
        halting=GradientNorm(1e-5),
        differentiation=Implicit(),
        max_steps=30,
    )
    gradients, messages = gradient_of(solver, x, torch.zeros(2, 1, dtype=DOUBLE), weight)
    assert gradients == pytest.approx([1.0, 0.0])
    assert any("did not converge in max_steps" in message and "[1]" in message for message in messages)


def test_a_linear_solve_that_fails_is_reported():
    weight = torch.ones(3, dtype=DOUBLE, requires_grad=True)
    scale = torch.tensor([1.0, 7.0, 30.0], dtype=DOUBLE)
    solver = EnergySolver(
        lambda x, y: (scale * (y - weight).square()).sum(-1) + x.sum(-1),
        SGD(0.03),
        halting=GradientNorm(1e-8),
        differentiation=Implicit(CG(max_steps=1)),
        max_steps=2000,
    )
    solution = solver.minimize(torch.zeros(1, 1, dtype=DOUBLE), torch.zeros(1, 3, dtype=DOUBLE))
    assert solution.converged.all()
    with pytest.warns(DifferentiationWarning, match="tolerance of the linear solver"):
        solution.y.sum().backward()
    assert (weight.grad == 0).all()
