"""Problems taken out of an ``x`` of the user's own kind, and the checks that depend on it."""

from dataclasses import dataclass

import pytest
import torch

from energysolve import SGD, Dense, EnergySolver, GradientNorm, Implicit, MLPEnergy, Status, Truncated, Unroll
from energysolve.engine.compaction import CompactionWarning
from energysolve.landscape import descent
from energysolve.testing import check_energy, check_halting, check_optimizer

COUNT = 6


@dataclass(frozen=True, eq=False)
class Springs:
    """Targets with stiffnesses, and weights of all samples that are as many as the samples."""

    stiffness: torch.Tensor
    target: torch.Tensor
    weights: torch.Tensor


def energy(x: Springs, y):
    return x.stiffness * (y - x.target).square().sum(-1) * x.weights.sum()


def select(x: Springs, samples):
    return Springs(x.stiffness[samples], x.target[samples], x.weights)


def springs(**fields):
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(COUNT, 3, dtype=torch.float64, generator=generator)
    stiffness = torch.linspace(1, 0.05, COUNT, dtype=torch.float64)
    x = Springs(stiffness, target, torch.full((COUNT,), 0.5, dtype=torch.float64))
    parts = {"layout": lambda x: Dense(len(x.stiffness)), "halting": GradientNorm(1e-3), "max_steps": 300} | fields
    return EnergySolver(energy, SGD(0.1), **parts), x, torch.zeros_like(target)


def test_halted_samples_leave():
    solver, x, y = springs()
    plain = solver.minimize(x, y)
    sizes = []

    def seen(x, y):
        sizes.append(len(y))
        return energy(x, y)

    compact = solver.replace(energy=seen, compact=True, select=select).minimize(x, y)
    assert torch.equal(compact.y, plain.y)
    assert torch.equal(compact.steps, plain.steps)
    assert min(sizes) == 1
    as_dict = solver.replace(energy=lambda x, y: energy(Springs(**x), y), compact=True, layout=None)
    with pytest.warns(CompactionWarning, match="select="):  # the weights look like one row per sample
        compact = as_dict.minimize(vars(x), y)
    assert torch.equal(compact.y, plain.y)


@pytest.mark.parametrize("mode", [Truncated(2), Unroll(), Implicit()], ids=repr)
def test_a_sample_that_is_not_finite_leaves_the_gradients_of_the_others_alone(mode):
    solver, x, y = springs(differentiation=mode)
    poisoned = Springs(x.stiffness, x.target.clone(), x.weights)
    poisoned.target[2] = torch.nan
    others = torch.arange(COUNT) != 2
    calls = []

    def seen(x, samples):
        calls.append(samples.tolist())
        return select(x, samples)

    weights = x.weights.clone().requires_grad_()
    expected = solver.minimize(Springs(x.stiffness, x.target.clone(), weights), y).y[others].square().sum()
    (expected,) = torch.autograd.grad(expected, weights)
    weights = x.weights.clone().requires_grad_()
    found = solver.replace(select=seen).minimize(Springs(x.stiffness, poisoned.target, weights), y)
    assert found.status[2] == Status.NONFINITE
    (gradient,) = torch.autograd.grad(found.y.square().sum(), weights)
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-14)
    assert calls == [[0, 1, 0, 3, 4, 5]]


def test_landscapes_of_one_problem():
    solver, x, y = springs(select=select)
    path = descent(solver, x, y)
    candidates = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = 3 * x.stiffness[4] * (candidates - x.target[4]).square().sum(1)
    torch.testing.assert_close(path.energy_of(candidates, 4), expected)


def test_the_check_of_an_energy_selects_as_the_solver_does():
    _, x, y = springs()
    check_energy(energy, x, y, layout=Dense(COUNT), select=select)
    with pytest.raises(AssertionError, match="select="):
        check_energy(energy, x, y, layout=Dense(COUNT))
    shared = {"target": x.target, "scale": torch.tensor([0.5, 2.0])}
    check_energy(lambda x, y: x["scale"].prod() * (y - x["target"]).square().sum(-1), shared, y)


@pytest.mark.parametrize(
    "mixing",
    [
        lambda x, y: (y - x).square().sum(-1) - 1e-6 * (y - x).square().mean(),
        lambda x, y: (y - x - 1e-6 * y.mean(0)).square().sum(-1),
        lambda x, y: (y - x).square().sum(-1) / len(y),
    ],
)
def test_samples_that_mix_are_found(mixing):
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    with pytest.raises(AssertionError, match="Sample 0 has energy"):
        check_energy(mixing, x, torch.zeros_like(x))


def test_the_parts_of_the_library_keep_their_contracts():
    check_optimizer(SGD(0.1))
    check_halting(GradientNorm(0.5).patience(2))


def test_select_is_not_saved(tmp_path):
    solver = EnergySolver(MLPEnergy(3, 3, width=4), SGD(0.1), select=lambda x, samples: x[samples])
    with pytest.raises(TypeError, match=r"select is a function.*replace\(select=None\)"):
        solver.save_pretrained(tmp_path)
