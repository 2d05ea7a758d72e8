"""Solutions: status, errors for failed samples, and how they print."""

import re

import pytest
import torch

from energysolve import SGD, EnergySolver, Implicit, Solution, Status, Truncated, Uniform, Unroll
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
    with raises(NonfiniteError, "25 of 25", "indices [0, 1, 2", "18, 19] and 5 more. Their y"):
        failed.raise_for_status()
    few = Solution(Y, None, torch.zeros(20), torch.zeros(20).long(), torch.full((20,), Status.MAX_STEPS))
    with raises(NotConvergedError, "20 of 20", "18, 19]. Allow more"):
        few.raise_for_status(strict=True)
