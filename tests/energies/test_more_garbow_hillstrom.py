"""The problems of Moré, Garbow and Hillstrom against values in the paper and SciPy's minimizers."""

import numpy as np
import pytest
import scipy.optimize
import torch

from energysolve import LBFGS, EnergySolver, GradientNorm
from energysolve.energies.more_garbow_hillstrom import more_garbow_hillstrom

PROBLEMS = {problem.name: problem for problem in more_garbow_hillstrom()}
PAPER = {
    "freudenstein-roth": (0.0, 48.9842),
    "jennrich-sampson": (124.362,),
    "bard": (8.21487e-3, 17.4286),
    "gaussian": (1.12793e-8,),
    "meyer": (87.9458,),
    "kowalik-osborne": (3.07505e-4, 1.02734e-3),
    "brown-dennis": (85822.2,),
    "osborne-1": (5.46489e-5,),
    "biggs": (0.0, 5.65565e-3),
    "osborne-2": (4.01377e-2,),
    "watson-6": (2.28767e-3,),
    "watson-9": (1.39976e-6,),
    "watson-12": (4.72238e-10,),
    "penalty-1-4": (2.24997e-5,),
    "penalty-1-10": (7.08765e-5,),
    "penalty-2-4": (9.37629e-6,),
    "penalty-2-10": (2.93660e-4,),
    "trigonometric": (0.0, 2.79506e-5),
    "brown-almost-linear": (0.0, 1.0),
    "linear-full-rank": (10.0,),
    "linear-rank-1": (20 * 19 / (2 * 41),),
    "linear-rank-1-zeros": ((400 + 60 - 6) / (2 * 37),),
    "chebyquad-8": (3.51687e-3,),
    "chebyquad-10": (4.77271e-3,),
}
"""Sums of squares as printed; those of the other problems are zero."""
STARTS = {
    "rosenbrock": 24.2,
    "freudenstein-roth": 400.5,
    "beale": 14.203125,
    "helical-valley": 2500.0,
    "bard": 41.6817,
    "box": 1031.154,
    "powell-singular": 215.0,
    "wood": 19192.0,
    "brown-dennis": 7926693.34,
    "watson-6": 30.0,
    "broyden-tridiagonal": 21.0,
    "broyden-banded": 360.0,
}
"""Sums of squares at the standard start: most are easily computed by hand."""
ANSWERS = {
    "rosenbrock": (1, 1),
    "freudenstein-roth": (5, 4),
    "brown-badly-scaled": (1e6, 2e-6),
    "beale": (3, 0.5),
    "helical-valley": (1, 0, 0),
    "gulf": (50, 25, 1.5),
    "box": (1, 10, 1),
    "powell-singular": (0,) * 4,
    "wood": (1,) * 4,
    "biggs": (1, 10, 1, 5, 4, 3),
    "extended-rosenbrock": (1,) * 10,
    "extended-powell-singular": (0,) * 12,
    "variably-dimensioned": (1,) * 10,
    "brown-almost-linear": (1,) * 10,
    "linear-full-rank": (-1,) * 10,
}


def energy(problem, y):
    y = torch.as_tensor(y, dtype=torch.float64).reshape(1, -1)
    return problem.energy(y, y).item()


def test_all_numbers_of_the_paper_are_there():
    assert {problem.number for problem in PROBLEMS.values()} == set(range(1, 36))
    assert len(PROBLEMS) == len(more_garbow_hillstrom())
    assert list(PROBLEMS) == sorted(PROBLEMS, key=lambda name: PROBLEMS[name].number)


@pytest.mark.parametrize("name", PROBLEMS)
def test_minima_are_those_of_the_paper(name):
    problem = PROBLEMS[name]
    found = [2 * problem.minimum, *(2 * other for other in problem.others)]
    assert found == pytest.approx(PAPER.get(name, (0.0,)), rel=1e-5, abs=0)


@pytest.mark.parametrize("name", STARTS)
def test_sum_of_squares_at_the_standard_start(name):
    problem = PROBLEMS[name]
    assert 2 * energy(problem, problem.start) == pytest.approx(STARTS[name], rel=1e-6)


@pytest.mark.parametrize("name", ANSWERS)
def test_the_minimum_is_where_the_paper_says(name):
    problem = PROBLEMS[name]
    assert energy(problem, ANSWERS[name]) == pytest.approx(problem.minimum, rel=1e-14, abs=1e-18)


@pytest.mark.parametrize("name", PROBLEMS)
def test_gradients_are_those_of_finite_differences(name):
    problem = PROBLEMS[name]
    y = (problem.starts() * 1.01 + 1e-3).requires_grad_()
    (gradient,) = torch.autograd.grad(problem.energy(y.detach(), y).sum(), y)
    point = y.detach()
    steps = torch.diag_embed(1e-6 * (1e-2 + point[0].abs()))
    rise = problem.energy(point, point + steps) - problem.energy(point, point - steps)
    by_differences = rise / (2 * steps.diagonal())
    scale = by_differences.abs().max()
    torch.testing.assert_close(gradient[0] / scale, by_differences / scale, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", PROBLEMS)
def test_scipy_reaches_a_known_minimum_from_the_standard_start(name):
    problem = PROBLEMS[name]

    def residuals(v):
        return problem.residuals(torch.tensor(v[None]))[0].numpy()

    def jacobian(v):
        return torch.func.jacrev(lambda y: problem.residuals(y[None])[0])(torch.tensor(v)).numpy()

    options = {"method": "lm", "xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15, "max_nfev": 2000}
    cost = scipy.optimize.least_squares(residuals, np.array(problem.start), jacobian, **options).cost
    known = [problem.minimum, *problem.others, *([6.50395480088e-3 / 2] if name == "chebyquad-10" else [])]
    assert any(cost == pytest.approx(value, rel=1e-9, abs=1e-25) for value in known)


def test_rows_are_independent_and_keep_their_dtype():
    for problem in PROBLEMS.values():
        y = problem.starts((1, 1.1, 0.9))
        assert torch.equal(problem.residuals(y)[1:2], problem.residuals(y[1:2])), problem.name
        assert problem.residuals(y.float()).dtype == torch.float32, problem.name


def test_starts_are_multiples_and_those_at_zero_the_factor_itself():
    assert PROBLEMS["rosenbrock"].starts((1, 10)).tolist() == [[-1.2, 1.0], [-12.0, 10.0]]
    assert PROBLEMS["watson-6"].starts((1, 10)).tolist() == [[0.0] * 6, [10.0] * 6]


def test_the_default_search_solves_most_of_them_from_the_standard_start():
    solved = 0
    for problem in PROBLEMS.values():
        y0 = problem.starts()
        solver = EnergySolver(problem.energy, LBFGS(), halting=GradientNorm(rtol=1e-5), max_steps=300)
        solved += bool(solver.minimize(y0, y0).converged)
    assert solved >= len(PROBLEMS) - 1


def test_first_steps_within_the_rounding_of_float32_are_accepted():
    """At the start, the energy is 5e11 and the first steps lower it by a few units in the last place."""
    problem = PROBLEMS["brown-badly-scaled"]
    y0 = problem.starts().float()
    solution = EnergySolver(problem.energy, LBFGS(), max_steps=300).minimize(y0, y0)
    assert solution.converged.all()
    torch.testing.assert_close(solution.y, torch.tensor([[1e6, 2e-6]]), rtol=1e-3, atol=0)
