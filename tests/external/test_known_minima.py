"""Every optimizer on functions with known minima, from the standard starts (Moré, Garbow and Hillstrom, and others)."""

import math

import optree
import pytest
import torch
import torchopt

from energysolve import SGD, Adam, EnergySolver, GradientNorm, Momentum, Projected, RMSProp, TargetEnergy, TorchOpt
from energysolve.energies import Bowl, Quadratic, Rosenbrock
from energysolve.optimizers import Ball, Box, Simplex
from energysolve.testing.problems import problems

PROBLEMS = {problem.name: problem for problem in problems()}

OPTIMIZERS = {
    "sgd": SGD,
    "momentum": Momentum,
    "nesterov": lambda lr: TorchOpt(lambda: torchopt.sgd(lr, momentum=0.9, nesterov=True)),
    "adam": Adam,
    "rmsprop": RMSProp,
}

# How far above the least energy, and how far from the minimum, an answer may lie. RMSProp moves by about its step
# size until the very end.
TOLERANCES = dict.fromkeys(OPTIMIZERS, (1e-6, 1e-2)) | {"rmsprop": (1e-4, 0.1)}

VALLEY = "follows a curved valley at the pace of its flat direction: more than 1500 steps"
CYCLE = "steps of one size in all directions cross the valley back and forth and never settle in it"
SCALED = "a Hessian of condition 1e24: no step size suits both directions"
SINGULAR = "the Hessian is singular at the minimum, so first-order methods need many thousands of steps"
FLAT = "the gradient is exponentially small beyond b = 5: more than 1500 steps"
STEEP = "ten thousand times steeper at the start than along the flat directions: more than 1500 steps"

# The step size and how many steps are enough, or why the optimizer does not suit the problem.
TABLE = {
    "rosenbrock": {
        "sgd": VALLEY,
        "momentum": (2.5e-3, 800),
        "nesterov": VALLEY,
        "adam": (0.5, 800),
        "rmsprop": CYCLE,
    },
    "rosenbrock-8": {
        "sgd": VALLEY,
        "momentum": (2.5e-3, 800),
        "nesterov": VALLEY,
        "adam": (0.5, 800),
        "rmsprop": CYCLE,
    },
    "himmelblau": {
        "sgd": (0.01, 60),
        "momentum": (5e-4, 250),
        "nesterov": (0.01, 80),
        "adam": (0.1, 250),
        "rmsprop": (0.1, 40),
    },
    "beale": {
        "sgd": (0.03, 700),
        "momentum": (0.01, 250),
        "nesterov": (0.015, 250),
        "adam": (0.2, 250),
        "rmsprop": (0.05, 250),
    },
    "booth": {
        "sgd": (0.08, 80),
        "momentum": (0.1, 200),
        "nesterov": (0.05, 100),
        "adam": (0.3, 250),
        "rmsprop": (0.3, 80),
    },
    "matyas": {
        "sgd": (0.9, 250),
        "momentum": (0.4, 250),
        "nesterov": (0.5, 100),
        "adam": (0.6, 250),
        "rmsprop": (0.6, 150),
    },
    "three-hump-camel": {
        "sgd": (0.2, 60),
        "momentum": (0.05, 200),
        "nesterov": (0.15, 80),
        "adam": (0.15, 200),
        "rmsprop": (0.05, 40),
    },
    "powell-singular": dict.fromkeys(OPTIMIZERS, SINGULAR),
    "wood": {"sgd": VALLEY, "momentum": VALLEY, "nesterov": VALLEY, "adam": (0.5, 1500), "rmsprop": CYCLE},
    "helical-valley": {
        "sgd": VALLEY,
        "momentum": (1.2e-3, 600),
        "nesterov": (1.5e-3, 500),
        "adam": (0.9, 800),
        "rmsprop": CYCLE,
    },
    "brown-badly-scaled": dict.fromkeys(OPTIMIZERS, SCALED),
    "box-3d": dict.fromkeys(OPTIMIZERS, FLAT),
    "trigonometric": {
        "sgd": (0.5, 60),
        "momentum": (0.1, 150),
        "nesterov": (0.25, 80),
        "adam": (0.02, 200),
        "rmsprop": (0.0075, 60),
    },
    "variably-dimensioned": dict.fromkeys(OPTIMIZERS, STEEP),
    "styblinski-tang": {
        "sgd": (0.02, 40),
        "momentum": (6e-4, 250),
        "nesterov": (0.015, 60),
        "adam": (0.25, 250),
        "rmsprop": (0.1, 40),
    },
    "rastrigin": {
        "sgd": (2e-3, 40),
        "momentum": (1e-4, 250),
        "nesterov": (1.8e-3, 60),
        "adam": (0.02, 250),
        "rmsprop": (0.01, 60),
    },
    "quadratic": {
        "sgd": (0.2, 60),
        "momentum": (0.03, 200),
        "nesterov": (0.15, 80),
        "adam": (0.15, 200),
        "rmsprop": (0.05, 60),
    },
    "bowl": {
        "sgd": (0.5, 40),
        "momentum": (0.1, 200),
        "nesterov": (0.3, 80),
        "adam": (0.3, 300),
        "rmsprop": (0.1, 80),
    },
    "ridge": {
        "sgd": (0.1, 80),
        "momentum": (0.03, 200),
        "nesterov": (0.05, 100),
        "adam": (0.1, 250),
        "rmsprop": (0.03, 80),
    },
    "logistic": {
        "sgd": (3.0, 80),
        "momentum": (0.5, 200),
        "nesterov": (1.0, 100),
        "adam": (0.1, 250),
        "rmsprop": (0.05, 100),
    },
}
CASES = [
    pytest.param(problem, name, *setting, id=f"{problem}-{name}")
    for problem, row in TABLE.items()
    for name, setting in row.items()
    if not isinstance(setting, str)
]


def test_the_table_leaves_out_no_combination():
    assert TABLE.keys() == PROBLEMS.keys()
    assert all(row.keys() == OPTIMIZERS.keys() for row in TABLE.values())
    assert len({case.values[0] for case in CASES}) >= 12


@pytest.mark.parametrize(("problem", "name", "lr", "max_steps"), CASES)
def test_the_known_minimum_is_reached_from_around_the_standard_start(problem, name, lr, max_steps):
    problem = PROBLEMS[problem]
    above, away = TOLERANCES[name]
    solver = EnergySolver(
        problem.energy, OPTIMIZERS[name](lr), halting=TargetEnergy(problem.minimum + above), max_steps=max_steps
    )
    x = problem.x
    if not isinstance(problem.energy, Quadratic | Bowl) and isinstance(x, torch.Tensor):
        x = x.repeat(3, 1)
    batch = optree.tree_leaves(x)[0].shape[0]
    offsets = torch.tensor([0.0, 0.02, -0.02], dtype=torch.float64)[:batch]
    y = optree.tree_map(lambda leaf: leaf + offsets.view(-1, *[1] * (leaf.ndim - 1)), problem.y0)
    solution = solver.minimize(x, y)
    solution.raise_for_status(strict=True)
    assert (solution.steps > 0).all()
    assert (problem.distance(solution.y) <= away).all()


def minimize_projected(energy, x, y, projection, lr=0.1, tol=1e-9, max_steps=2000):
    solver = EnergySolver(energy, Projected(SGD(lr), projection), halting=GradientNorm(tol), max_steps=max_steps)
    solution = solver.minimize(x, y)
    solution.raise_for_status(strict=True)
    return solution


def double(values):
    return torch.tensor(values, dtype=torch.float64)


def test_in_a_box_a_separable_quadratic_ends_at_the_nearest_bound():
    energy = Quadratic(torch.diag(double([1.0, 2.0, 4.0])))
    x = double([[0.5, 6.0, -8.0], [3.0, -1.0, 2.0]])  # free minima (0.5, 3, -2) and (3, -0.5, 0.5)
    solution = minimize_projected(energy, x, torch.zeros_like(x), Box(-1.0, 1.0), lr=0.2)
    torch.testing.assert_close(solution.y, double([[0.5, 1.0, -1.0], [1.0, -0.5, 0.5]]), rtol=0, atol=1e-8)


def test_rosenbrock_with_an_upper_bound():
    # With both entries at most 0.8 the valley is cut at a = 0.8, b = a^2.
    y = double([[0.5, 0.5]])
    solution = minimize_projected(Rosenbrock(), torch.zeros_like(y), y, Box(high=0.8), lr=1.5e-3, tol=1e-4)
    torch.testing.assert_close(solution.y, double([[0.8, 0.64]]), rtol=0, atol=1e-3)
    assert solution.energy.item() == pytest.approx(0.04, abs=1e-5)


def test_rosenbrock_on_the_unit_disc():
    # On the circle (cos t, sin t): the root of the derivative by bisection.
    def value(t):
        return 100 * (math.sin(t) - math.cos(t) ** 2) ** 2 + (1 - math.cos(t)) ** 2

    low, high = 0.6, 0.7
    for _ in range(200):  # ternary search: the energy along the arc has one minimum there
        third = (high - low) / 3
        low, high = (low, high - third) if value(low + third) < value(high - third) else (low + third, high)
    y = double([[0.0, 0.0]])
    solution = minimize_projected(Rosenbrock(), torch.zeros_like(y), y, Ball(1.0), lr=2e-3, tol=1e-5)
    torch.testing.assert_close(solution.y, double([[math.cos(low), math.sin(low)]]), rtol=0, atol=1e-4)
    torch.testing.assert_close(solution.y, double([[0.7864, 0.6177]]), rtol=0, atol=1e-4)  # published


def test_the_nearest_point_of_the_simplex():
    x = double([[0.7, 0.5, -1.0], [2.0, 0.0, 0.0], [0.2, 0.3, 0.5]])
    expected = double([[0.6, 0.4, 0.0], [1.0, 0.0, 0.0], [0.2, 0.3, 0.5]])
    solution = minimize_projected(Bowl(), x, torch.full_like(x, 1 / 3), Simplex())
    torch.testing.assert_close(solution.y, expected, rtol=0, atol=1e-8)
