"""What Implicit reports rather than hides, and Truncated where a sample became NaN before its last steps."""

import warnings

import pytest
import torch

from energysolve import SGD, Detached, EnergySolver, GradientNorm, Implicit, Never, Projected, Status, Truncated
from energysolve.differentiation import DifferentiationWarning
from energysolve.engine.linear import CG
from energysolve.optimizers import Box, InnerOptimizer

DOUBLE = torch.float64


def gradient_of(solver, x, y, weight):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        solution = solver.minimize(x, y)
        gradients = [
            torch.autograd.grad(solution.y[i].sum(), weight, retain_graph=True)[0].item() for i in range(len(x))
        ]
    return gradients, [str(warning.message) for warning in caught if warning.category is DifferentiationWarning]


def test_a_sample_on_a_constraint_stays_there():
    """Minimum of ``(y - w x)^2`` in a box: inside, dy/dw = x; held by the box, 0, which is no failure."""
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
    assert not messages


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


def test_a_large_answer_inside_a_box_is_not_taken_for_one_on_a_constraint():
    weight = torch.tensor(2.0, dtype=DOUBLE, requires_grad=True)
    x = torch.tensor([[30.0], [-40.0]], dtype=DOUBLE)
    solver = EnergySolver(
        lambda x, y: (y - weight * x).square().sum(-1),
        Projected(SGD(0.3), Box(-100.0, 100.0)),
        halting=GradientNorm(1e-10),
        differentiation=Implicit(),
    )
    gradients, messages = gradient_of(solver, x, torch.ones_like(x), weight)
    assert gradients == pytest.approx([30.0, -40.0])
    assert not messages


@pytest.mark.parametrize(("count", "shown"), [(20, r"18, 19\]$"), (21, r"18, 19\] \.\.\.$")])
def test_long_lists_of_samples_are_cut(count, shown):
    x = torch.ones(count, 1)
    solver = EnergySolver(
        lambda x, y: (y - x).square().sum(-1),
        SGD(0.1),
        halting=GradientNorm(1e-6),
        max_steps=1,
        differentiation=Implicit(),
    )
    with pytest.warns(DifferentiationWarning, match=f"{count} of {count} samples did not converge .*" + shown):
        solver.minimize(x, torch.zeros_like(x))


class Leap(InnerOptimizer):
    """Gradient descent with a large second step."""

    def init(self, free):
        return torch.zeros((), dtype=DOUBLE)

    def step(self, at, state, evaluate):
        length = torch.where(state == 1, 0.5, 0.05)
        return tuple(y - length * slope for y, slope in zip(at.free, at.gradient, strict=True)), state + 1


@pytest.mark.parametrize("k", [1, 2, 3])
def test_a_sample_that_was_nan_before_the_last_steps(k):
    """The leap takes the first sample behind a wall; the small steps from where it stood are finite again."""
    weight = torch.tensor(1.0, dtype=DOUBLE, requires_grad=True)
    x = torch.tensor([[0.5], [-10.0]], dtype=DOUBLE)
    y = torch.ones(2, 1, dtype=DOUBLE)

    def energy(x, y):
        return weight * torch.where(y < x, torch.nan, y.square()).sum(-1)

    solver = EnergySolver(energy, Leap(), halting=Never(), max_steps=5)
    found = [solver.replace(differentiation=mode).minimize(x, y) for mode in (Detached(), Truncated(k))]
    for solution in found:
        assert solution.status.tolist() == [Status.NONFINITE, Status.MAX_STEPS]
        assert solution.steps.tolist() == [1, 5]
        assert torch.equal(solution.y, found[0].y)
    gradients = [torch.autograd.grad(value, weight, retain_graph=True)[0].item() for value in found[1].y.squeeze(1)]
    assert gradients[0] == 0
    assert gradients[1] == pytest.approx(-2 * 0.05 * k * found[0].y[1].item() / 0.9)
