"""Training runs of the command line: presets, their settings, and what is built from them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch

from ..halting import EnergyChange
from ..initializers import Uniform
from ..optimizers import SGD
from ..seeding import stream
from ..solver import EnergySolver
from ..tasks import Task
from ..training import Constant, OneCycle, Trainer, TrainingConfig, Validation, make_accelerator
from .catalog import Entry
from .starts import STARTS

_STANDARD = 4000
"""Problems that the mean and the deviation are taken of."""


@dataclass(frozen=True)
class Recipe:
    """The settings of a training run, see ``energysolve train --help``.

    Those that begin with ``test`` are of the solver that is saved.

    Attributes:
        size: of the problems; None for the paper's.
        energy_scale: what the energy is multiplied by, see `MLPEnergy`.
        standardized: whether the energy standardizes problems, as it finds them at the training difficulty.
        start: initial weights and answers, one of `STARTS`.
        validate_every: iterations from one validation to the next; 0 for none.
        early_stopping: validations without a lower error after which training stops; None to train to the end.
        training: the settings of the `Trainer`.
    """

    iterations: int
    seed: int = 0
    step_size: float = 100.0
    scratchpad: int = 0
    size: int | None = None
    width: int = 512
    energy_scale: float = 1.0
    standardized: bool = False
    start: str = "paper"
    test_step_size: float = 20.0
    test_max_steps: int = 300
    test_atol: float = 1e-5
    test_patience: int = 2
    validate_every: int = 500
    early_stopping: int | None = None
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def changed(self, changes: Mapping[str, Any]) -> "Recipe":
        """With the settings that are given, of the recipe itself or of its training; None stands for "as it is".

        Raises:
            ValueError: if a setting is out of range.
        """
        given = {name: value for name, value in changes.items() if value is not None}
        own = {each.name for each in fields(self)}
        training = self.training.changed({name: value for name, value in given.items() if name not in own})
        return replace(self, training=training, **{name: value for name, value in given.items() if name in own})

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {each.name: getattr(self, each.name) for each in fields(self)} | {"training": self.training.to_json()}

    def build(
        self,
        name: str,
        entry: Entry,
        *,
        folder: Path | None = None,
        trackers: tuple[str, ...] = (),
        cpu: bool = False,
        after: int = 0,
    ) -> tuple[Task, Trainer, EnergySolver]:
        """The task, the trainer, and the solver to save, which shares the energy that the trainer trains.

        Args:
            name: of the task.
            entry: of the task.
            folder: where trackers write.
            trackers: by name, see `make_accelerator`.
            cpu: stay on the CPU though there is a GPU.
            after: the iteration that a resumed run goes on from.

        Raises:
            ValueError: if a setting is out of range.
        """
        size = self.size or entry.size
        task = entry.make_task(size)
        torch.manual_seed(self.seed)  # of the initial weights
        energy = entry.make_energy(
            size,
            width=self.width,
            z_dim=self.scratchpad,
            scale=self.energy_scale,
            standardized=self.standardized,
        )
        if self.standardized:
            energy.standardize(task.sample(_STANDARD, generator=stream(f"standardize {name}", self.seed))[0])
        if self.start not in STARTS:
            raise ValueError(f"There is no start {self.start!r}; there are: {', '.join(STARTS)}.")
        solver = EnergySolver(
            energy,
            SGD(self.step_size),
            init=STARTS[self.start](energy, task, self.step_size),
            scratchpad=Uniform((self.scratchpad,)) if self.scratchpad else None,
        )
        tested = solver.replace(
            optimizer=SGD(self.test_step_size),
            halting=EnergyChange(atol=self.test_atol).patience(self.test_patience),
            max_steps=self.test_max_steps,
        )
        validation = None
        if self.validate_every:
            validation = Validation(tested, self.validate_every, problems=128, early_stopping=self.early_stopping)
        accelerator = make_accelerator(self.training.precision, cpu=cpu, trackers=trackers, folder=folder, after=after)
        trainer = Trainer(
            solver,
            task,
            self.training,
            validation=validation,
            generator=stream(f"train {name}", self.seed, accelerator.device),
            accelerator=accelerator,
        )
        return task, trainer, tested


PRESETS: dict[str, Recipe] = {
    "paper": Recipe(10_000, training=TrainingConfig(lr=1e-4, schedule=Constant(), replay=10_000)),
    "tuned": Recipe(6_000, training=TrainingConfig(lr=1e-3, schedule=OneCycle(), replay=10_000)),
}
"""The paper's settings, and ours for the same architecture; the same for every task, but for `_OWN`."""

_SMALL_STEPS = {"test_step_size": 10.0, "test_atol": 4e-6}
_LARGER_STEPS = {"test_step_size": 30.0, "test_atol": 1e-5}
_OWN: dict[tuple[str, str], dict[str, Any]] = {
    ("addition", "paper"): _SMALL_STEPS,
    ("addition", "tuned"): _SMALL_STEPS,
    ("completion", "paper"): _LARGER_STEPS,
    ("completion", "tuned"): _LARGER_STEPS,
    ("inverse", "paper"): _LARGER_STEPS,
    ("inverse", "tuned"): _LARGER_STEPS
    | {"iterations": 24_000, "train_steps": 3, "betas": (0.9, 0.99), "standardized": True, "start": "probes"}
    | {"test_step_size": 20.0, "test_max_steps": 50},
}
"""What differs for one task and preset."""


def recipe_of(task: str, preset: str) -> Recipe:
    """The recipe of a preset for a task; a KeyError if there is no such preset."""
    return PRESETS[preset].changed(_OWN.get((task, preset), {}))
