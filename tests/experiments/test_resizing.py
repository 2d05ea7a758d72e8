"""Shipped energies on problems of other sizes."""

import torch

from energysolve import EnergySolver
from energysolve.experiments.best import best
from energysolve.experiments.resizing import fitted
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


def test_problems_of_the_same_size_are_solved_as_before():
    shipped = EnergySolver.from_pretrained("completion")
    x, _ = Completion().sample(2, generator=torch.Generator().manual_seed(0))
    answers = [
        each.minimize(x, generator=torch.Generator().manual_seed(1), max_steps=40).y
        for each in (shipped, fitted("completion", shipped, (20, 20)))
    ]
    assert torch.equal(*answers)
