"""What is trained in the measurements: the paper's addition, or a smaller one."""

from dataclasses import asdict, dataclass
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
"""Of Adam, constant; the plain reference's."""


@dataclass(frozen=True)
class Setting:
    """The training of addition; by default the paper's (Section 4.3, Table 10).

    Attributes:
        size: entries of a summand.
        width: units of each hidden layer.
        depth: number of hidden layers.
        batch_size: new problems an iteration; as many replayed ones join them.
        train_steps: inner steps an iteration.
        step_size: of the inner steps.
        replay: capacity of the replay buffer.
        seed: of all that is random.
        device: what it runs on, ``"cpu"`` or ``"cuda"``.
        compile: measure compiled training too.
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
        """The source of problems."""
        return Addition(self.size)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)

    def trainer(self, **settings: Any) -> Trainer:
        """A trainer of the library, with fields of `TrainingConfig` besides those of the setting."""
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
        return PlainTraining(
            size=self.size,
            width=self.width,
            depth=self.depth,
            batch_size=self.batch_size,
            train_steps=self.train_steps,
            step_size=self.step_size,
            replay=self.replay,
            lr=PAPER_LR,
            device=self.device,
        )
