"""Solving is covariant: in other units the answers are the same. What has no answer does not converge."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from energysolve import (
    SGD,
    EnergySolver,
    FromInput,
    GradientNorm,
    Implicit,
    Momentum,
    Status,
    Trajectory,
    Zeros,
)
from energysolve.energies import FactoredCompletion, PreconditionedInverse
from energysolve.presets import DOMAINS
from energysolve.solution import NotConvergedError

NAMES = ("addition", "completion", "inverse")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def shipped(name, problems=6, difficulty="same"):
    solver = EnergySolver.from_pretrained(name)
    task = DOMAINS[name].task_of(solver)
    x, target = task.sample(problems, difficulty, generator())
    return solver.suited(task), x, target


def unit(name, factor):
    """Of the answers, where problems are ``factor`` times as large."""
    return 1 / factor if name == "inverse" else factor


@settings(max_examples=4, deadline=None)
@given(power=st.integers(-55, 55).filter(lambda power: abs(power) > 12))
@pytest.mark.parametrize("name", NAMES)
def test_scaling_by_a_power_of_two_changes_no_digit(name, power):
    """Of problems so large, or so small, that the noise of the completion is not believed, or of any others."""
    solver, x, _ = shipped(name, problems=1 if name == "completion" else 4)
    base = 2.0**13 if name == "completion" else 1.0
    small, large = (solver.minimize(factor * x, generator=generator(1)) for factor in (base, 2.0**power))
    assert torch.equal(small.y * unit(name, 2.0**power / base), large.y)
    assert torch.equal(small.steps, large.steps)
    assert torch.equal(small.status, large.status)


@pytest.mark.parametrize("factor", [1e-10, 1e-4, 1e4, 1e10])
@pytest.mark.parametrize("name", ["addition", "inverse"])
def test_answers_are_as_exact_in_any_units(name, factor):
    solver, x, target = shipped(name)
    solution = solver.minimize(factor * x, generator=generator(1))
    assert solution.converged.all()
    found, wanted = (each.double().flatten(1) for each in (solution.y, target * unit(name, factor)))
    assert ((found - wanted).norm(dim=1) <= 2e-4 * wanted.norm(dim=1)).all()


@pytest.mark.parametrize("factor", [1e-4, 1.0, 100.0])
def test_covariances_of_daily_returns(factor):
    """Standard deviations of 1 %, in other units; against NumPy's inverse in float64."""
    returns = 0.01 * torch.randn(40, 250, 20, generator=generator(), dtype=torch.float64)
    covariances = factor * returns.mT @ returns / 250
    solution = EnergySolver.from_pretrained("inverse").minimize(covariances.float(), generator=generator())
    assert solution.converged.all()
    wanted = torch.linalg.inv(covariances)
    assert ((solution.y - wanted).flatten(1).norm(dim=1) <= 5e-4 * wanted.flatten(1).norm(dim=1)).all()


def test_matrices_without_an_inverse_of_the_kind_do_not_converge():
    solver, x, target = shipped("inverse", problems=8)
    solver = solver.replace(max_steps=3000)
    noise = torch.randn(20, 20, generator=generator(3))
    halves = torch.randn(20, 10, generator=generator(4))
    broad = torch.linalg.qr(noise.double())[0]
    wide = ((broad * torch.logspace(0, -5, 20, dtype=torch.float64)) @ broad.mT).float()
    bad = {
        1: x[1] + 0.05 * (noise - noise.mT),  # not symmetric, its symmetric part positive definite
        2: x[2] * (1 + 1e-3 * noise),  # slightly so
        3: halves @ halves.mT,  # singular
        4: -x[4],
        5: noise + noise.mT,  # indefinite
        6: torch.zeros(20, 20),
        7: (wide + wide.mT) / 2,  # so ill-conditioned that float32 cannot tell its inverse to 1 %
    }
    for row, matrix in bad.items():
        x[row] = matrix
    solution = solver.minimize(x, generator=generator())
    assert not solution.converged[1:].any()
    assert solution.status[1] == solution.status[2] == Status.REJECTED
    assert solution.converged[0]
    torch.testing.assert_close(solution.y[0], target[0], rtol=1e-3, atol=1e-4)
    with pytest.raises(NotConvergedError, match=r"2 of 3 samples \(indices \[1, 2\]\) failed the energy's own test"):
        solver.minimize(x[:3], generator=generator()).raise_for_status()


def test_the_residual_needs_no_target_and_decides(monkeypatch):
    solver, x, _ = shipped("inverse", problems=3)
    solution = solver.minimize(x, generator=generator())
    eye = torch.eye(20, dtype=torch.float64)
    expected = torch.linalg.matrix_norm(x.double() @ solution.y.double() - eye) / 20**0.5
    residual = solver.energy.residual(x, solution.y)
    torch.testing.assert_close(residual.double(), expected, rtol=1e-5, atol=0)
    monkeypatch.setattr(solver.energy, "tolerance", residual.median().item())
    again = solver.minimize(x, generator=generator())
    assert torch.equal(again.status == Status.REJECTED, residual > residual.median())


@pytest.mark.parametrize("factor", [1e-3, 1.0, 1e3])
def test_a_clean_table_is_completed_in_any_units(factor):
    """Of rank 2, a third missing: truncated singular values of the true table, known to the test alone, are exact."""
    left, right = torch.randn(4, 20, 2, generator=generator(1)), torch.randn(4, 2, 20, generator=generator(2))
    truth = left @ right
    seen = torch.rand(truth.shape, generator=generator(3)) < 2 / 3
    solver = EnergySolver.from_pretrained("completion").replace(max_steps=5000)
    solution = solver.minimize(factor * torch.where(seen, truth, 0.0), generator=generator())
    assert solution.converged.all()
    missing = (solution.y / factor - truth)[~seen]
    assert missing.square().mean().sqrt() < 0.5 * truth[~seen].square().mean().sqrt()
    torch.testing.assert_close(solution.y[seen], factor * truth[seen], rtol=1e-2, atol=1e-2 * factor)


def test_an_energy_that_believes_its_noise_is_solved_in_any_units():
    """With ``noise`` in units of the problem the answers are the same, and not zeros, however large they are."""
    left, right = torch.randn(3, 8, 2, generator=generator(1)), torch.randn(3, 2, 6, generator=generator(2))
    x = torch.where(torch.rand(3, 8, 6, generator=generator(3)) < 0.7, left @ right, 0.0).double()
    answers = []
    for factor in (1.0, 1000.0):
        energy = FactoredCompletion(8, 6, 2, noise=0.3 * factor)
        solver = EnergySolver(
            energy.double(), Momentum(0.02), init=FromInput(), halting=GradientNorm(1e-6), max_steps=20_000
        )
        z = torch.randn(3, 14, 2, generator=generator(4), dtype=torch.float64)
        solution = solver.minimize(factor * x, z=z)
        assert solution.converged.all()
        answers.append(solution.y / factor)
    torch.testing.assert_close(*answers, rtol=0, atol=1e-4)
    assert answers[0][x == 0].abs().mean() > 0.1


@pytest.fixture
def inverse():
    """A solver in float64, and matrices of different units."""
    energy = PreconditionedInverse(3).double()
    solver = EnergySolver(energy, SGD(1.0), init=Zeros((3, 3)), halting=GradientNorm(1e-12), max_steps=400)
    roots = torch.randn(4, 3, 3, generator=generator(), dtype=torch.float64)
    factors = torch.tensor([1e-6, 1.0, 1e6, 50.0], dtype=torch.float64).view(-1, 1, 1)
    return solver, factors * (roots @ roots.mT + torch.eye(3, dtype=torch.float64))


def test_derivatives_are_those_of_the_inverse(inverse):
    solver, x = inverse
    x.requires_grad_()
    weights = torch.randn(4, 3, 3, generator=generator(1), dtype=torch.float64)
    weights = weights + weights.mT  # a symmetric problem cannot move otherwise
    solution = solver.replace(differentiation=Implicit()).minimize(x)
    (found,) = torch.autograd.grad((solution.y * weights).sum(), x)
    (wanted,) = torch.autograd.grad((torch.linalg.inv(x) * weights).sum(), x)
    for ours, theirs in zip(found + found.mT, wanted + wanted.mT, strict=True):
        torch.testing.assert_close(ours / theirs.norm(), theirs / theirs.norm(), rtol=1e-6, atol=1e-8)


def test_energies_and_records_are_in_the_users_units(inverse):
    solver, x = inverse
    solution = solver.replace(recorder=Trajectory()).minimize(x)
    torch.testing.assert_close(solution.energy, solver.energy(x, solution.y))
    for y, energy in zip(solution.record.y, solution.record.energy, strict=True):
        torch.testing.assert_close(energy, solver.energy(x, y), rtol=1e-9, atol=0)
    assert torch.equal(solution.record.y[-1], solution.y)


def test_given_answers_are_in_the_users_units(inverse):
    solver, x = inverse
    answer = solver.minimize(x).y
    again = solver.replace(halting=GradientNorm(1e-9)).minimize(x, answer)
    assert (again.steps == 0).all()
    assert again.converged.all()
    assert torch.equal(again.y, answer)
    computed = solver.replace(init=FromInput(torch.linalg.inv), halting=GradientNorm(1e-9)).minimize(x)
    assert (computed.steps == 0).all()
    assert torch.equal(computed.y, torch.linalg.inv(x))
    none = solver.minimize(x, torch.ones_like(x), max_steps=0)
    assert torch.equal(none.y, torch.ones_like(x))


def test_other_ways_to_solve_are_in_the_users_units(inverse):
    solver, x = inverse
    answer = solver.minimize(x)
    compact = solver.replace(compact=True).minimize(x)
    assert torch.equal(compact.steps, answer.steps)
    several = solver.replace(restarts=2).minimize(x)
    y, _ = solver.replace(max_steps=60).descend(x)
    for found in (compact.y, several.y, y):
        torch.testing.assert_close(found, torch.linalg.inv(x), rtol=1e-6, atol=0)


def test_a_nan_in_one_problem_is_its_own():
    solver, x, target = shipped("inverse", problems=3)
    x[1, 2, 2] = float("nan")
    solution = solver.minimize(x, generator=generator())
    assert solution.status.tolist() == [Status.CONVERGED, Status.NONFINITE, Status.CONVERGED]
    assert solution.y.isfinite().all()
    torch.testing.assert_close(solution.y[[0, 2]], target[[0, 2]], rtol=1e-3, atol=1e-4)
