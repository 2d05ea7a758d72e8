"""Samples without a finite second derivative, and energies that differ when they are evaluated again."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from energysolve import (
    LBFGS,
    SGD,
    Adam,
    Energy,
    EnergySolver,
    GradientNorm,
    Implicit,
    Momentum,
    Never,
    Segment,
    Truncated,
    Unroll,
)
from energysolve.differentiation import DifferentiationError, DifferentiationWarning
from energysolve.optimizers import InnerOptimizer

DOUBLE = torch.float64
MODES = [Truncated(1), Truncated(3), Unroll(), Implicit()]
BAD = 1


def power(r):
    """Its second derivative is infinite at 0."""
    return r.abs() ** 1.5 + r.square() / 2


def distance(r):
    """The second derivative of the norm is NaN at 0."""
    return r.norm(dim=-1, keepdim=True) * r.new_tensor([1.0, 0.0]) + r.square() / 2


def gradients(function, mode, halting, layout, samples, shared=False):
    """The gradients by a weight and by ``x``, and the warnings."""
    weight = torch.tensor([1.0, 0.7], dtype=DOUBLE, requires_grad=True)
    # The bad sample starts where nothing pulls it away, and stays.
    x = torch.tensor([[1.0, -2.0], [0.0, 0.0], [0.5, 3.0]], dtype=DOUBLE)[samples].requires_grad_()
    start = torch.tensor([[0.2, 0.1], [0.0, 0.0], [-1.0, 1.0]], dtype=DOUBLE)[samples]
    rows = Segment(torch.arange(len(x)), len(x))
    pieces = torch.tensor([3.0, 0.0, 2.0], dtype=DOUBLE)[samples]

    def energy(x, y):
        problem, strength = x["own"], x["strength"]
        every = weight * ((y - problem).square() + strength.unsqueeze(1) * function(y))
        if shared:
            every = every + 0 * x["shared"].sum()
        return every.sum(-1)

    options = {"layout": lambda x: Segment(torch.arange(len(x["own"])), len(x["own"]))} if layout else {}
    problem = {"own": x, "strength": torch.ones(len(x), dtype=DOUBLE)}
    if shared:  # as many rows as the batch, and every sample needs them all
        problem["shared"] = rows.index.double().unsqueeze(1) + pieces.unsqueeze(1)
    solver = EnergySolver(energy, SGD(0.1), halting=halting, differentiation=mode, max_steps=8, **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        y = solver.minimize(problem, start).y
        found = torch.autograd.grad((y * torch.tensor([1.0, 2.0])).sum(), (weight, x))
    named = [str(w.message) for w in caught if w.category is DifferentiationWarning and "no finite" in str(w.message)]
    return *found, named


@pytest.mark.parametrize("layout", [False, True], ids=["dense", "segment"])
@pytest.mark.parametrize("function", [power, distance], ids=["power", "norm"])
@pytest.mark.parametrize("halting", [Never(), GradientNorm(5.0)], ids=repr)
@pytest.mark.parametrize("mode", MODES, ids=repr)
def test_a_sample_without_a_finite_second_derivative(mode, halting, function, layout):
    if mode == Implicit() and halting == Never():
        pytest.skip("contradictory, an error of its own")
    weight, x, named = gradients(function, mode, halting, layout, [0, BAD, 2])
    other_weight, other_x, none = gradients(function, mode, halting, layout, [0, 2])
    assert torch.equal(weight, other_weight)
    assert torch.equal(x[[0, 2]], other_x)
    assert (x[BAD] == 0).all()
    assert not none
    if halting == Never() or mode == Implicit():
        assert len(named) == 1
        assert "1 of 3 samples" in named[0]
        assert f"[{BAD}]" in named[0]


@pytest.mark.parametrize("mode", [Truncated(2), Unroll()], ids=repr)
def test_problems_that_cannot_be_selected(mode):
    """The bad sample remains in the batch, at another point."""
    weight, x, named = gradients(power, mode, Never(), False, [0, BAD, 2], shared=True)
    other_weight, other_x, _ = gradients(power, mode, Never(), False, [0, 2], shared=True)
    torch.testing.assert_close(weight, other_weight, rtol=1e-12, atol=0)
    torch.testing.assert_close(x[[0, 2]], other_x, rtol=1e-12, atol=0)
    assert (x[BAD] == 0).all()
    assert len(named) == 1


class Noisy(Energy):
    """A network with dropout, noise or a buffer that moves at every evaluation."""

    def __init__(self, kind):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(4, 16, generator=generator, dtype=DOUBLE) / 4)
        self.kind = kind
        self.register_buffer("count", torch.zeros((), dtype=DOUBLE))
        self.own = torch.Generator().manual_seed(1)

    def evaluate(self, context, y):
        hidden = torch.tanh((y - context) @ self.weight)
        if self.kind == "dropout":
            hidden = F.dropout(hidden, 0.5)
        elif self.kind == "noise":
            hidden = hidden + 0.1 * torch.randn(hidden.shape, generator=self.own, dtype=DOUBLE)
        elif self.kind == "buffer":
            self.count += 1
            hidden = hidden * (1 + 0.02 * self.count)
        return hidden.square().sum(-1) + (y - context).square().sum(-1) / 10


class NoisySteps(InnerOptimizer):
    def init(self, free):
        return ()

    def step(self, at, state, evaluate):
        return tuple(y - 0.1 * torch.rand_like(y) * g for y, g in zip(at.free, at.gradient, strict=True)), state


def randn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)


@pytest.mark.parametrize("optimizer", [SGD(0.1), Momentum(0.05), Adam(0.05), LBFGS()], ids=repr)
@pytest.mark.parametrize("kind", ["noise", "buffer"])
@pytest.mark.parametrize("mode", [Truncated(2), Unroll(), Implicit()], ids=repr)
def test_another_path_is_an_error(mode, kind, optimizer):
    solver = EnergySolver(Noisy(kind), optimizer, halting=GradientNorm(1.0), differentiation=mode, max_steps=100)
    x = randn(3, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DifferentiationWarning)
        with pytest.raises(DifferentiationError, match=r"deterministic.*\.eval\(\)"):
            solver.minimize(x, x + 1)


def test_noise_in_the_optimizer_is_an_error():
    """The numbers that it draws do not follow the evaluations, so no state of the generators repeats them."""
    solver = EnergySolver(Noisy(""), NoisySteps(), halting=GradientNorm(1.0), differentiation=Truncated(2))
    x = randn(3, 4) * torch.tensor([[1.0], [2.0], [4.0]])
    with pytest.raises(DifferentiationError, match="another point"):
        solver.minimize(x, torch.ones_like(x))


@pytest.mark.parametrize("mode", [Unroll(), Truncated(3), Truncated(20)], ids=repr)
@pytest.mark.parametrize("halting", [Never(), GradientNorm(0.0)], ids=repr)
def test_dropout_is_repeated_where_all_samples_take_the_same_steps(mode, halting):
    """Against the same descent by hand, with the generator started alike; the generator goes on from there."""
    energy, x = Noisy("dropout"), randn(3, 4)
    steps, tracked = 6, {Unroll(): 6, Truncated(3): 3, Truncated(20): 6}[mode]
    solver = EnergySolver(energy, SGD(0.1), halting=halting, differentiation=mode, max_steps=steps)
    torch.manual_seed(3)
    found = solver.minimize(x, x + 1)
    after = torch.rand(3)
    gradient = torch.autograd.grad(found.y.sum(), energy.weight)[0]
    torch.manual_seed(3)
    y = x + 1
    for step in range(steps):
        follows = step > steps - tracked
        y = y if follows else y.detach().requires_grad_()
        (slope,) = torch.autograd.grad(energy(x, y).sum(), y, create_graph=True)
        y = y - 0.1 * slope
    torch.testing.assert_close(found.y, y)
    torch.testing.assert_close(gradient, torch.autograd.grad(y.sum(), energy.weight)[0])
    energy(x, y)  # of the answer
    assert torch.equal(after, torch.rand(3))


def test_a_long_unstable_descent_is_no_other_path():
    """The replay repeats it to the last bit."""
    x = randn(4, 3)
    solver = EnergySolver(
        lambda x, y: ((3 * y).sin() * (y - x).square()).sum(-1),
        SGD(0.7),
        halting=Never(),
        differentiation=Unroll(),
        max_steps=200,
    )
    start = x.clone().requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DifferentiationWarning)  # derivatives may overflow
        assert solver.minimize(x, start).y.isfinite().all()
