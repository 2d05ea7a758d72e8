"""The training loop of the paper: Algorithm 1, and Algorithm 3 where the energy has a scratchpad."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import optree
import torch
from torch import Tensor

from ..differentiation import Differentiation, Truncated
from ..halting import Never
from ..recorders import Nothing
from ..solver import EnergySolver
from ..tasks.base import Task
from .replay import ReplayBuffer


@dataclass(frozen=True)
class Progress:
    """What a callback sees after an iteration.

    Attributes:
        iteration: from 1.
        iterations: how many there will be.
        loss: 0-d, mean error over the new and the replayed samples, detached; reading it waits for the device.
        lr: the outer learning rate.
    """

    iteration: int
    iterations: int
    loss: Tensor
    lr: float


class NonfiniteLossError(RuntimeError):
    """The training loss became NaN or infinite; the weights are those before the iteration."""


class Trainer:
    """Trains the energy of a solver by differentiating through a fixed number of its steps.

    Each iteration draws new problems, joins as many replayed ones (answers found earlier, optimized further), takes
    ``train_steps`` steps, and moves the energy's parameters against the gradient of the mean error, by Adam. Halting
    plays no part in training.

    Args:
        solver: its energy is trained in place; optimizer, layout and initializers are its own or, where it has none,
            the task's.
        task: the source of problems.
        train_steps: steps of inner optimization; 5 in the paper.
        differentiation: `Truncated(1)` in the paper.
        replay: the buffer of earlier answers, or None to train on new problems alone.
        batch_size: new problems an iteration; as many replayed ones join them.
        lr: the outer learning rate, the highest one where it is scheduled.
        one_cycle: schedule the learning rate by torch's `OneCycleLR` over the iterations of `fit`; else constant.
        generator: source of all randomness in training, on the device of the energy.
    """

    def __init__(
        self,
        solver: EnergySolver,
        task: Task,
        *,
        train_steps: int = 5,
        differentiation: Differentiation = Truncated(1),  # noqa: B008  (frozen)
        replay: ReplayBuffer | None = None,
        batch_size: int = 128,
        lr: float = 1e-3,
        one_cycle: bool = True,
        generator: torch.Generator | None = None,
    ):
        parameters = [parameter for parameter in solver.parameters() if parameter.requires_grad]
        if not parameters:
            raise ValueError(
                "The solver's energy has no parameters to train. It must be an nn.Module, such as MLPEnergy or a "
                "subclass of Energy, with parameters that require gradients."
            )
        if min(train_steps, batch_size) < 1 or not lr > 0:
            raise ValueError(
                f"train_steps and batch_size must be 1 or more and lr positive; got {train_steps=}, {batch_size=}, "
                f"{lr=}."
            )
        self.task = task
        self.replay = replay
        self.batch_size = batch_size
        self.generator = generator
        self.lr = lr
        self.one_cycle = one_cycle
        self.device = parameters[0].device
        self.optimizer = torch.optim.Adam(parameters, lr=lr)
        self.solver = solver.replace(
            halting=Never(),
            recorder=Nothing(),
            differentiation=differentiation,
            max_steps=train_steps,
            init=solver.init or task.init,
            layout=solver.layout or task.layout,
        )

    def fit(self, iterations: int, callback: Callable[[Progress], None] | None = None) -> None:
        """Train.

        Args:
            iterations: updates of the parameters.
            callback: called after each of them.

        Raises:
            NonfiniteLossError: if the loss becomes NaN or infinite; the parameters are left as they were before that
                iteration.
        """
        schedule = None
        if self.one_cycle:
            schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, self.lr, total_steps=max(iterations, 2))
        for iteration in range(1, iterations + 1):
            lr = self.optimizer.param_groups[0]["lr"]
            loss = self.step()
            if schedule is not None and iteration < iterations:
                schedule.step()
            if callback is not None:
                callback(Progress(iteration, iterations, loss, lr))

    def step(self) -> Tensor:
        """One iteration: draw, optimize, learn, store. Returns the detached loss."""
        x, target, y, z = self._batch()
        solution = self.solver.minimize(x, y, z, generator=self.generator)
        loss = self.task.error(solution, target).mean()
        if not bool(loss.isfinite()):
            raise NonfiniteLossError(
                f"The training loss became {loss.item()}; the parameters are those before this iteration. A lower "
                "learning rate or inner step size usually helps."
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        if self.replay is not None:
            self.replay.insert(self.task.split((x, target, solution.y, solution.z)))
        return loss.detach()

    def _batch(self) -> tuple[Any, Any, Any, Any]:
        """New problems, joined by replayed ones once the buffer holds a batch."""
        x, target = self.task.sample(self.batch_size, generator=self.generator, device=self.device)
        assert self.solver.init is not None
        assert self.solver.layout is not None
        layout = self.solver.layout(x)
        y = self.solver.init(x, layout, self.generator)
        z = None if self.solver.scratchpad is None else self.solver.scratchpad(x, layout, self.generator)
        if self.replay is None or len(self.replay) < self.batch_size:
            return x, target, y, z
        old = self.replay.sample(self.batch_size, self.generator)
        new = self.task.split((x, target, y, z))
        return self.task.merge(optree.tree_map(lambda a, b: torch.cat([a, b]), new, old))
