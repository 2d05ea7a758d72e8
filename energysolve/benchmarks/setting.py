"""The training that the benchmarks measure: addition at the paper's size, or smaller."""

from dataclasses import asdict, dataclass, fields
from typing import Any

import torch

from ..energies.mlp import MLPEnergy
from ..optimizers import SGD
from ..seeding import stream
from ..solver import EnergySolver
from ..tasks import Addition
from ..training import ReplayBuffer, Trainer, TrainingConfig, make_accelerator
from .reference import PlainTraining

PAPER_LR = 1e-4
"""Constant learning rate of the plain reference's Adam."""


@dataclass(frozen=True)
class Setting:
    """Settings of the training of addition; by default the paper's (Section 4.3, Table 10).

    Attributes:
        size: number of entries of a summand.
        width: units of each hidden layer.
        depth: number of hidden layers.
        batch_size: number of new problems per iteration; as many replayed problems join them.
        train_steps: number of inner steps per iteration.
        step_size: step size of the inner steps.
        replay: capacity of the replay buffer.
        seed: seed of all random numbers.
        device: ``"cpu"`` or ``"cuda"``.
        compile: whether to measure compiled training, too.
    """

    size: int = 400
    width: int = 512
    depth: int = 3
    batch_size: int = 128
    train_steps: int = 5
    step_size: float = 100.0
    replay: int = 10_000
    seed: int = 0
    device: str = "cpu"
    compile: bool = True

    @property
    def task(self) -> Addition:
        """The task at this size."""
        return Addition(self.size)

    def to_json(self) -> dict[str, Any]:
        """The settings, JSON-able."""
        return asdict(self)

    def trainer(self, **settings: Any) -> Trainer:
        """A trainer of the library; ``settings`` are further fields of `TrainingConfig`."""
        torch.manual_seed(self.seed)
        energy = MLPEnergy(2 * self.size, self.size, width=self.width, depth=self.depth)
        config = TrainingConfig(batch_size=self.batch_size, train_steps=self.train_steps).changed(settings)
        return Trainer(
            EnergySolver(energy, SGD(self.step_size), init=self.task.init),
            self.task,
            config,
            replay=ReplayBuffer(self.replay),
            generator=stream("bench addition", self.seed, self.device),
            accelerator=make_accelerator(cpu=self.device == "cpu"),
        )

    def reference(self) -> PlainTraining:
        """The plain reference, with the paper's Adam."""
        torch.manual_seed(self.seed)
        shared = {field.name: getattr(self, field.name) for field in fields(PlainTraining) if field.name != "lr"}
        return PlainTraining(**shared, lr=PAPER_LR)
