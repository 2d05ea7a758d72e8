"""Training: Algorithm 1 of the paper, and Algorithm 3 where the energy has a scratchpad."""

from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from ..halting import Never
from ..optimizers import SGD
from ..recorders import Nothing
from ..solver import EnergySolver
from ..tasks.base import Task
from .batches import local_shard
from .config import TrainingConfig
from .loss import Loss
from .replay import ReplayBuffer
from .run import Run
from .validation import Validation, Validator

_DEFAULTS = TrainingConfig()


class Trainer(Run):
    """Trains the energy of a solver by differentiating through a fixed number of its steps.

    Each iteration draws new problems, joins as many replayed ones (answers found earlier, optimized further), takes
    ``train_steps`` steps, and moves the energy's parameters against the gradient of the mean error, by Adam. Halting
    plays no part in training.

    It runs on Hugging Face accelerate: on one process or, started by ``accelerate launch``, on several, each with its
    share of every batch. All processes draw from one stream of random numbers, so their number changes no result.

    Args:
        solver: its energy is trained in place, and moved to the accelerator's device; optimizer, layout and
            initializers are its own or, where it has none, the task's.
        task: the source of problems.
        config: the settings.
        replay: the buffer of earlier answers; by default one of the configured capacity, if that is not 0.
        validation: when and how to validate; None not to.
        generator: source of all randomness in training, on the accelerator's device; by default seeded with 0.
        accelerator: by default a new one with the configured precision, on the GPU if there is one.
        **settings: fields of `TrainingConfig`, in place of those in ``config``.

    Raises:
        TypeError: for a setting that does not exist.
        ValueError: for a setting that is out of range, or an energy without parameters to train.
    """

    def __init__(
        self,
        solver: EnergySolver,
        task: Task,
        config: TrainingConfig = _DEFAULTS,
        *,
        replay: ReplayBuffer | None = None,
        validation: Validation | None = None,
        generator: torch.Generator | None = None,
        accelerator: Accelerator | None = None,
        **settings: Any,
    ):
        if replay is not None:
            settings["replay"] = replay.capacity
        config = config.changed(settings)
        _check_trainable(solver, config)
        super().__init__(solver.energy, task, config, generator, accelerator)
        self.replay = ReplayBuffer(config.replay) if replay is None and config.replay else replay
        self.solver = solver.suited(task).replace(
            halting=Never(),
            recorder=Nothing(),
            differentiation=config.differentiation,
            max_steps=config.train_steps,
            compile=False,
        )
        self.validator = Validator(validation, task, self.device) if validation else None

    @property
    def energy(self) -> Any:
        """The energy that is trained."""
        return self.model

    @property
    def trained_energy(self) -> Any:
        """The energy to use: the moving average if there is one, else the energy that is trained."""
        return self.trained_model

    def _loss(self) -> Loss:
        return Loss(self.solver, self.task)

    def _batch(self, last: bool) -> tuple[Tensor, Any]:
        assert self._updater is not None
        x, target, y, z = self.task.merge(local_shard(self._draw(), self.accelerator))
        loss, y, z = self._updater.backward(x, target, y, z, last=last)
        return loss, self.task.split((x, target, y, z))

    def _new(self, batch: int, generator: torch.Generator) -> Any:
        x, target = self.task.sample(batch, generator=generator, device=self.device)
        assert self.solver.init is not None
        layout = self.solver.layout_of(x)
        y = self.solver.init(x, layout, generator)
        z = None if self.solver.scratchpad is None else self.solver.scratchpad(x, layout, generator)
        return self.task.split((x, target, y, z))

    def _validate(self) -> None:
        if self.validator is None or self.iteration % self.validator.validation.every:
            return
        validated = self.validator.run(self.iteration, self.trained_energy)
        if self.best is None or validated.score < self.best[1]:
            self.best = (self.iteration, validated.score)
            if self.validator.validation.patience:
                self.best_weights = {name: t.detach().clone() for name, t in self.trained_energy.state_dict().items()}
        self._notify("on_validation", validated)
        self.accelerator.log(validated.flat(), step=self.iteration)

    def _exhausted(self) -> bool:
        """Whether so many validations have brought nothing better that training stops."""
        if self.validator is None or self.validator.validation.patience is None or self.best is None:
            return False
        waited = self.iteration - self.best[0]
        return waited >= self.validator.validation.patience * self.validator.validation.every

    def _finish(self) -> None:
        if self.validator is not None and self.validator.validation.patience and self.best_weights is not None:
            self.trained_energy.load_state_dict(self.best_weights)


def _check_trainable(solver: EnergySolver, config: TrainingConfig) -> None:
    if config.compile and not isinstance(solver.optimizer, SGD):
        raise ValueError(
            f"compile=True traces the whole inner loop, which torchopt's transformations do not allow; got "
            f"{solver.optimizer!r}. Train with SGD, or with compile=False."
        )
    if not any(parameter.requires_grad for parameter in solver.parameters()):
        raise ValueError(
            "The solver's energy has no parameters to train. It must be an nn.Module, such as MLPEnergy or a "
            "subclass of Energy, with parameters that require gradients."
        )
