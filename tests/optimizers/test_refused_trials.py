"""Criteria and refused trials: a criterion sees the iterates alone, under every optimizer that searches.

The right value is the criterion replayed on the iterates of a search that nothing stops, energies and gradients
computed again at each. (FixedPoint's criteria see its residual in place of the gradient.)
"""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from law_cases import LAW

from energysolve import (
    LBFGS,
    SGD,
    Backtracking,
    EnergyChange,
    EnergyIncrease,
    EnergySolver,
    FixedPoint,
    GradientNorm,
    LeastSquares,
    LevenbergMarquardt,
    Momentum,
    Never,
    NewtonCG,
    Status,
    StepInfo,
    StepNorm,
    Trajectory,
)
from energysolve.engine.objective import Objective
from energysolve.halting import Stationary
from energysolve.layout import Dense

SEARCHING = [
    LBFGS(),
    Backtracking(SGD(1.0)),
    Backtracking(Momentum(1.0)),
    NewtonCG(),
    LevenbergMarquardt(),
    FixedPoint(),
]
CRITERIA = [
    EnergyChange(rtol=1e-2),
    EnergyChange(atol=1e-3).patience(3),
    EnergyChange(rtol=1e-1).patience(2) & StepNorm(0.3),
    StepNorm(0.1),
    StepNorm(0.3).patience(2),
    EnergyIncrease(),
    Stationary(),
    Stationary(rtol=0.1, gradient_rtol=0.3),
    GradientNorm(rtol=1e-2).patience(2),
]
BATCH, DIM, TRIALS = 8, 2, 12


def folded(x, y):
    """Residuals of a curved valley with folds, in which long steps overshoot."""
    return y - x - 1.5 * torch.sin(2 * y.flip(1))


ENERGY = LeastSquares(folded)


def problem(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, BATCH, DIM, generator=generator, dtype=torch.float64) * torch.tensor([1.0, 4.0]).view(2, 1, 1)


def solve(seed, optimizer, halting, **parts):
    x, y = problem(seed)
    return EnergySolver(ENERGY, optimizer, halting=halting, **{"max_steps": TRIALS} | parts).minimize(x, y)


def replayed(seed, optimizer, criterion, path):
    """``(batch,)``: the first iterate at which the criterion fires on the path, or the length of the path."""
    x, _ = problem(seed)
    objective = Objective(ENERGY.evaluate, x, Dense(BATCH))
    initial = previous = objective((path[0],))
    state, first = criterion.init(initial.energy), torch.full((BATCH,), len(path))
    for step, y in enumerate(path):
        at = objective((y,))
        info = StepInfo(
            step=torch.tensor(step),
            energy=at.energy,
            previous_energy=previous.energy if step else torch.full_like(at.energy, torch.inf),
            initial_energy=initial.energy,
            gradient=optimizer.residual(at),
            free=at.free,
            previous=previous.free if step else None,
            layout=Dense(BATCH),
        )
        fires, state = criterion.update(info, state)
        first = torch.where(fires & (first == len(path)), step, first)
        previous = at
    return first


@LAW
@given(st.integers(0, 2**16), st.sampled_from(SEARCHING), st.sampled_from(CRITERIA))
def test_criteria_see_iterates_alone(seed, optimizer, criterion):
    full = solve(seed, optimizer, Never(), recorder=Trajectory())
    expected = replayed(seed, optimizer, criterion, full.record.y)
    found = solve(seed, optimizer, criterion)
    fires = expected <= full.steps
    assert torch.equal(found.converged, fires)
    assert torch.equal(found.steps, torch.where(fires, expected, full.steps))
    for sample, step in enumerate(found.steps.tolist()):
        assert torch.equal(found.y[sample], full.record.y[step][sample])


@pytest.mark.parametrize("optimizer", SEARCHING, ids=repr)
def test_no_step_has_the_length_zero(optimizer):
    """Searches go on until they stall: trials are refused there, and steps are lost to rounding."""
    found = solve(0, optimizer, StepNorm(0.0), max_steps=400, recorder=Trajectory())
    assert not found.converged.any()
    assert (found.status == Status.STALLED).sum() >= BATCH / 2
    assert (found.evaluations > found.steps + 1).all(), "no trial was refused"
    path = torch.stack(found.record.y)
    moved = (path[1:] != path[:-1]).any(2)
    assert torch.equal(moved.sum(0), found.steps)


def cliff(x, y):
    """NaN beyond a line close to the minimum at x."""
    return torch.where((y > x + 0.05).any(1, keepdim=True), torch.nan, (y - x) * (1 + (y - x).square()))


@pytest.mark.parametrize("optimizer", [each for each in SEARCHING if each != Backtracking(Momentum(1.0))], ids=repr)
def test_a_nan_region_beside_the_minimum_does_not_stop_a_search(optimizer):
    x, y = problem(0)
    solver = EnergySolver(LeastSquares(cliff), optimizer, max_steps=400)
    found = solver.minimize(x, x - y.abs())
    assert found.converged.all(), found
    assert (found.y - x).abs().max() < 1e-3


@pytest.mark.parametrize("optimizer", SEARCHING, ids=repr)
def test_what_is_only_asked_of_the_cpu_changes_nothing(optimizer, monkeypatch):
    """On other devices every sample goes through the general path; copies that the CPU leaves out hold the same."""
    x, y = problem(1)
    solver = EnergySolver(LeastSquares(folded), optimizer, halting=GradientNorm(1e-6), max_steps=60)
    known = solver.minimize(x, y)
    assert len(known.steps.unique()) > 1
    for module in ("layout", "optimizers.lbfgs"):
        monkeypatch.setattr(f"energysolve.{module}.asks", lambda leaf: False)
    found = solver.minimize(x, y)
    for name in ("y", "energy", "steps", "status", "evaluations", "gradient_norm"):
        assert torch.equal(getattr(found, name), getattr(known, name)), name
