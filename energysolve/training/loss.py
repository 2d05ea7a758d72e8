"""The training loss of an energy, inner loop included."""

from typing import Any

from torch import Tensor, nn

from ..solution import Solution
from ..solver import EnergySolver
from ..tasks.base import Task


class Loss(nn.Module):
    """The mean error of the answers to a batch of problems.

    It is one module, so that data-parallel training sees one forward and one backward pass, and the compiler sees all
    of the inner loop.

    Args:
        solver: takes ``max_steps`` steps with every sample.
        task: defines the error.
    """

    def __init__(self, solver: EnergySolver, task: Task):
        super().__init__()
        self.solver = solver
        self.task = task

    def forward(self, x: Any, target: Any, y: Any, z: Any) -> tuple[Tensor, Any, Any]:
        """The loss, shape (), with the answers and scratchpads.

        The error gets a solution whose ``energy`` is NaN: evaluating the energy at the answer would cost a step.
        """
        y, z = self.solver.descend(x, y, z)
        solution = Solution.of_answers(y, z, steps=self.solver.max_steps, batch=self.solver.layout_of(x).batch)
        return self.task.error(solution, target).mean(), y, z
