"""Energies made of energies."""

import math

import pytest
import torch
from torch import nn

from energysolve import (
    SGD,
    Energy,
    EnergySolver,
    GradientNorm,
    MLPEnergy,
    Never,
    TargetEnergy,
    Truncated,
    Uniform,
    Unroll,
    Zeros,
)
from energysolve.energies import FunctionEnergy, Mapped, Quadratic, SoftMin, WeightedSum


def near(x, y):
    return ((y - x) ** 2).sum(-1)


def small(x, y):
    return (y**2).sum(-1)


def tied(x, y, z):
    return ((y - z) ** 2).sum(-1)


class Counted(Energy):
    """Counts how often the problem is encoded."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))
        self.encoded = 0

    def encode(self, x):
        self.encoded += 1
        return self.scale * x

    def evaluate(self, context, y):
        return near(context, y)


class Plain(nn.Module):
    """A module that is no Energy."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 1)

    def forward(self, x, y):
        return self.linear(y).squeeze(-1).square()


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(4, 2, generator=generator), torch.randn(4, 2, generator=generator)


def test_a_weighted_sum_of_an_energy_a_module_and_a_function(pair):
    counted, plain = Counted(2.0), Plain()
    energy = WeightedSum([counted, plain, near], [1.0, -0.5, 3.0])
    expected = counted(*pair) - 0.5 * plain(*pair) + 3.0 * near(*pair)
    torch.testing.assert_close(energy(*pair), expected)


def test_operators_build_the_same_sum(pair):
    a, b = Counted(2.0), Counted(3.0)
    expected = 2.0 * a(*pair) + b(*pair) * 0.5 + near(*pair)
    torch.testing.assert_close((2.0 * a + b * 0.5 + near)(*pair), expected)
    torch.testing.assert_close((near + (a * 2 + 0.5 * b))(*pair), expected)
    assert isinstance(a + near, WeightedSum)
    for nonsense in (lambda: a + 3.0, lambda: a * b, lambda: 1 + a):
        with pytest.raises(TypeError, match="unsupported operand"):
            nonsense()


def test_every_term_encodes_the_problem_once_a_solve(pair):
    a, b = Counted(), Counted()
    solver = EnergySolver(2.0 * (a + near) + b, SGD(0.01), init=Zeros((2,)), halting=Never(), max_steps=7)
    solver.minimize(pair[0])
    assert (a.encoded, b.encoded) == (1, 1)


def test_parameters_are_registered_and_reached_by_gradients(pair):
    energy = WeightedSum([Counted(), Plain(), near], [1.0, 2.0, 3.0], learnable=True)
    names = {name for name, _ in energy.named_parameters()}
    expected = {"weights", "terms.0.scale", "terms.1.function.linear.weight", "terms.1.function.linear.bias"}
    assert names == expected
    solver = EnergySolver(energy, SGD(0.05), init=Zeros((2,)), halting=Never(), max_steps=3, differentiation=Unroll())
    solver.minimize(pair[0]).y.square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in energy.parameters())


def test_fixed_weights_are_no_parameters_and_exact_in_double(pair):
    energy = WeightedSum([near], [0.1])
    assert not list(energy.parameters())
    x, y = (tensor.double() for tensor in pair)
    assert torch.equal(energy(x, y), 0.1 * near(x, y))


def test_learned_and_analytic_terms_train_together(pair):
    energy = MLPEnergy(2, 2, width=8) + 0.1 * Quadratic(torch.eye(2))
    solver = EnergySolver(energy, SGD(0.1), init=Uniform((2,)), max_steps=5, differentiation=Truncated(1))
    solver.minimize(pair[0], generator=torch.Generator().manual_seed(0)).y.sum().backward()
    assert energy.terms[0].from_y.weight.grad.abs().sum() > 0
    assert energy.terms[1].terms[0].matrix.grad.abs().sum() > 0


def test_terms_with_and_without_a_scratchpad_mix(pair):
    x, y = pair
    z = torch.ones_like(y)
    energy = 0.5 * (Counted() + tied) + small
    torch.testing.assert_close(energy(x, y, z), 0.5 * (near(x, y) + tied(x, y, z)) + small(x, y))
    solver = EnergySolver(energy, SGD(0.3), init=Zeros((2,)), scratchpad=Zeros((2,)), halting=GradientNorm(1e-5))
    solution = solver.minimize(x)  # tied is 0 at z = y; the rest is least at x / 3
    assert solution.converged.all()
    torch.testing.assert_close(solution.z, solution.y, rtol=0, atol=1e-5)
    torch.testing.assert_close(solution.y, x / 3, rtol=0, atol=1e-5)


def test_a_scratchpad_too_many_or_too_few_is_an_error(pair):
    x, y = pair
    with pytest.raises(ValueError, match="takes none"):
        (Counted() + near)(x, y, y)
    with pytest.raises(ValueError, match="takes a scratchpad z, but none was given"):
        EnergySolver(Counted() + tied, SGD(0.1)).minimize(x, y)
    with pytest.raises(ValueError, match="takes no scratchpad"):
        Mapped(near, z=torch.sin)


def test_soft_min_lies_just_below_the_least(pair):
    for temperature in (1.0, 1e-2, 1e-6):
        low = torch.minimum(near(*pair), small(*pair))
        value = SoftMin([near, small], temperature)(*pair)
        assert (value <= low + 1e-6).all()
        assert (value >= low - temperature * math.log(2) - 1e-6).all()


def test_soft_min_does_not_overflow():
    x, y = torch.zeros(2, 1), torch.tensor([[1e3], [3e2]])
    value = SoftMin([near, small], 1e-3)(x, y)
    torch.testing.assert_close(value, near(x, y) - 1e-3 * math.log(2))


def test_soft_min_is_a_disjunction():
    x = torch.tensor([[3.0], [-3.0]])
    either = SoftMin([near, lambda x, y: ((y + x) ** 2).sum(-1)], 0.1)  # y = x or y = -x
    start = torch.full((2, 1), 1.0)
    solution = EnergySolver(either, SGD(0.2), halting=TargetEnergy(1e-6), max_steps=100).minimize(x, start)
    assert solution.converged.all()
    torch.testing.assert_close(solution.y, torch.full((2, 1), 3.0), rtol=0, atol=1e-2)


def test_mapped_applies_its_functions(pair):
    x, y = pair
    decoder = nn.Linear(2, 2)
    energy = Mapped(near, x=torch.sin, y=decoder)
    torch.testing.assert_close(energy(x, y), near(x.sin(), decoder(y)))
    assert len(list(energy.parameters())) == 2
    assert torch.equal(Mapped(tied, z=torch.exp)(x, y, y), tied(x, y, y.exp()))
    assert torch.equal(Mapped(near)(x, y), near(x, y))


def test_mapped_maps_the_problem_once_a_solve(pair):
    calls = []

    def features(x):
        calls.append(1)
        return 2 * x

    solver = EnergySolver(Mapped(near, x=features), SGD(0.1), init=Zeros((2,)), halting=Never(), max_steps=5)
    solver.minimize(pair[0])
    assert len(calls) == 1


def test_function_energy_is_the_function(pair):
    assert torch.equal(FunctionEnergy(near)(*pair), near(*pair))
    assert "near" in repr(FunctionEnergy(near))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: WeightedSum([]), "at least one energy"),
        (lambda: SoftMin([]), "at least one energy"),
        (lambda: WeightedSum([near, small], [1.0]), "one weight for each of its 2"),
        (lambda: WeightedSum([near], [float("nan")]), "finite weights"),
        (lambda: math.inf * Counted(), "finite weights"),
        (lambda: SoftMin([near], 0.0), "positive, finite temperature"),
        (lambda: SoftMin([near], float("inf")), "positive, finite temperature"),
    ],
)
def test_invalid_arguments(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("nonsense", [3.0, MLPEnergy, None])
def test_what_is_no_energy_is_refused(nonsense):
    with pytest.raises(TypeError):
        WeightedSum([near, nonsense])


def test_a_term_of_the_wrong_shape_is_named(pair):
    def wrong(x, y):
        return y.sum(-1, keepdim=True)  # added to (batch,), it would broadcast to (batch, batch)

    with pytest.raises(ValueError, match=r"wrong(.|\n)*\(4, 1\); expected \(batch,\)"):
        (Counted() + wrong)(*pair)
