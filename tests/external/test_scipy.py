"""The listed minima, and our gradients, against SciPy."""

import numpy as np
import pytest
import torch

from energysolve import Dense, EnergySolver, GradientNorm, Momentum, Uniform
from energysolve.energies import AnalyticEnergy, Rosenbrock
from energysolve.engine.objective import Objective
from energysolve.testing.problems import problems

optimize = pytest.importorskip("scipy.optimize")

CLASSIC = {problem.name: problem for problem in problems() if isinstance(problem.energy, AnalyticEnergy)}
FLAT = {  # where the listed minimum is not the point that SciPy finds from the standard start
    "box-3d": "a whole line of minima, a = b and c = 0",
    "powell-singular": "nearly flat around the minimum",
}


def value_and_gradient(energy):
    """The energy and its gradient as SciPy wants them."""

    def function(point):
        y = torch.from_numpy(np.array(point, dtype=np.float64)).unsqueeze(0)
        at = Objective(energy, torch.zeros_like(y), Dense(1))((y,))
        return at.energy.item(), at.gradient[0].squeeze(0).numpy()

    return function


@pytest.mark.parametrize("name", CLASSIC)
def test_bfgs_from_the_standard_start_ends_in_a_listed_minimum(name):
    problem = CLASSIC[name]
    start = problem.y0.squeeze(0).numpy()
    result = optimize.minimize(value_and_gradient(problem.energy), start, jac=True, method="BFGS", tol=1e-8)
    assert result.fun == pytest.approx(problem.minimum, abs=1e-9)
    if name not in FLAT:
        found = torch.from_numpy(result.x).unsqueeze(0)
        assert problem.distance(found).item() <= 1e-5 * max(1.0, problem.minima[0].abs().max().item())


@pytest.mark.parametrize("name", CLASSIC)
def test_our_gradient_against_finite_differences(name):
    problem = CLASSIC[name]
    function = value_and_gradient(problem.energy)
    point = problem.y0.squeeze(0).numpy() + 0.1
    gradient = function(point)[1]
    steps = 1e-4 * np.eye(len(point))
    differences = np.array([function(point + h)[0] - function(point - h)[0] for h in steps]) / 2e-4
    np.testing.assert_allclose(gradient, differences, rtol=1e-4, atol=1e-5 * (1 + np.abs(gradient).max()))


def test_rosenbrock_is_scipys():
    points = np.random.default_rng(0).normal(size=(20, 2))
    y = torch.from_numpy(points)
    at = Objective(Rosenbrock(), torch.zeros_like(y), Dense(20))((y,))
    np.testing.assert_allclose(at.energy.numpy(), [optimize.rosen(point) for point in points], rtol=1e-12)
    expected = np.stack([optimize.rosen_der(point) for point in points])
    np.testing.assert_allclose(at.gradient[0].numpy(), expected, rtol=1e-10, atol=1e-12)


def test_our_solver_and_scipy_agree_where_there_is_no_closed_form():
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(6, 3, generator=generator, dtype=torch.float64)

    def energy(x, y):  # strictly convex
        return torch.nn.functional.softplus((matrix * y.unsqueeze(1)).sum(-1) - x).sum(-1) + 0.1 * y.square().sum(-1)

    x = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    solver = EnergySolver(energy, Momentum(0.1, 0.8), init=Uniform((3,)), halting=GradientNorm(1e-9), max_steps=1000)
    solution = solver.minimize(x, generator=generator)
    solution.raise_for_status(strict=True)
    for i in range(len(x)):

        def function(point, i=i):
            y = torch.from_numpy(np.array(point)).unsqueeze(0)
            at = Objective(energy, x[i : i + 1], Dense(1))((y,))
            return at.energy.item(), at.gradient[0].squeeze(0).numpy()

        result = optimize.minimize(function, np.zeros(3), jac=True, method="BFGS", tol=1e-9)
        np.testing.assert_allclose(solution.y[i].numpy(), result.x, atol=1e-7)
        assert solution.energy[i].item() == pytest.approx(result.fun, abs=1e-12)
