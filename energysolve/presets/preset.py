"""Presets: how a model for a task is built, trained and used."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch

from ..seeding import stream
from ..solver import EnergySolver
from ..tasks import Task
from ..training import Replayable, SupervisedTrainer, Trainer, TrainingConfig, Validation, make_accelerator
from ..training.supervised import UNUSED

Settings = Mapping[str, Any]
"""The numbers and names from which a preset builds its model."""


def as_trained(model: Any, settings: Settings) -> Any:
    """The model as it was trained."""
    return model


@dataclass(frozen=True)
class Preset:
    """How a model for a task is built, trained and used.

    Example::

        def build(task, settings):
            energy = MLPEnergy(10, 10, width=settings["width"])
            return EnergySolver(energy, SGD(settings["step_size"]), init=task.init)

        preset = Preset(build, iterations=500, settings={"width": 64, "step_size": 10.0})

    Attributes:
        build: makes the model to train from a task and the settings, ``seed`` among them: an `EnergySolver`, whose
            optimizer takes the steps of training, or a module with a ``loss`` (see `SupervisedTrainer`). Initial
            weights come from torch's generator.
        iterations: updates of the parameters.
        training: the settings of the trainer.
        settings: what ``build`` and ``in_use`` take besides the task, by name.
        in_use: the solver to save, from the one that is trained and the settings: its test-time optimizer, halting
            criterion and limit of steps. By default the solver that is trained.
        seed: of the initial weights, the problems and everything else.
        size: of the problems; None for the domain's.
        validate_every: iterations from one validation to the next; 0 for none.
        early_stopping: validations in a row without a lower error after which training stops; None to train to the end.
        stream: names the stream of random numbers that training draws from.
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
        """With other values for fields, for ``settings`` or for fields of ``training``, by name; None changes nothing.

        Raises:
            ValueError: for a name that the preset does not have, or a value out of range.
        """
        given = {name: value for name, value in changes.items() if value is not None}
        training = {each.name for each in fields(self.training)}
        unknown = [name for name in given if name not in {*_CHANGEABLE, *self.settings, *training}]
        if unknown:
            raise ValueError(
                f"This preset has no setting {', '.join(unknown)}; it has "
                f"{', '.join(sorted({*_CHANGEABLE, *self.settings, *training}))}."
            )
        own = {name: value for name, value in given.items() if name in _CHANGEABLE}
        settings = {name: value for name, value in given.items() if name in self.settings}
        of_training = {name: value for name, value in given.items() if name not in {**own, **settings}}
        return replace(self, settings={**self.settings, **settings}, training=self.training.changed(of_training), **own)

    def to_json(self) -> dict[str, Any]:
        """The settings as plain JSON."""
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
        """The trainer, and the model to save, which shares the weights that are trained.

        After training, `finished` gives the model to save.

        Args:
            name: of the task, for the stream of random numbers.
            task: the source of problems.
            folder: where trackers write.
            trackers: by name, see `make_accelerator`.
            cpu: stay on the CPU though there is a GPU.
            after: the iteration that a resumed run continues from.

        Raises:
            ValueError: if a setting is out of range.
        """
        torch.manual_seed(self.seed)  # of the initial weights
        model = self.build(task, {**self.settings, "seed": self.seed})
        used = self.in_use(model, self.settings)
        accelerator = make_accelerator(self.training.precision, cpu=cpu, trackers=trackers, folder=folder, after=after)
        generator = stream(f"{self.stream} {name}", self.seed, accelerator.device)
        if not isinstance(model, EnergySolver):
            unused = {name: getattr(TrainingConfig(), name) for name in UNUSED}
            config = self.training.changed(unused if isinstance(model, Replayable) else unused | {"replay": 0})
            return SupervisedTrainer(model, task, config, generator=generator, accelerator=accelerator), model
        validation = None
        if self.validate_every:
            validation = Validation(used, self.validate_every, problems=128, early_stopping=self.early_stopping)
        trainer = Trainer(
            model, task, self.training, validation=validation, generator=generator, accelerator=accelerator
        )
        return trainer, used


_CHANGEABLE = ("iterations", "seed", "size", "validate_every", "early_stopping")


def finished(trainer: Trainer | SupervisedTrainer, used: Any) -> Any:
    """The model to save, with the trained weights: on the CPU, in evaluation mode."""
    if isinstance(used, EnergySolver):
        return used.replace(energy=trainer.trained_model).to("cpu").eval()
    return trainer.trained_model.to("cpu").eval()
