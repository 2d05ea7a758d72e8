"""Presets: how a model for a task is built, trained and used."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch

from ..optimizers import LBFGS
from ..seeding import stream
from ..solver import EnergySolver
from ..tasks import Task
from ..training import Replayable, SupervisedTrainer, Trainer, TrainingConfig, Validation, make_accelerator
from ..training.equilibrium import EquilibriumSteps
from ..training.minima import MinimumLoss
from ..training.supervised import UNUSED

Settings = Mapping[str, Any]
"""Numbers and names from which a preset builds its model."""


def as_trained(model: Any, settings: Settings) -> Any:
    """The model, unchanged."""
    return model


def choosing_steps(solver: EnergySolver, settings: Settings) -> EnergySolver:
    """The solver with `LBFGS`, for energies that are trained by fixed steps; see docs/experiments/solvers.md."""
    return solver.replace(optimizer=LBFGS())


@dataclass(frozen=True)
class Preset:
    """How a model for a task is built, trained and used.

    Attributes:
        build: makes the model to train from a task and the settings (including ``seed``): an `EnergySolver`, whose
            optimizer takes the training steps, or a module with a ``loss`` (see `SupervisedTrainer`). Initial weights
            come from torch's global generator.
        iterations: number of parameter updates.
        training: settings of the trainer.
        settings: settings that ``build`` and ``in_use`` take, by name.
        in_use: makes the solver to save from the trained one and the settings: its test-time optimizer, halting
            criterion and maximum number of steps. By default the trained solver is saved.
        seed: seed of all random numbers.
        size: size of the problems; None for the domain's.
        validate_every: iterations between validations; 0 for none.
        early_stopping: training stops after this many validations in a row without a lower error; None: never.
        stream: name of the stream of random numbers that training draws from.

    Examples:
        >>> from energysolve import SGD, EnergySolver
        >>> from energysolve.energies import SharedQuadratic
        >>> from energysolve.presets import Preset
        >>> from energysolve.tasks import Addition
        >>> from energysolve.training import TrainingConfig
        >>> def build(task, settings):
        ...     return EnergySolver(SharedQuadratic(task.size), SGD(settings["step_size"]), init=task.init)
        >>> preset = Preset(build, iterations=20, training=TrainingConfig(lr=0.1), settings={"step_size": 0.5})
        >>> trainer, _ = preset.changed({"step_size": 0.25}).prepare("addition", Addition(3), cpu=True)
        >>> trainer.fit(preset.iterations)
        >>> trainer.iteration, trainer.solver.optimizer
        (20, SGD(lr=0.25))
    """

    build: Callable[[Any, Settings], Any]
    iterations: int
    training: TrainingConfig = field(default_factory=TrainingConfig)
    settings: Settings = field(default_factory=dict)
    in_use: Callable[[Any, Settings], Any] = as_trained
    seed: int = 0
    size: int | None = None
    validate_every: int = 0
    early_stopping: int | None = None
    stream: str = "train"

    def changed(self, changes: Mapping[str, Any]) -> "Preset":
        """A copy with other values of fields, ``settings`` or fields of ``training``, by name; None changes nothing.

        Raises:
            ValueError: for a name that the preset does not have, or a value out of range.
        """
        given = {name: value for name, value in changes.items() if value is not None}
        known = {*_CHANGEABLE, *self.settings, *(each.name for each in fields(self.training))}
        if unknown := [name for name in given if name not in known]:
            raise ValueError(f"This preset has no setting {', '.join(unknown)}; it has {', '.join(sorted(known))}.")
        own = {name: given.pop(name) for name in _CHANGEABLE if name in given}
        settings = {name: given.pop(name) for name in self.settings if name in given}
        return replace(self, settings={**self.settings, **settings}, training=self.training.changed(given), **own)

    def to_json(self) -> dict[str, Any]:
        """The settings, JSON-able."""
        own = {name: getattr(self, name) for name in _CHANGEABLE}
        return own | dict(self.settings) | {"training": self.training.to_json()}

    def prepare(
        self,
        name: str,
        task: Task,
        *,
        folder: Path | None = None,
        trackers: Sequence[str] = (),
        cpu: bool = False,
        after: int = 0,
    ) -> tuple[Trainer | SupervisedTrainer, Any]:
        """The trainer, and the model in its test-time form, which shares the trained weights.

        After training, pass both to `finished` to get the model to save.

        Args:
            name: name of the task, for the stream of random numbers.
            task: source of problems.
            folder: folder that trackers write to.
            trackers: names of trackers, see `make_accelerator`.
            cpu: train on the CPU even if there is a GPU.
            after: iteration that a resumed run continues from.

        Raises:
            ValueError: if a setting is out of range.
        """
        torch.manual_seed(self.seed)  # for the initial weights
        model = self.build(task, {**self.settings, "seed": self.seed})
        used = self.in_use(model, self.settings)
        accelerator = make_accelerator(self.training.precision, cpu=cpu, trackers=trackers, folder=folder, after=after)
        generator = stream(f"{self.stream} {name}", self.seed, accelerator.device)
        if not isinstance(model, EnergySolver):
            unused = {name: getattr(TrainingConfig(), name) for name in UNUSED}
            config = self.training.changed(unused if isinstance(model, Replayable) else unused | {"replay": 0})
            return SupervisedTrainer(model, task, config, generator=generator, accelerator=accelerator), used
        validation = None
        if self.validate_every:
            validation = Validation(used, self.validate_every, problems=128, early_stopping=self.early_stopping)
        options = {"validation": validation, "generator": generator, "accelerator": accelerator}
        return Trainer(model, task, self.training, **options), used


_CHANGEABLE = ("iterations", "seed", "size", "validate_every", "early_stopping")


def finished(trainer: Trainer | SupervisedTrainer, used: Any) -> Any:
    """The model to save, with the trained weights, on the CPU and in evaluation mode.

    Examples:
        >>> from energysolve.presets import DOMAINS, finished
        >>> from energysolve.tasks import Addition
        >>> preset = DOMAINS["addition"].preset("best")
        >>> trainer, used = preset.prepare("addition", Addition(3), cpu=True)
        >>> trainer.fit(5)  # the preset has 600 iterations
        >>> solver = finished(trainer, used)
        >>> trainer.solver.optimizer, solver.optimizer, solver.training  # trained by one, used with the other
        (SGD(lr=0.5), LBFGS(memory=10), False)
    """
    trained = trainer.trained_model
    if isinstance(used, EnergySolver):
        # The steps of an equilibrium, or the minima, are trained, and their energy is kept.
        kept = trained.energy if isinstance(trained, EquilibriumSteps | MinimumLoss) else trained
        trained = used.replace(energy=kept)
    return trained.to("cpu").eval()
