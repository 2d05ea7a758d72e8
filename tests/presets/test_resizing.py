"""Shipped energies on problems of other sizes."""

import torch

from energysolve import SGD, EnergySolver
from energysolve.presets.resizing import fitted
from energysolve.presets.structured import best
from energysolve.tasks import Completion


def test_large_completions_take_the_step_size_of_their_size():
    """The curvature grows with the size: steps of the size for 20 x 20 end in infinities."""
    shipped, task = EnergySolver.from_pretrained("completion"), Completion(100, 100)
    solver = fitted("completion", shipped, (100, 100))
    assert solver.optimizer == best("completion", task).optimizer != shipped.optimizer
    x, target = task.sample(2, "harder", torch.Generator().manual_seed(0))
    solution = solver.minimize(x, generator=torch.Generator().manual_seed(1))
    assert solution.converged.all()
    assert task.error(solution, target).mean() < 0.1 * (x - target).square().mean()


def test_a_solver_of_that_size_stays_as_it_is():
    solver = EnergySolver.from_pretrained("completion").replace(optimizer=SGD(0.01))
    assert fitted("completion", solver, (20, 20)) is solver
    assert fitted("completion", solver, (20, 21)).optimizer == best("completion", Completion(20, 21)).optimizer
