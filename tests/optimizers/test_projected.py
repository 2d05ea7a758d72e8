"""Projections against their definition: the nearest feasible point."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from energysolve import SGD, Dense, EnergySolver, Projected
from energysolve.engine.objective import Objective
from energysolve.optimizers import Ball, Box, Simplex


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


SETS = [
    (Box(-0.3, 0.5), lambda points: points.clamp(-0.3, 0.5)),
    (Box(low=0.1), lambda points: points.abs() + 0.1),
    (Box(high=-0.1), lambda points: -points.abs() - 0.1),
    (Ball(0.7), lambda points: 0.7 * points / points.norm(dim=-1, keepdim=True).clamp(min=1)),
    (Ball(), lambda points: points / points.norm(dim=-1, keepdim=True).clamp(min=1)),
    (Simplex(), lambda points: points.softmax(-1)),
]


@settings(max_examples=50, deadline=None)
@pytest.mark.parametrize(("projection", "feasible"), SETS, ids=[repr(case[0]) for case in SETS])
@given(st.integers(1, 5), st.floats(0.1, 5), st.integers(0, 99))
def test_the_projection_is_the_nearest_feasible_point(projection, feasible, n, size, seed):
    """Feasible, and at an obtuse angle to every feasible point (the variational inequality)."""
    y = size * normal(3, n, seed=seed)
    p = projection(y)
    torch.testing.assert_close(projection(p), p, atol=1e-14, rtol=0)
    points = feasible(normal(20, 1, n, seed=seed + 1))
    torch.testing.assert_close(projection(points), points, atol=1e-14, rtol=0)
    assert (((y - p) * (points - p)).sum(-1) <= 1e-12).all()


def test_points_of_the_sets():
    y = torch.tensor([[3.0, -4.0], [0.3, 0.4], [0.0, 0.0], [2.0, 0.5]], dtype=torch.float64)
    torch.testing.assert_close(Ball(0.5)(y)[:3], torch.tensor([[0.3, -0.4], [0.3, 0.4], [0.0, 0.0]]).double())
    assert Simplex()(y).tolist() == [[1.0, 0.0], [0.45, 0.55], [0.5, 0.5], [1.0, 0.0]]
    assert Simplex()(torch.zeros(2, 4, 5)).unique().tolist() == [pytest.approx(0.2)]


def test_the_derivative_of_the_ball_is_finite_at_its_centre():
    y = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(Ball(2.0)(y).sum(), y)
    assert (gradient == 1).all()


@pytest.mark.parametrize("projection", [Box(0.0, 1.0), Ball(), Simplex()], ids=repr)
def test_a_sample_that_is_nan_leaves_the_others_alone(projection):
    y = normal(3, 4)
    bad = torch.cat([y[:1] * torch.nan, y[1:]])
    assert torch.equal(projection(bad)[1:], projection(y)[1:])


def test_y_is_projected_and_the_scratchpad_is_not():
    def energy(x, y, z):
        return (x - y).square().sum(-1) + (x - z).square().sum(-1)

    x = torch.tensor([[2.0, -2.0]])
    optimizer = Projected(SGD(0.5), Box(0.0, 1.0))
    solution = EnergySolver(energy, optimizer, max_steps=1).minimize(x, torch.zeros(1, 2), torch.zeros(1, 2))
    assert solution.y.tolist() == [[1.0, 0.0]]
    assert torch.equal(solution.z, x)
    at = Objective(energy, x, Dense(1))((solution.y, torch.zeros(1, 2)))
    y, z = optimizer.residual(at)
    assert y.tolist() == [[0.0, 0.0]]
    assert z.tolist() == [[-4.0, 4.0]]
    inside = Objective(energy, x, Dense(1))((torch.full((1, 2), 0.5), torch.zeros(1, 2)))
    assert optimizer.residual(inside)[0].tolist() == [[-0.5, 0.5]]


@pytest.mark.parametrize("projection", [Ball(0.5), Simplex()], ids=repr)
def test_vectors_lie_along_the_last_axis(projection):
    y = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.stack([torch.stack([projection(vector[None])[0] for vector in rows]) for rows in y])
    torch.testing.assert_close(projection(y), expected)
