"""The training loss of an energy, inner loop included."""

from typing import Any

import torch
from torch import Tensor, nn

from ..layout import layout_of
from ..solution import Solution, Status
from ..solver import EnergySolver
from ..tasks.base import Task
from ..trees import tree_leaves


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
        batch = layout_of(x).batch if self.solver.layout is None else self.solver.layout(x).batch
        device = tree_leaves(y)[0].device
        steps = torch.full((batch,), self.solver.max_steps, device=device)
        unknown = torch.full((batch,), torch.nan, device=device)
        solution = Solution(y, z, unknown, steps, torch.full_like(steps, int(Status.MAX_STEPS)))
        return self.task.error(solution, target).mean(), y, z
