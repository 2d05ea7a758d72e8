"""The problems for users' own tests; that their minima are minima is tested with the energies, and that they are
reached in tests/external."""

import optree
import pytest
import torch

from energysolve.testing import problems

PROBLEMS = {problem.name: problem for problem in problems()}


def test_names_are_unique_and_every_call_builds_new_energies():
    first, second = problems(), problems()
    assert len(PROBLEMS) == len(first)
    assert [problem.name for problem in first] == [problem.name for problem in second]
    assert not any(a.energy is b.energy for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_problem_is_a_batch_of_one_in_float64_that_does_not_start_at_a_minimum(name):
    problem = PROBLEMS[name]
    assert all(leaf.dtype == torch.float64 for leaf in optree.tree_leaves((problem.x, problem.y0, problem.minima)))
    assert all(len(leaf) == 1 for leaf in optree.tree_leaves((problem.x, problem.y0)))
    shapes = optree.tree_map(torch.Tensor.size, problem.y0)
    assert all(optree.tree_map(torch.Tensor.size, point) == shapes for point in problem.minima)
    assert problem.distance(problem.y0) > 0
    assert problem.energy(problem.x, problem.y0).item() > problem.minimum
    assert not any(leaf.requires_grad for leaf in optree.tree_leaves((problem.y0, problem.minima)))


def test_distance_is_that_of_the_farthest_entry_from_the_nearest_minimum():
    himmelblau = PROBLEMS["himmelblau"]  # minima at (3, 2), (-2.8051, 3.1313), (-3.7793, -3.2832), (3.5844, -1.8481)
    found = himmelblau.distance(torch.tensor([[3.1, 1.6], [-3.7793102533777, -3.0], [3.0, 2.0]]))
    torch.testing.assert_close(found, torch.tensor([0.4, 0.28318599, 0.0], dtype=torch.float64), atol=1e-6, rtol=0)


def test_distance_looks_at_every_leaf():
    bowl = PROBLEMS["bowl"]
    for number in range(len(optree.tree_leaves(bowl.x))):
        leaves, structure = optree.tree_flatten(bowl.x)
        leaves[number] = leaves[number] + 0.5
        assert bowl.distance(optree.tree_unflatten(structure, leaves)).tolist() == [0.5]
