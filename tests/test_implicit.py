"""Implicit against closed forms and finite differences: second derivatives, warm starts, active constraints."""

import math

import pytest
import torch

from energysolve import (
    SGD,
    After,
    EnergySolver,
    GradientNorm,
    Implicit,
    LeastSquares,
    NewtonCG,
    Projected,
    Segment,
    StepNorm,
    TargetEnergy,
    Truncated,
    Unroll,
    Zeros,
)
from energysolve.differentiation import DifferentiationError, DifferentiationWarning, NanGradient, RaiseError
from energysolve.optimizers import Backtracking, Ball, Box, Simplex

DOUBLE = torch.float64


def tensor(*values):
    return torch.tensor(values, dtype=DOUBLE)


def solver(energy, optimizer=NewtonCG(), tol=1e-12, **parts):  # noqa: B008  (frozen)
    parts = {"halting": GradientNorm(tol), "differentiation": Implicit(), "max_steps": 5000} | parts
    return EnergySolver(energy, optimizer, **parts)


def exponential(x, y):
    """Its minimum is ``1.5 exp(-x)``."""
    return (x.exp() * y.square() / 2 - 1.5 * y).sum(-1)


class Rows:
    """The same, with a coupling of all rows of a sample; convex where ``y`` is small."""

    layout = Segment(torch.tensor([1, 0, 1, 1, 0]), 2)

    def __call__(self, x, y):
        total = y.new_zeros(2, 1).index_add(0, self.layout.index, y)
        rows = x.exp() * y.square() / 2 - 1.5 * y + 0.05 * y**4 + 0.1 * x * y
        return self.layout.sum(rows) + 0.2 * total.square().squeeze(1)


def test_the_second_derivative_of_a_minimum():
    x = tensor([0.2], [0.7]).requires_grad_()
    y = solver(exponential, init=Zeros((1,))).minimize(x).y
    (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    expected = 1.5 * torch.exp(-x)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(first, -expected)
    torch.testing.assert_close(second, expected)


@pytest.mark.parametrize("mode", [Implicit(), Unroll(), Truncated(60)], ids=["implicit", "unroll", "truncated"])
@pytest.mark.parametrize("rows", [False, True], ids=["dense", "segment"])
def test_second_derivatives_against_finite_differences(mode, rows):
    energy = Rows() if rows else exponential
    options = {"layout": lambda x: Rows.layout} if rows else {}
    x = torch.linspace(-0.2, 0.3, 5, dtype=DOUBLE).unsqueeze(1).requires_grad_()
    solve = solver(energy, SGD(0.5), differentiation=mode, max_steps=60, **options)
    start = torch.full_like(x, 1.2).detach()
    assert solve.minimize(x, start).converged.all()
    assert torch.autograd.gradgradcheck(lambda x: solve.minimize(x, start).y, x, atol=1e-5, fast_mode=True)


def test_a_third_derivative_is_refused():
    x = tensor([0.2]).requires_grad_()
    y = solver(exponential, init=Zeros((1,))).minimize(x).y
    (first,) = torch.autograd.grad((y**2).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="third"):
        torch.autograd.grad(first.sum(), x, create_graph=True)


def ridge(x, y):
    return (y - x).square().sum(-1) / 2 + ridge.weight * y.square().sum(-1) / 2


def test_samples_that_begin_at_their_minimum():
    """``y = x / (1 + w)``, so ``dy/dw = -x / (1 + w)^2``, though no step is taken; the weight is a captured tensor."""
    ridge.weight = torch.tensor(0.5, dtype=DOUBLE, requires_grad=True)
    x = tensor([1.0], [-2.0], [3.0]).requires_grad_()
    start = (x / 1.5).detach()
    start[2] = 0  # this one takes steps
    found = solver(ridge, SGD(0.5)).minimize(x, start)
    assert found.steps.tolist()[:2] == [0, 0]
    assert found.steps[2] > 0
    weights = tensor([1.0], [10.0], [100.0])
    by_weight, by_x = torch.autograd.grad((weights * found.y).sum(), (ridge.weight, x))
    torch.testing.assert_close(by_weight, -(weights * x).sum().detach() / 1.5**2)
    torch.testing.assert_close(by_x, weights / 1.5)


@pytest.mark.parametrize("mode", [Truncated(2), Unroll(), Implicit()], ids=repr)
def test_captured_tensors_are_in_the_graph_though_no_sample_has_a_derivative(mode):
    ridge.weight = torch.tensor(0.5, dtype=DOUBLE, requires_grad=True)
    x = tensor([1.0], [-2.0])
    bad = torch.full_like(x, math.nan)
    (gradient,) = torch.autograd.grad(
        solver(ridge, SGD(0.5), differentiation=mode).minimize(x, bad).y.sum(), ridge.weight
    )
    assert gradient == 0


MATRIX = tensor([2.0, 0.5, 0.1], [0.5, 1.0, 0.3], [0.1, 0.3, 1.5])


def curved(x, y):
    quadratic = torch.einsum("bi,ij,bj->b", y, MATRIX, y) / 2
    return quadratic + (0.1 * y**4 - 2 * y * x.sin() + 0.1 * x * y**2).sum(-1)


@pytest.mark.parametrize("projection", [Box(-0.3, 0.4), Ball(0.5), Simplex(), Box(-10.0, 10.0)], ids=repr)
@pytest.mark.parametrize("search", [False, True], ids=["fixed", "search"])
def test_derivatives_along_active_constraints(projection, search):
    """Samples with no, one and several active constraints, to the second derivative."""
    x = tensor([1.0, 0.1, -0.4], [-0.2, 0.3, 1.2], [0.05, 0.02, 0.01]).requires_grad_()
    optimizer = Projected(SGD(0.3), projection)
    solve = solver(curved, Backtracking(optimizer) if search else optimizer, tol=1e-8 if search else 1e-13)
    start = solve.minimize(x, torch.full_like(x, 0.1)).y.detach()
    assert solve.minimize(x, start).converged.all()
    found = lambda x: solve.minimize(x, start).y  # noqa: E731
    if search:
        precise = solve.replace(optimizer=optimizer, halting=GradientNorm(1e-13))
        (own,), (expected,) = (
            torch.autograd.grad((each.minimize(x, start).y * tensor(1.0, 2.0, 3.0)).sum(), x)
            for each in (solve, precise)
        )
        torch.testing.assert_close(own, expected, rtol=1e-6, atol=1e-6)
    else:
        assert torch.autograd.gradcheck(found, x, fast_mode=True)
        assert torch.autograd.gradgradcheck(found, x, fast_mode=True)


def test_a_clamped_coordinate_leaves_the_others_their_derivative():
    """``|y - x|^2 / 2`` on a box: the projection, whose derivative is 1 inside and 0 on the bound."""
    x = tensor([0.5, 2.0], [3.0, 4.0]).requires_grad_()
    found = solver(lambda x, y: (y - x).square().sum(-1) / 2, Projected(SGD(0.5), Box(0.0, 1.0)), init=Zeros((2,)))
    found.minimize(x).y.sum().backward()
    assert x.grad.tolist() == [[1.0, 0.0], [0.0, 0.0]]


def test_constraints_far_from_one():
    """Derivatives do not depend on units: answers and gradients of a million, and of a millionth."""
    for size in (1e-6, 1.0, 1e6):
        x = (size * tensor([0.5, 2.0, -1.0])).requires_grad_()
        energy = lambda x, y: size * (y / size - x / size).square().sum(-1)  # noqa: B023, E731
        solve = solver(energy, Projected(SGD(0.3 * size), Box(0.0, size)), tol=1e-12 * size, init=Zeros((3,)))
        solve.minimize(x).y.sum().backward()
        assert x.grad[0].tolist() == pytest.approx([1.0, 0.0, 0.0])


def test_a_linear_energy_on_a_simplex():
    """The lowest corner, which stays where it is."""
    x = tensor([0.3, -0.2, 0.1]).requires_grad_()
    found = solver(lambda x, y: (x * y).sum(-1), Projected(SGD(1.0), Simplex()), init=Zeros((3,))).minimize(x)
    assert found.y.tolist() == [[0.0, 1.0, 0.0]]
    found.y.sum().backward()
    assert (x.grad == 0).all()


def test_a_projection_that_does_not_lead_to_the_nearest_point_is_reported():
    def oblique(y):
        return torch.stack([y[:, 0] + y[:, 1].clamp(max=0), y[:, 1].clamp(min=0)], 1)

    x = tensor([0.5, -1.0]).requires_grad_()
    solve = solver(lambda x, y: (y - x).square().sum(-1) / 2, Projected(SGD(1.0), oblique), init=Zeros((2,)))
    with pytest.warns(DifferentiationWarning, match=r"nearest point .*\[0\]"):
        solve.minimize(x).y.sum().backward()
    assert (x.grad == 0).all()


def kinked(x, y):
    """Its minimum is 0 for ``|x| < 1``, whatever ``x`` is."""
    return (y.abs() + (y - x).square() / 2).sum(-1)


@pytest.mark.parametrize("halting", [After(9), After(9).patience(2), TargetEnergy(10.0), After(9) & TargetEnergy(10.0),
                                     After(9) | GradientNorm(1e-9)], ids=repr)  # fmt: skip
def test_criteria_that_tell_no_minimum_do_not_count(halting):
    x = tensor([0.5]).requires_grad_()
    solve = solver(kinked, SGD(0.1), halting=halting)
    with pytest.warns(DifferentiationWarning, match="1 of 1 samples were stopped by a criterion that does not tell"):
        found = solve.minimize(x, torch.zeros_like(x) + 0.1)
    assert found.converged.all()
    found.y.sum().backward()
    assert x.grad == 0


def test_the_part_that_tells_a_minimum_counts_sample_by_sample():
    """Two samples that converge, and one that runs out of time."""
    x = tensor([1.0], [-2.0], [3.0]).requires_grad_()
    rate = tensor([1.0], [1.0], [0.01])
    halting = After(60) | GradientNorm(1e-9)
    solve = solver(lambda x, y: (rate * (y - x).square()).sum(-1), SGD(0.4), halting=halting)
    with pytest.warns(DifferentiationWarning, match=r"1 of 3 samples were stopped .*\[2\]"):
        found = solve.minimize(x, torch.zeros_like(x))
    assert found.converged.all()
    assert found.steps[2] == 60
    found.y.sum().backward()
    assert x.grad.squeeze(1).tolist() == pytest.approx([1.0, 1.0, 0.0])


def test_a_steep_slope_is_no_minimum():
    """Steps become small beside the kink of ``|y|``, which the criterion takes for convergence."""
    x = tensor([0.1]).requires_grad_()
    solve = solver(kinked, SGD(1e-5), halting=StepNorm(1e-4))
    with pytest.warns(DifferentiationWarning, match="slope is steep"):
        solve.minimize(x, torch.zeros_like(x) + 1e-3).y.sum().backward()
    assert x.grad == 0


@pytest.mark.parametrize("failure", [NanGradient(), RaiseError()], ids=repr)
def test_on_failure(failure):
    """The first sample is a bowl; the second one has no step left."""
    x = tensor([1.0], [2.0]).requires_grad_()
    rate = tensor([1.0], [1e-3])
    solve = solver(lambda x, y: (rate * (y - x).square()).sum(-1), SGD(0.4), max_steps=50)
    solve = solve.replace(differentiation=Implicit(on_failure=failure))
    if failure == RaiseError():
        with pytest.raises(DifferentiationError, match=r"1 of 2 samples did not converge in max_steps: \[1\]"):
            solve.minimize(x, torch.zeros_like(x))
    else:
        with pytest.warns(DifferentiationWarning, match="gradient of NaN"):
            found = solve.minimize(x, torch.zeros_like(x))
        found.y.sum().backward()
        assert x.grad[0] == pytest.approx(1.0)
        assert x.grad[1].isnan()


def test_on_failure_of_the_linear_solve():
    x = tensor([0.0, 0.0]).requires_grad_()
    flat = lambda x, y: (y - x)[:, 0].square() + x.sum(-1) + 0 * y[:, 1] + (y - x)[:, 1] ** 4  # noqa: E731
    solve = solver(flat, SGD(0.4), differentiation=Implicit(on_failure=NanGradient()))
    found = solve.minimize(x, torch.zeros_like(x))
    with pytest.warns(DifferentiationWarning, match="get a gradient of NaN"):
        found.y.sum().backward()
    assert x.grad.isnan().all()


def test_residuals_of_fixed_points_and_least_squares():
    """``y = tanh(w y + x)`` by its derivative ``t / (1 - w t)`` with ``t = 1 - y^2``."""
    x = tensor([0.4], [-1.0]).requires_grad_()
    energy = LeastSquares(lambda x, y: y - torch.tanh(0.5 * y + x))
    y = solver(energy, init=Zeros((1,))).minimize(x).y
    slope = 1 - y.detach().square()
    (found,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(found, slope / (1 - 0.5 * slope))
