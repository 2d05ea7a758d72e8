"""Energies with known minima, and the problems made of them."""

import math

import optree
import pytest
import torch

from energysolve import SGD, EnergySolver, GradientNorm, Zeros
from energysolve.energies import (
    AnalyticEnergy,
    Beale,
    Bowl,
    Box3D,
    Logistic,
    Quadratic,
    Rastrigin,
    Ridge,
    Rosenbrock,
    StyblinskiTang,
    Trigonometric,
    VariablyDimensioned,
    Wood,
)
from energysolve.testing.problems import problems

PROBLEMS = {problem.name: problem for problem in problems()}
CLASSIC = {name: problem for name, problem in PROBLEMS.items() if isinstance(problem.energy, AnalyticEnergy)}

# The values at the standard starts, from the tables of Moré, Garbow and Hillstrom and by hand.
START_VALUES = {
    "rosenbrock": 24.2,
    "rosenbrock-8": 96.8,
    "beale": 14.203125,
    "powell-singular": 215,
    "wood": 19192,
    "helical-valley": 2500,
    "brown-badly-scaled": 999998000003,
    "box-3d": 1031.15381060940,
    "variably-dimensioned": 3222.1875,
    "himmelblau": 170,
    "booth": 74,
    "matyas": 16.04,
}


def value_and_gradient(energy, x, y):
    leaves, structure = optree.tree_flatten(y)
    leaves = [leaf.detach().requires_grad_() for leaf in leaves]
    value = energy(x, optree.tree_unflatten(structure, leaves))
    return value.detach(), torch.autograd.grad(value.sum(), leaves)


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_minima_are_stationary_and_have_the_least_value(name):
    problem = PROBLEMS[name]
    for point in problem.minima:
        value, gradient = value_and_gradient(problem.energy, problem.x, point)
        assert value.shape == (1,)
        assert value.item() == pytest.approx(problem.minimum, abs=1e-12)
        assert max(leaf.abs().max() for leaf in gradient) < 1e-12
        assert problem.distance(point) == 0


@pytest.mark.parametrize("name", CLASSIC)
def test_nothing_nearby_is_lower_than_the_minimum(name):
    problem = CLASSIC[name]
    generator = torch.Generator().manual_seed(0)
    for point in problem.minima:
        around = point + 0.3 * torch.randn(500, point.shape[1], generator=generator, dtype=torch.float64)
        assert (problem.energy(torch.zeros_like(around), around) >= problem.minimum).all()


@pytest.mark.parametrize("name", START_VALUES)
def test_the_value_at_the_standard_start_is_the_published_one(name):
    problem = PROBLEMS[name]
    assert problem.energy(problem.x, problem.y0).item() == pytest.approx(START_VALUES[name], rel=1e-12)


def test_values_against_sums_written_out():
    a, b, c = 0.3, -0.7, 1.9
    y = torch.tensor([[a, b, c]], dtype=torch.float64)
    x = torch.zeros_like(y)
    cosines = math.cos(a) + math.cos(b) + math.cos(c)
    trigonometric = sum((3 - cosines + i * (1 - math.cos(v)) - math.sin(v)) ** 2 for i, v in enumerate((a, b, c), 1))
    weighted = (a - 1) + 2 * (b - 1) + 3 * (c - 1)
    variably = (a - 1) ** 2 + (b - 1) ** 2 + (c - 1) ** 2 + weighted**2 + weighted**4
    rastrigin = sum(10 + v * v - 10 * math.cos(2 * math.pi * v) for v in (a, b, c))
    styblinski = sum(v**4 - 16 * v**2 + 5 * v for v in (a, b, c)) / 2
    box = sum(
        (math.exp(-t * a) - math.exp(-t * b) - c * (math.exp(-t) - math.exp(-10 * t))) ** 2
        for t in (i / 10 for i in range(1, 11))
    )
    for energy, value in (
        (Trigonometric(3), trigonometric),
        (VariablyDimensioned(3), variably),
        (Rastrigin(3), rastrigin),
        (StyblinskiTang(3), styblinski),
        (Box3D(), box),
    ):
        assert energy(x, y).item() == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("name", CLASSIC)
def test_x_moves_the_function(name):
    problem = CLASSIC[name]
    shift = torch.full_like(problem.x, 0.5)
    moved, standard = problem.energy(shift, problem.y0 + shift), problem.energy(problem.x, problem.y0)
    torch.testing.assert_close(moved, standard, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", CLASSIC)
def test_a_row_does_not_depend_on_the_others(name):
    energy, dim = CLASSIC[name].energy, CLASSIC[name].energy.dim
    y = torch.randn(13, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x = torch.zeros_like(y)
    value, (gradient,) = value_and_gradient(energy, x, y)
    for rows in (slice(4, 5), slice(2, 9), [12, 0, 5]):
        part, (part_gradient,) = value_and_gradient(energy, x[rows], y[rows])
        assert torch.equal(part, value[rows])
        assert torch.equal(part_gradient, gradient[rows])


@pytest.mark.parametrize("name", CLASSIC)
def test_the_dtype_is_that_of_the_answer(name):
    energy, y0 = CLASSIC[name].energy, CLASSIC[name].y0.float()
    assert energy(torch.zeros_like(y0), y0).dtype == torch.float32


def test_wrong_dimensions_are_errors_that_say_what_is_expected():
    with pytest.raises(ValueError, match="even dimension"):
        Rosenbrock(3)
    with pytest.raises(ValueError, match="dimension of 1 or more"):
        Rastrigin(0)
    with pytest.raises(ValueError, match=r"\(batch, 4\), got \(1, 2\)"):
        Wood()(torch.zeros(1, 2), torch.zeros(1, 2))


def test_a_scratchpad_is_not_silently_ignored():
    solver = EnergySolver(Beale(), SGD(0.01), scratchpad=None)
    with pytest.raises(ValueError, match="takes none"):
        solver.minimize(torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(1, 2))


def test_a_batch_holds_different_problems():
    shift = torch.tensor([[0.0, 0.0], [2.0, -1.0], [10.0, 3.0]], dtype=torch.float64)
    solver = EnergySolver(StyblinskiTang(2), SGD(0.01), halting=GradientNorm(1e-10), max_steps=500)
    solution = solver.minimize(shift, shift - 1)
    torch.testing.assert_close(solution.y - shift, torch.full_like(shift, -2.903534027771177), rtol=0, atol=1e-10)


@pytest.mark.parametrize("shared", [True, False])
def test_a_quadratic_is_solved_in_closed_form(shared):
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(5, 3, 3, dtype=torch.float64, generator=generator)
    matrix = factor @ factor.mT + torch.eye(3, dtype=torch.float64)
    linear = torch.randn(5, 3, dtype=torch.float64, generator=generator)
    energy, x = (Quadratic(matrix[0]), linear) if shared else (Quadratic(), (matrix, linear))
    value, (gradient,) = value_and_gradient(energy, x, energy.solve(x))
    assert gradient.abs().max() < 1e-12
    torch.testing.assert_close(value, -(linear * energy.solve(x)).sum(-1).detach() / 2)


def test_only_the_symmetric_part_of_the_matrix_counts():
    symmetric = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    skewed = symmetric + torch.tensor([[0.0, 3.0], [-3.0, 0.0]], dtype=torch.float64)
    linear = torch.tensor([[1.0, -1.0]], dtype=torch.float64)
    y = torch.tensor([[0.3, 0.9]], dtype=torch.float64)
    torch.testing.assert_close(Quadratic(skewed)(linear, y), Quadratic(symmetric)(linear, y))
    torch.testing.assert_close(Quadratic(skewed).solve(linear), Quadratic(symmetric).solve(linear))


def test_ridge_and_logistic_against_their_formulas():
    features = torch.tensor([[[1.0, 2.0], [3.0, -1.0]]], dtype=torch.float64)
    targets, weight = torch.tensor([[1.0, -1.0]], dtype=torch.float64), torch.tensor([0.5], dtype=torch.float64)
    y = torch.tensor([[0.2, -0.3]], dtype=torch.float64)
    expected = ((1 * 0.2 + 2 * -0.3 - 1) ** 2 + (3 * 0.2 + 0.3 + 1) ** 2 + 0.5 * (0.2**2 + 0.3**2)) / 2
    assert Ridge()((features, targets, weight), y).item() == pytest.approx(expected, rel=1e-12)
    chances = torch.tensor([[0.25, 0.9]], dtype=torch.float64)
    entropy = -sum(p * math.log(p) + (1 - p) * math.log(1 - p) for p in (0.25, 0.9))
    assert Logistic()(chances, Logistic().solve(chances)).item() == pytest.approx(entropy, rel=1e-12)


def test_a_bowl_takes_trees():
    x = {"a": torch.ones(2, 3), "b": (torch.zeros(2), torch.full((2, 1, 2), 2.0))}
    y = optree.tree_map(torch.zeros_like, x)
    torch.testing.assert_close(Bowl()(x, y), torch.full((2,), (3 + 0 + 8) / 2))
    solution = EnergySolver(Bowl(), SGD(1.0)).minimize(x, y)
    assert all(optree.tree_leaves(optree.tree_map(torch.equal, solution.y, x)))


def test_problems_are_built_anew_and_have_unique_names():
    first, second = problems(), problems()
    assert len({problem.name for problem in first}) == len(first) >= 18
    first[0].y0.fill_(7.0)
    assert not torch.equal(first[0].y0, second[0].y0)
    leaves = [leaf for problem in second for leaf in optree.tree_leaves((problem.x, problem.y0, problem.minima))]
    assert {leaf.dtype for leaf in leaves} == {torch.float64}


def test_distance_is_to_the_nearest_minimum():
    problem = PROBLEMS["himmelblau"]
    y = torch.tensor([[3.0, 2.5], [3.6, -1.848126526964404]], dtype=torch.float64)
    torch.testing.assert_close(problem.distance(y), torch.tensor([0.5, 3.6 - 3.584428340330492], dtype=torch.float64))


def test_energies_work_with_initializers():
    solution = EnergySolver(Quadratic(torch.eye(2)), SGD(1.0), init=Zeros((2,))).minimize(torch.ones(3, 2))
    assert torch.equal(solution.y, torch.ones(3, 2))
