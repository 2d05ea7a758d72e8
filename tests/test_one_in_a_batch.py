"""What happens to one sample in a batch happens to it alone, and as it would alone."""

import math

import pytest
import torch
import torchopt
from torchopt.clip import clip_grad_norm

from energysolve import (
    SGD,
    Adam,
    After,
    Clipped,
    EnergyChange,
    EnergySolver,
    GradientNorm,
    Implicit,
    LeastSquares,
    LevenbergMarquardt,
    Momentum,
    Never,
    Projected,
    Segment,
    Status,
    StepNorm,
    TorchOpt,
    Truncated,
    Uniform,
    Unroll,
    Zeros,
    halting,
)
from energysolve.halting import Stationary, StepInfo
from energysolve.layout import Dense
from energysolve.optimizers import Ball, Box, Simplex

DOUBLE = torch.float64


class Walled:
    """Bowls behind walls: the energy raises an error where an entry of ``y`` is beyond its wall."""

    def __init__(self):
        self.wall = torch.full((2,), math.inf, dtype=DOUBLE)

    def __call__(self, x, y):
        if (y[:, 0] > self.wall[: len(y)]).any():
            raise ArithmeticError("outside the domain")
        return (x * (y - 2).square()).sum(-1)


FIXED = [SGD(0.05), Momentum(0.02, 0.5), Adam(0.05), Clipped(SGD(0.05), 3.0), Projected(SGD(0.05), Ball(9.0))]


@pytest.mark.parametrize("mode", [None, Truncated(2), Unroll(), Implicit()], ids=repr)
@pytest.mark.parametrize("optimizer", FIXED, ids=repr)
@pytest.mark.parametrize("options", [{}, {"sync_every": 7}, {"compact": True}], ids=repr)
def test_halted_samples_are_not_evaluated_beyond_where_they_halted(optimizer, options, mode):
    """A wall between the answer of the first sample and where its next step would lead."""
    x, y = torch.tensor([[1.0], [0.5]], dtype=DOUBLE), torch.tensor([[0.0], [-4.0]], dtype=DOUBLE)
    solver = EnergySolver(Walled(), optimizer, halting=GradientNorm(0.3), max_steps=500, **options)
    expected = solver.minimize(x, y)
    assert expected.steps[0] < expected.steps[1]
    walled = Walled()
    onward = solver.replace(halting=Never()).minimize(x, y, max_steps=int(expected.steps[0]) + 1).y
    walled.wall[0] = ((onward + expected.y) / 2)[0]
    solver = solver.replace(energy=walled)
    alone = solver.minimize(x[:1], y[:1])
    found = (solver if mode is None else solver.replace(differentiation=mode)).minimize(x, y)
    assert torch.equal(found.y[:1], alone.y)
    assert torch.equal(found.y, expected.y)
    assert found.steps.tolist() == expected.steps.tolist()


def test_cholesky_in_a_batch():
    """``x tr(y) - log det y`` with Cholesky's factor; the first sample would leave the definite matrices."""

    def energy(x, y):
        matrix = torch.stack([y[:, 0], y[:, 1], y[:, 1], y[:, 2]], 1).view(-1, 2, 2)
        factor = torch.linalg.cholesky(matrix)
        return x * (y[:, 0] + y[:, 2]) - 2 * factor.diagonal(dim1=1, dim2=2).log().sum(1)

    x = torch.tensor([100.0, 1.0], dtype=DOUBLE)
    y = torch.tensor([[0.02, 0.0, 0.02], [2.0, 0.5, 3.0]], dtype=DOUBLE)
    steep = halting(lambda info: info.gradient_norm > 10)
    solver = EnergySolver(energy, SGD(0.05), halting=steep | GradientNorm(1e-3), max_steps=400)
    alone = [solver.minimize(x[i : i + 1], y[i : i + 1]) for i in range(2)]
    together = solver.minimize(x, y)
    assert all(each.converged.all() for each in (*alone, together))
    torch.testing.assert_close(together.y, torch.cat([each.y for each in alone]))
    assert together.steps.tolist() == [each.steps.item() for each in alone]
    with pytest.raises(RuntimeError, match=r"inf or NaN.*cholesky_ex.*torch says: linalg.cholesky"):
        solver.replace(halting=Never()).minimize(x, y)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("exponent", [-7, -2, 0, 3.3, 4, 7.3, 20, 37])
def test_projections_at_the_ends_of_each_precision(dtype, exponent):
    most = torch.finfo(dtype).max
    large = min(10.0**exponent, most)
    y = torch.tensor([[large, 0.0, 0.0], [large, large, -large], [0.5, 0.2, 0.3], [-large, -large, -large]]).to(dtype)
    eps = torch.finfo(dtype).eps
    exact = y.double()
    simplex = Simplex()(y)
    assert simplex.dtype == dtype
    torch.testing.assert_close(simplex.double(), _simplex(exact), atol=4 * eps, rtol=0)
    for radius in (1.0, 1e-4, min(1e4, most)):
        ball = Ball(radius)(y)
        assert ball.dtype == dtype
        norm = exact.norm(dim=-1, keepdim=True)
        expected = torch.where(norm > radius, exact / norm * radius, exact)
        torch.testing.assert_close(ball.double(), expected, atol=torch.finfo(dtype).tiny, rtol=4 * eps)
    box = Box(-1e300, 0.25)(y)
    assert torch.equal(box.double(), exact.clamp(max=0.25))


def _simplex(y):
    """By bisection of the threshold, after a shift that changes nothing."""
    y = y - y.amax(-1, keepdim=True)
    low, high = torch.full_like(y[:, :1], -1.0), torch.zeros_like(y[:, :1])
    for _ in range(100):
        middle = (low + high) / 2
        over = (y - middle).clamp(min=0).sum(-1, keepdim=True) > 1
        low, high = torch.where(over, middle, low), torch.where(over, high, middle)
    return (y - low).clamp(min=0)


def test_points_that_failed_on_the_simplex():
    assert Simplex()(torch.tensor([[2e7, 0.0, 0.0]])).tolist() == [[1.0, 0.0, 0.0]]
    assert Simplex()(torch.tensor([[2051.0, 0.0, 0.0]], dtype=torch.float16)).tolist() == [[1.0, 0.0, 0.0]]


def test_a_box_beyond_the_precision():
    with pytest.raises(ValueError, match=r"float16 has no number in Box\(low=1000000"):
        Box(1e6, 1e7)(torch.zeros(1, 1, dtype=torch.float16))


@pytest.mark.parametrize("projection", [Box(0.0, 1.0), Ball(), Simplex()], ids=repr)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_sample_that_is_not_finite_in_a_constrained_batch(projection, bad):
    x = torch.tensor([[0.2, 0.3, 0.9], [bad, 0.0, 0.0], [5.0, -2.0, 0.1]])
    solver = EnergySolver(
        lambda x, y: (y - x).square().sum(-1) / 2,
        Projected(SGD(1.0), projection),
        init=Zeros((3,)),
        halting=GradientNorm(1e-5),
    )
    found = solver.minimize(x)
    assert found.status.tolist() == [Status.CONVERGED, Status.NONFINITE, Status.CONVERGED]
    torch.testing.assert_close(found.y[[0, 2]], projection(x[[0, 2]]))


COUPLED = {
    "global norm": lambda: torchopt.chain(clip_grad_norm(1.0), torchopt.sgd(0.1)),
    "refuses NaN": lambda: torchopt.chain(clip_grad_norm(1.0, error_if_nonfinite=True), torchopt.sgd(0.1)),
}


@pytest.mark.parametrize("factory", COUPLED.values(), ids=COUPLED)
def test_transformations_that_couple_samples_are_refused(factory):
    x = torch.tensor([[1.0, 2.0], [1e6, 1e6]])
    solver = EnergySolver(lambda x, y: (y - x).square().sum(-1), TorchOpt(factory), init=Zeros((2,)), max_steps=10)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"other samples.*Clipped\(TorchOpt"):
            solver.minimize(x)
    # What the message suggests gives each sample the answer that it has alone.
    clipped = solver.replace(optimizer=Clipped(TorchOpt(lambda: torchopt.sgd(0.1)), 1.0))
    alone = torch.cat([clipped.minimize(x[i : i + 1]).y for i in range(2)])
    assert torch.equal(clipped.minimize(x).y, alone)


SEPARATE = {
    "sgd": lambda: torchopt.sgd(0.1, momentum=0.9, nesterov=True),
    "adamw": lambda: torchopt.adamw(0.1),
    "adagrad": lambda: torchopt.adagrad(0.1),
    "adadelta": lambda: torchopt.adadelta(0.1),
    "adamax": lambda: torchopt.adamax(0.1),
    "radam": lambda: torchopt.radam(0.1),
    "rmsprop": lambda: torchopt.rmsprop(0.1, centered=True),
    "schedule": lambda: torchopt.sgd(torchopt.schedule.linear_schedule(0.1, 0.01, 5, 0)),
}


@pytest.mark.parametrize("factory", SEPARATE.values(), ids=SEPARATE)
def test_transformations_that_treat_samples_separately_are_accepted(factory):
    solver = EnergySolver(lambda x, y: (y - x).square().sum(-1), TorchOpt(factory), init=Zeros((2,)), max_steps=3)
    before = torch.get_rng_state()
    solver.minimize(torch.ones(2, 2))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("criterion", [EnergyChange(rtol=1e-7), GradientNorm(1e-2), StepNorm(1e-4)], ids=repr)
@pytest.mark.parametrize("optimizer", [SGD(0.02), Momentum(0.005)], ids=repr)
def test_half_precision_is_solved_in_float32(dtype, criterion, optimizer):
    """``(y - x)^2 / 2`` from far away: the last steps are lost to the rounding of y in half precision."""
    x, y = torch.tensor([[3.0, -200.0]]).to(dtype), torch.tensor([[100.0, -100.0]]).to(dtype)
    solver = EnergySolver(lambda x, y: (y - x).square().sum(-1) / 2, optimizer, halting=criterion, max_steps=900)
    found = solver.minimize(x, y)
    assert found.converged.all()
    assert found.y.dtype == torch.float32
    torch.testing.assert_close(found.y, x.float(), rtol=0.01, atol=0.5)
    assert torch.equal(found.y, solver.minimize(x.float(), y.float()).y)
    assert solver.replace(init=Uniform((2,))).minimize(x, max_steps=1).y.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("criterion", [EnergyChange(rtol=1e-6), StepNorm(1e-4)], ids=repr)
def test_a_network_in_half_precision_sees_rounded_answers(dtype, criterion):
    """Steps that it does not see add up in float32; the answer is the one that it has seen."""

    class Bowl(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(2, 2, bias=False).to(dtype)
            torch.nn.init.eye_(self.linear.weight)

        def forward(self, x, y):
            return (self.linear(y) - x).float().square().sum(-1) / 2

    x, y = torch.tensor([[3.0, -20.0]]).to(dtype), torch.tensor([[100.0, -100.0]]).to(dtype)
    solver = EnergySolver(Bowl(), SGD(1e-2), halting=criterion, max_steps=1500)
    found = solver.minimize(x, y)
    assert found.y.dtype == dtype
    torch.testing.assert_close(solver.energy(x, found.y), found.energy)
    torch.testing.assert_close(found.y, x, rtol=0.1, atol=1.0)


LOST = [EnergyChange(rtol=1e-5), EnergyChange(rtol=1e-5).patience(3), StepNorm(1e-9), StepNorm(1e-9) | After(9)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("criterion", LOST, ids=repr)
def test_a_step_that_is_lost_to_rounding_is_no_convergence(dtype, criterion):
    """A slope of 1 everywhere, from a number beside which a step is nothing."""
    y = torch.tensor([[2.0 / torch.finfo(dtype).eps], [1.0]], dtype=dtype)
    solver = EnergySolver(lambda x, y: y.squeeze(1), SGD(1e-3), halting=criterion, max_steps=5)
    found = solver.minimize(torch.zeros(2, 1, dtype=dtype), y)
    assert found.status.tolist() == [Status.STALLED, Status.MAX_STEPS]
    assert torch.equal(found.y[:1], y[:1])


def test_a_sample_at_rest_within_its_rounding_has_converged():
    x = torch.tensor([[1.2345], [0.3]])
    solver = EnergySolver(lambda x, y: (y - x).square().sum(-1) / 2, SGD(0.1), halting=EnergyChange(atol=1e-30))
    found = solver.minimize(x, torch.zeros(2, 1), max_steps=2000)
    assert found.converged.all()
    torch.testing.assert_close(found.y, x)
    at_the_minimum = solver.minimize(x, x)
    assert at_the_minimum.converged.all()
    assert (at_the_minimum.steps == 1).all()


SIZES = [(torch.float32, 1e25), (torch.float64, 1e200), (torch.float32, 1e-25), (torch.float64, 1e-200)]


@pytest.mark.parametrize("criterion", [GradientNorm(rtol=1e-3), Stationary()], ids=repr)
@pytest.mark.parametrize(("dtype", "size"), SIZES)
@pytest.mark.parametrize("layout", [Dense(2), Segment(torch.tensor([0, 1]), 2)], ids=["dense", "segment"])
def test_gradients_whose_squares_leave_the_precision(criterion, dtype, size, layout):
    """They are no convergence; where they overflow, the criterion holds at the answer as for any other size."""

    def info(step, size, previous):
        gradient = torch.tensor([[3.0, 4.0], [0.0, 0.0]], dtype=dtype) * size
        energy = torch.tensor([25.0, 0.0], dtype=dtype) / 2
        return StepInfo(torch.tensor(step), energy, energy, energy, (gradient,), (gradient,), previous, layout)

    free = (torch.zeros(2, 2, dtype=dtype),)
    fires, state = criterion.update(info(0, size, None), criterion.init(torch.zeros(2, dtype=dtype)))
    assert not fires[0]
    fires, state = criterion.update(info(1, size, free), state)
    assert not fires[0]
    if size > 1:
        fires, _ = criterion.update(info(2, size**0.5, free), state)
        assert fires.all()


def test_an_overflowing_gradient_in_a_solve():
    x = torch.tensor([[1.0], [1e25]])
    solver = EnergySolver(lambda x, y: (x * (y + 1)).sum(-1), SGD(1e-30), halting=GradientNorm(rtol=0.1), max_steps=3)
    assert solver.minimize(x, torch.zeros(2, 1)).status.tolist() == [Status.MAX_STEPS] * 2


def test_residual_optimizers_and_masks():
    """A `LevenbergMarquardt` step of a halted sample is not evaluated either."""
    visited = []

    def residuals(x, y):
        visited.append(y.detach().clone())
        return y.exp() - x

    x, y = torch.tensor([[1.0], [50.0]], dtype=DOUBLE), torch.tensor([[1e-9], [0.0]], dtype=DOUBLE)
    solver = EnergySolver(LeastSquares(residuals), LevenbergMarquardt(), halting=GradientNorm(1e-6), max_steps=50)
    assert solver.minimize(x, y).steps[0] == 0
    assert {point[0].item() for point in visited} == {1e-9}
