"""Conjugate gradients against a direct solver, and what Implicit reports rather than hides."""

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from energysolve import SGD, Dense, EnergySolver, GradientNorm, Implicit, Projected, Segment
from energysolve.differentiation import DifferentiationWarning
from energysolve.engine.linear import CG
from energysolve.optimizers import Box

DOUBLE = torch.float64


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 2**16))
def test_cg_solves_each_system_as_a_direct_solver_does(batch, n, seed):
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(batch, n, n, generator=generator, dtype=DOUBLE)
    matrix = root @ root.mT + 0.1 * torch.eye(n, dtype=DOUBLE)
    right = torch.randn(batch, n, generator=generator, dtype=DOUBLE)
    right[0] = 0
    found = CG(max_steps=20 * n).solve(lambda v: ((matrix @ v[0].unsqueeze(-1)).squeeze(-1),), (right,), Dense(batch))
    expected = torch.linalg.solve(matrix, right)
    assert not found.failed.any()
    assert (found.value[0][0] == 0).all()
    torch.testing.assert_close(found.value[0], expected, rtol=1e-6, atol=1e-8)


def test_cg_reports_negative_curvature_and_running_out_of_steps():
    diagonal = torch.tensor([[1.0, 2.0], [1.0, -2.0], [1.0, 100.0], [0.0, 0.0], [torch.nan, 1.0]], dtype=DOUBLE)
    right = torch.ones(5, 2, dtype=DOUBLE)
    found = CG(max_steps=1).solve(lambda v: (diagonal * v[0],), (right,), Dense(5))
    assert found.indefinite.tolist() == [False, True, False, True, True]
    assert found.failed.tolist() == [True] * 5
    full = CG().solve(lambda v: (diagonal * v[0],), (right,), Dense(5))
    assert full.failed.tolist() == [False, True, False, True, True]
    torch.testing.assert_close(full.value[0][0], 1 / diagonal[0])
    assert (full.value[0][full.failed] == 0).all()


def test_cg_on_segments_with_several_leaves():
    index = torch.tensor([0, 1, 0, 2, 2, 1])
    a, b = torch.rand(6, 2, dtype=DOUBLE) + 0.5, torch.rand(6, dtype=DOUBLE) + 0.5
    right = (torch.randn(6, 2, dtype=DOUBLE), torch.randn(6, dtype=DOUBLE))
    found = CG().solve(lambda v: (a * v[0], b * v[1]), right, Segment(index, 3))
    assert not found.failed.any()
    torch.testing.assert_close(found.value[0], right[0] / a)
    torch.testing.assert_close(found.value[1], right[1] / b)


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
