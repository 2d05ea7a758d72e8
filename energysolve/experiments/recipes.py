"""Training runs of the command line: their settings, and what is built from them."""

from dataclasses import dataclass

import torch

from ..halting import EnergyChange
from ..initializers import Uniform
from ..optimizers import SGD
from ..solver import EnergySolver
from ..tasks import Task
from ..training import ReplayBuffer, Trainer
from .catalog import Entry
from .evaluation import stream


@dataclass(frozen=True)
class Recipe:
    """The settings of a training run, see ``energysolve train --help``.

    Those that begin with ``test`` are of the solver that is saved.
    """

    iterations: int
    seed: int
    lr: float
    batch_size: int
    train_steps: int
    step_size: float
    replay: int
    scratchpad: int
    size: int
    width: int
    test_step_size: float
    test_max_steps: int
    test_atol: float
    test_patience: int

    def build(self, name: str, entry: Entry) -> tuple[Task, Trainer, EnergySolver]:
        """The task, the trainer, and the solver to save, which shares the energy that the trainer trains.

        Raises:
            ValueError: if a setting is out of range.
        """
        task = entry.make_task(self.size)
        torch.manual_seed(self.seed)  # of the initial weights
        solver = EnergySolver(
            entry.make_energy(self.size, self.width, self.scratchpad),
            SGD(self.step_size),
            init=task.init,
            scratchpad=Uniform((self.scratchpad,)) if self.scratchpad else None,
        )
        tested = solver.replace(
            optimizer=SGD(self.test_step_size),
            halting=EnergyChange(atol=self.test_atol).patience(self.test_patience),
            max_steps=self.test_max_steps,
        )
        trainer = Trainer(
            solver,
            task,
            train_steps=self.train_steps,
            replay=ReplayBuffer(self.replay) if self.replay else None,
            batch_size=self.batch_size,
            lr=self.lr,
            generator=stream(f"train {name}", self.seed),
        )
        return task, trainer, tested
