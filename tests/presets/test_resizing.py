"""Shipped energies on problems of other sizes."""

import pytest
import torch

from energysolve import LBFGS, SGD, EnergySolver, MLPEnergy, Uniform
from energysolve.presets import at_size
from energysolve.tasks import Addition, Completion, Inverse


def test_large_completions_need_no_other_step_size():
    """The curvature grows with the size: fixed steps of the size for 20 x 20 end in infinities."""
    task = Completion(100, 100)
    solver = at_size(EnergySolver.from_pretrained("completion"), (100, 100))
    assert solver.optimizer == LBFGS()
    x, target = task.sample(2, "harder", torch.Generator().manual_seed(0))
    solution = solver.minimize(x, generator=torch.Generator().manual_seed(1))
    assert solution.converged.all()
    assert task.error(solution, target).mean() < 0.1 * (x - target).square().mean()


@pytest.mark.parametrize(
    ("name", "task", "shape"),
    [("addition", Addition(7), (14,)), ("inverse", Inverse(5), (5, 5)), ("inverse", Inverse(5), (25,))],
)
def test_other_sizes_are_solved_as_well(name, task, shape):
    x, target = task.sample(3, generator=torch.Generator().manual_seed(0))
    state = torch.get_rng_state()
    solver = at_size(EnergySolver.from_pretrained(name), shape)
    assert torch.equal(torch.get_rng_state(), state)  # the user's random numbers are left alone
    solution = solver.minimize(x.reshape(3, *shape))
    assert task.error_of(solution.y.reshape(target.shape), x, target).max() < 1e-4


def test_a_solver_of_that_size_stays_as_it_is():
    solver = EnergySolver.from_pretrained("completion").replace(optimizer=SGD(0.01))
    assert at_size(solver, (20, 20)) is solver
    assert at_size(solver, (20, 21)).optimizer == LBFGS()


def test_a_solver_of_one_size_or_of_no_domain_stays_as_it_is():
    network = EnergySolver.from_pretrained("addition-mlp")
    assert at_size(network, (14,)) is network
    own = EnergySolver(MLPEnergy(3, 2), SGD(1.0), init=Uniform((2,)))
    assert at_size(own, (7,)) is own


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("addition", (7,), "even number of entries"),
        ("inverse", (4, 5), "Only square matrices"),
        ("inverse", (24,), r"inverse takes an array \(problems, rows, columns\)"),
        ("completion", (2, 3, 4), "completion takes an array"),
    ],
)
def test_shapes_that_the_task_does_not_have(name, shape, message):
    with pytest.raises(ValueError, match=message):
        at_size(EnergySolver.from_pretrained(name), shape)
