"""Solutions: status, errors for failed samples, and how they print."""

import pickle
import re

import pytest
import torch

from energysolve import (
    LBFGS,
    SGD,
    Adam,
    Backtracking,
    Box,
    Clipped,
    EnergySolver,
    FixedPoint,
    Implicit,
    LeastSquares,
    LevenbergMarquardt,
    Momentum,
    Never,
    NewtonCG,
    Projected,
    Solution,
    Status,
    Truncated,
    Uniform,
    Unroll,
)
from energysolve.solution import NonfiniteError, NotConvergedError

NAN, INF = float("nan"), float("inf")
X, Y = torch.randn(4, 3), torch.randn(4, 3)


def bowl(x, y):
    return ((x - y) ** 2).sum(-1)


def solver(energy=bowl, **parts) -> EnergySolver:
    return EnergySolver(energy, parts.pop("optimizer", SGD(0.1)), **parts)


def raises(kind, *words):
    return pytest.raises(kind, match="(?s)" + ".*".join(re.escape(word) for word in words))


def test_an_empty_batch_gives_an_empty_solution():
    for mode in (Truncated(1), Unroll(), Implicit()):
        solution = solver(lambda x, y: 1 / 0, differentiation=mode, init=Uniform((3,))).minimize(X[:0])
        assert isinstance(solution, Solution)
        assert solution.y.shape == (0, 3)
        assert solution.energy.shape == solution.steps.shape == solution.status.shape == (0,)
        solution.raise_for_status(strict=True)
        assert "empty" in repr(solution)


def test_raise_for_status_names_the_samples():
    def energy(x, y):
        return bowl(x, y) / (x[:, 0] > 0)

    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    solution = solver(energy, max_steps=1).minimize(x, torch.zeros(2, 2))
    assert solution.status.tolist() == [Status.MAX_STEPS, Status.NONFINITE]
    with raises(NonfiniteError, "1 of 2", "[1]"):
        solution.raise_for_status()
    unfinished = solver(max_steps=1).minimize(x, torch.zeros(2, 2))
    unfinished.raise_for_status()
    with raises(NotConvergedError, "2 of 2", "[0, 1]"):
        unfinished.raise_for_status(strict=True)


def test_a_printed_solution_shows_status_steps_and_energies():
    nan = torch.full((1,), NAN)
    status = torch.tensor([Status.CONVERGED, Status.CONVERGED, Status.MAX_STEPS])
    several = repr(Solution(X[:3], None, torch.tensor([0.5, 1.0, -3.0]), torch.tensor([1, 2, 30]), status))
    for shown in ("2 CONVERGED", "1 MAX_STEPS", "mean 11.0", "most 30", "mean -0.5", "min -3", "max 1"):
        assert shown in several
    assert "NONFINITE" not in several
    assert "1 NONFINITE" in repr(Solution(X[:1], None, nan, torch.zeros(1).long(), status[:1] + 2))


def test_a_solution_of_answers_that_no_solve_produced():
    made = Solution.of_answers(X, steps=7)
    assert made.energy.isnan().all()
    assert made.steps.tolist() == [7] * 4
    assert made.status.tolist() == [Status.MAX_STEPS] * 4
    assert torch.equal(made.y, X)
    assert made.z is None
    tree = Solution.of_answers({"a": torch.zeros(6, 2)}, X, steps=torch.tensor([1, 2, 3]), batch=3)
    assert tree.steps.tolist() == [1, 2, 3]
    assert tree.energy.shape == tree.status.shape == (3,)
    assert tree.z is X


def test_long_lists_of_samples_are_cut():
    failed = Solution(Y, None, torch.zeros(25), torch.zeros(25).long(), torch.full((25,), Status.NONFINITE))
    with raises(NonfiniteError, "25 of 25", "indices [0, 1, 2", "18, 19] and 5 more). Their y"):
        failed.raise_for_status()
    few = Solution(Y, None, torch.zeros(20), torch.zeros(20).long(), torch.full((20,), Status.MAX_STEPS))
    with raises(NotConvergedError, "20 of 20", "18, 19]) reached", "Allow more"):
        few.raise_for_status(strict=True)


SEARCHING = [LBFGS(), NewtonCG(), Backtracking(SGD(0.1)), LevenbergMarquardt(), FixedPoint()]
FIXED = {SGD(3.0): "SGD", Momentum(3.0): "Momentum", Clipped(SGD(3.0), 1e30): "SGD"}
residual = LeastSquares(lambda x, y: y - x)


def message(kind, found):
    with pytest.raises(kind) as raised:
        found.raise_for_status(strict=True)
    return str(raised.value)


@pytest.mark.parametrize("optimizer", SEARCHING, ids=repr)
def test_advice_where_steps_choose_themselves_names_no_step_size(optimizer):
    """At each way to fail; among them the limit of steps after one trial, and starts that are not finite."""
    unfinished = EnergySolver(residual, optimizer, halting=Never(), max_steps=0).minimize(X, Y)
    at_the_limit = message(NotConvergedError, unfinished)
    assert "4 of 4 samples (indices [0, 1, 2, 3]) reached the limit of steps" in at_the_limit
    assert "Raise max_steps, which also bounds the trials that were refused. Look at the energies" in at_the_limit
    assert ("LBFGS() usually needs far fewer steps" in at_the_limit) == isinstance(optimizer, Backtracking)

    y = Y.clone()
    y[1, 0] = NAN
    at_the_start = message(NonfiniteError, EnergySolver(residual, optimizer).minimize(X, y))
    assert "1 of 4 samples (indices [1])" in at_the_start
    assert "not finite at the initial answer: check x" in at_the_start
    assert at_the_start.endswith("(a logarithm needs positive numbers; sqrt and norm have no derivative at 0).")

    stalled = message(NotConvergedError, EnergySolver(residual, optimizer, halting=Never(), max_steps=500)(X, Y))
    assert "4 of 4 samples (indices [0, 1, 2, 3]) stalled: no step lowered the energy" in stalled
    assert "Here it is float32: solver.double() and problems in float64 tell more." in stalled
    for text in (at_the_limit, at_the_start, stalled):
        assert "step size" not in text


@pytest.mark.parametrize("optimizer", FIXED, ids=repr)
def test_advice_for_fixed_steps_names_the_step_size_of_the_optimizer(optimizer):
    name = FIXED[optimizer]
    diverged = message(NonfiniteError, solver(optimizer=optimizer, halting=Never(), max_steps=500).minimize(X, Y))
    assert diverged.endswith(
        f"Their y is the last finite iterate. Give {name} a smaller step size, or use an optimizer that chooses its "
        "steps, such as LBFGS()."
    )
    unfinished = message(NotConvergedError, solver(optimizer=optimizer, max_steps=1).minimize(X, Y))
    assert f"fired. Raise max_steps, change the step size of {name}, or use an optimizer that" in unfinished


def test_advice_under_a_constraint_keeps_the_constraint():
    for optimizer in (Projected(SGD(0.1), Box(0.0)), Backtracking(Projected(SGD(0.1), Box(0.0)))):
        unfinished = message(NotConvergedError, solver(optimizer=optimizer, max_steps=1).minimize(X, Y))
        assert "LBFGS" not in unfinished
        assert ("Backtracking(Projected(...))" in unfinished) == isinstance(optimizer, Projected)


def test_starts_and_steps_that_are_not_finite_are_told_apart():
    y = torch.zeros(3, 2)
    y[0, 0] = INF
    x = torch.tensor([[1e-3, 1.0], [1e-3, 1.0], [1e12, 1.0]])  # only the last diverges within the limit
    found = solver(optimizer=SGD(3.0), max_steps=20, halting=Never()).minimize(x, y)
    assert found.status.tolist() == [Status.NONFINITE, Status.MAX_STEPS, Status.NONFINITE]
    text = message(NonfiniteError, found)
    assert "infinite in 2 of 3 samples (indices [0, 2])" in text
    assert "In 1 of 3 samples (indices [0]) it was not finite at the initial answer" in text
    assert "Give SGD a smaller step size" in text


def test_a_kink_stalls_and_the_message_says_so():
    found = EnergySolver(lambda x, y: (y - x).abs().sum(1) + 1, max_steps=500).minimize(X.double(), Y.double())
    stalled = found.status == Status.STALLED
    assert stalled.any()
    found.raise_for_status()
    text = message(NotConvergedError, found)
    assert "look for a kink (abs, max, clamp: use a smooth function), for noise (dropout" in text
    assert "float64" not in text, "it is float64 already"


def test_solutions_with_advice_can_be_pickled():
    found = solver(optimizer=Adam(0.1), max_steps=1).minimize(X, Y)
    assert pickle.loads(pickle.dumps(found)).advice == Adam(0.1).advice
