"""The column "best" of the tables: structured energies, trained on ``same`` problems only, with test-time settings.

How the settings were found is written in ``docs/experiments/structured.md``.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..differentiation import Truncated, Unroll
from ..energies.structured import FactoredCompletion, PreconditionedInverse, SharedQuadratic
from ..energy import Energy
from ..halting import GradientNorm, Halting
from ..initializers import FromInput, Initializer, Normal, Uniform
from ..optimizers import SGD, Momentum
from ..optimizers.base import InnerOptimizer
from ..pretrained.serialization import to_config
from ..seeding import stream
from ..solver import EnergySolver
from ..tasks import Addition, Completion, Inverse, Task
from ..training import OneCycle, Trainer, TrainingConfig, make_accelerator


@dataclass(frozen=True)
class Best:
    """What is needed to train an energy for a task, and to solve with it.

    Attributes:
        task: the problems; training draws its first difficulty.
        energy: makes the energy to train.
        iterations: updates of its parameters.
        training: the settings of the `Trainer`.
        optimizer: the inner optimizer, in training and after it.
        init: initial answers.
        halting: when an answer is done, after training.
        max_steps: the most steps of a solve, after training.
        scratchpad: initial scratchpads, if the energy takes them.
    """

    task: Task
    energy: Callable[[], Energy]
    iterations: int
    training: TrainingConfig
    optimizer: InnerOptimizer
    init: Initializer
    halting: Halting
    max_steps: int
    scratchpad: Initializer | None = None

    def make_energy(self, seed: int = 0) -> Energy:
        """The energy before training; its initial weights depend on the seed, and nothing else is drawn."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.energy()

    def make_solver(self, energy: Energy) -> EnergySolver:
        """The solver for use: every part of it can be saved."""
        return EnergySolver(
            energy,
            self.optimizer,
            init=self.init,
            halting=self.halting,
            max_steps=self.max_steps,
            scratchpad=self.scratchpad,
        )

    def to_json(self) -> dict[str, Any]:
        """How it is trained, as plain JSON: the metadata for `EnergySolver.save_pretrained`."""
        return {
            "task": repr(self.task),
            "difficulty": self.task.difficulties[0],
            "iterations": self.iterations,
            "optimizer": to_config(self.optimizer),
            "training": self.training.to_json(),
        }


def best(name: str, task: Task | None = None) -> Best:
    """The best settings for a task.

    Args:
        name: ``"addition"``, ``"completion"`` or ``"inverse"``.
        task: of that kind, at another size; by default at the paper's.

    Raises:
        ValueError: for another name.
        TypeError: for a task of another kind.
    """
    if name not in _BEST:
        raise ValueError(f"There are no best settings for {name!r}, only for {', '.join(sorted(_BEST))}.")
    kind, make = _BEST[name]
    task = kind() if task is None else task
    if not isinstance(task, kind):
        raise TypeError(f"The task of {name!r} must be of kind {kind.__name__}; got {task!r}.")
    return make(task)


def train_best(name: str, seed: int = 0, task: Task | None = None) -> EnergySolver:
    """Train the best energy for a task, on its ``same`` problems, on the CPU; the same seed gives the same weights.

    Args:
        name: of the task, as in `best`.
        seed: of the initial weights and the training problems.
        task: as in `best`.

    Returns:
        The solver with its test-time settings, in evaluation mode.
    """
    settings = best(name, task)
    solver = settings.make_solver(settings.make_energy(seed))
    trainer = Trainer(
        solver,
        settings.task,
        settings.training,
        generator=stream(f"train best {name}", seed),
        accelerator=make_accelerator(settings.training.precision, cpu=True),
    )
    trainer.fit(settings.iterations)
    return settings.make_solver(trainer.trained_model).eval()


def _addition(task: Addition) -> Best:
    return Best(
        task=task,
        energy=lambda: SharedQuadratic(task.size),
        iterations=600,
        # Few problems a batch, since every entry of a problem is an example for the weights that they share.
        training=TrainingConfig(train_steps=10, differentiation=Unroll(), batch_size=16, lr=0.5, schedule=OneCycle()),
        optimizer=SGD(0.5),
        init=Uniform((task.size,)),
        halting=GradientNorm(1e-4),
        max_steps=200,
    )


def _inverse(task: Inverse) -> Best:
    return Best(
        task=task,
        energy=lambda: PreconditionedInverse(task.size),
        iterations=300,
        training=TrainingConfig(train_steps=5, differentiation=Unroll(), batch_size=64, lr=0.2, schedule=OneCycle()),
        optimizer=SGD(1.0),
        init=Uniform((task.size, task.size)),
        halting=GradientNorm(1e-4),
        max_steps=500,
    )


def _completion(task: Completion) -> Best:
    # 0.05 at the paper's size, where it was chosen; in its own units a problem has factors with squared singular values
    # of about max(rows, columns) / sqrt(rank), to which the curvature is proportional; in tiny problems the
    # prior adds to it as much.
    step_size = min(0.1, math.sqrt(task.rank / 10) / max(task.rows, task.columns))
    return Best(
        task=task,
        energy=lambda: FactoredCompletion(
            task.rows, task.columns, task.rank, noise=task.noise, penalty=2.0, shrinkage=0.9
        ),
        iterations=60,
        training=TrainingConfig(
            train_steps=150, differentiation=Truncated(50), batch_size=64, lr=3e-2, schedule=OneCycle()
        ),
        optimizer=Momentum(step_size),
        init=FromInput(),
        halting=GradientNorm(1e-2),
        max_steps=1500,
        scratchpad=Normal((task.rows + task.columns, task.rank), std=0.3),
    )


_BEST: Mapping[str, tuple[type[Task], Callable[[Any], Best]]] = {
    "addition": (Addition, _addition),
    "completion": (Completion, _completion),
    "inverse": (Inverse, _inverse),
}
