"""The loss of a batch, inner loop included."""

from typing import Any

from torch import Tensor, nn

from ..solution import Solution
from ..solver import EnergySolver
from ..tasks.base import Task


class Loss(nn.Module):
    """From a batch of problems to the mean error of the answers.

    One module, so that data-parallel training sees one forward and one backward pass, and a compiler the whole.

    Args:
        solver: takes its ``max_steps`` steps with every sample.
        task: judges.
    """

    def __init__(self, solver: EnergySolver, task: Task):
        super().__init__()
        self.solver = solver
        self.task = task

    def forward(self, x: Any, target: Any, y: Any, z: Any) -> tuple[Tensor, Any, Any]:
        """The loss, and the answers and scratchpads without gradients.

        The error sees a solution whose ``energy`` is NaN: none is evaluated at the answer, which would cost a step.
        """
        y, z = self.solver.descend(x, y, z)
        solution = Solution.of_answers(y, z, steps=self.solver.max_steps, batch=self.solver.layout_of(x).batch)
        return self.task.error(solution, target).mean(), y, z
