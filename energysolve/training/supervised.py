"""Training of models that state their own loss, the baselines among them."""

from typing import Any, Protocol, runtime_checkable

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ..tasks.base import Task
from .batches import local_shard
from .config import TrainingConfig
from .replay import ReplayBuffer
from .run import Run

_DEFAULTS = TrainingConfig()
_UNUSED = ("train_steps", "differentiation", "compile")


@runtime_checkable
class Replayable(Protocol):
    """A model that can go on from answers found earlier, and so be trained with a replay buffer."""

    def initial(self, x: Any, generator: torch.Generator | None = None) -> Tensor:
        """Answers to begin with."""
        ...

    def loss_from(self, x: Any, target: Any, y: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of a batch that goes on from the answers ``y``, and the answers it arrives at, without gradients."""
        ...


class SupervisedTrainer(Run):
    """Trains a model on new problems of a task by the model's own loss.

    The model is a module with a method ``loss(x, target, generator=...)`` that gives the loss of a batch as a tensor of
    shape (), such as the baselines of `energysolve.baselines`::

        model = Feedforward(x_dim=800, y_shape=(400,))
        trainer = SupervisedTrainer(model, Addition(400), lr=1e-4, schedule=Constant())
        trainer.fit(10_000, checkpoints=Checkpoints(folder), resume=True)
        solution = trainer.trained_model.solve(x)

    `fit` means what it means for `Trainer`: the same optimizer, schedules, moving average, guard against losses that
    are not finite, checkpoints and resuming. There is no inner loop, so the settings ``train_steps``,
    ``differentiation`` and ``compile`` must be as they are by default; the steps of a model are its own business.
    ``replay`` is for models that go on from earlier answers (see `Replayable`), such as `UnrolledFeedforward`: as in
    `Trainer`, every batch is then joined by as many problems from the buffer, with the answers found for them.

    On several processes each works on its share of every batch. Problems are drawn from one stream; the random numbers
    that the loss draws are different in every process, so with those the number of processes changes the result.

    Args:
        model: trained in place, and moved to the accelerator's device.
        task: the source of problems; its error plays no part.
        config: the settings.
        generator: source of all randomness in training, on the accelerator's device; by default seeded with 0.
        accelerator: by default a new one with the configured precision, on the GPU if there is one.
        **settings: fields of `TrainingConfig`, in place of those in ``config``.

    Raises:
        TypeError: for a setting that does not exist, or a model without a loss.
        ValueError: for a setting that is out of range or plays no part, or a model without parameters to train.
    """

    def __init__(
        self,
        model: Any,
        task: Task,
        config: TrainingConfig = _DEFAULTS,
        *,
        generator: torch.Generator | None = None,
        accelerator: Accelerator | None = None,
        **settings: Any,
    ):
        config = config.changed(settings)
        _check_model(model)
        _check_unused(config)
        if config.replay and not isinstance(model, Replayable):
            raise ValueError(
                f"replay={config.replay!r}: {type(model).__name__} does not go on from earlier answers, for which it "
                "would need the methods initial and loss_from. Leave out replay."
            )
        super().__init__(model, task, config, generator, accelerator)
        self.replay = ReplayBuffer(config.replay) if config.replay else None

    def settings(self) -> dict[str, Any]:
        config = getattr(self.model, "config", None)
        model = {"class": type(self.model).__name__, "config": config() if callable(config) else None}
        return super().settings() | {"model": model}

    def _loss(self) -> nn.Module:
        return _Loss(self.model)

    def _new(self, batch: int, generator: torch.Generator) -> Any:
        x, target = self.task.sample(batch, generator=generator, device=self.device)
        return self.task.split((x, target, self.model.initial(x, generator), None))

    def _batch(self, last: bool) -> tuple[Tensor, Any]:
        assert self._updater is not None
        if self.replay is not None:
            x, target, y, _ = self.task.merge(local_shard(self._draw(), self.accelerator))
            loss, y = self._updater.backward(x, target, y, last=last)
            return loss, self.task.split((x, target, y, None))
        x, target = self.task.sample(self.config.batch_size, generator=self.generator, device=self.device)
        generator = self.generator
        if self.accelerator.num_processes > 1:
            # Batches are split and merged with answers found, in place of which there is the target once more.
            rows = local_shard(self.task.split((x, target, target, None)), self.accelerator)
            x, target, *_ = self.task.merge(rows)
            generator = self._own_generator()
        (loss,) = self._updater.backward(x, target, generator, last=last)
        return loss, None

    def _own_generator(self) -> torch.Generator:
        """Random numbers of this process alone, by the state of the common stream, which does not move on."""
        own = torch.Generator(self.device)
        own.set_state(self.generator.get_state())
        seed = int(torch.randint(2**62, (), generator=own, device=self.device))
        return own.manual_seed(seed + self.accelerator.process_index)


class _Loss(nn.Module):
    """A model's loss as a forward pass, which is what data-parallel training and mixed precision look at."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, x: Any, target: Any, source: torch.Generator | Tensor) -> tuple[Tensor, ...]:
        """From a generator, or from answers to go on from: then along with those that it arrives at."""
        if isinstance(source, torch.Generator):
            return (self.model.loss(x, target, generator=source),)
        return self.model.loss_from(x, target, source)


def _check_model(model: Any) -> None:
    if not isinstance(model, nn.Module) or not callable(getattr(model, "loss", None)):
        raise TypeError(
            "SupervisedTrainer needs an nn.Module with a method loss(x, target, generator=None), such as the "
            f"baselines of the library; got {type(model).__name__}. Train the energy of a solver with Trainer."
        )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("The model has no parameters to train: none of them requires a gradient.")


def _check_unused(config: TrainingConfig) -> None:
    altered = [name for name in _UNUSED if getattr(config, name) != getattr(_DEFAULTS, name)]
    if altered:
        shown = ", ".join(f"{name}={getattr(config, name)!r}" for name in altered)
        raise ValueError(
            f"{shown}: SupervisedTrainer has no inner loop or compiled loss. Leave out "
            f"{', '.join(altered)}; the number of steps is an argument of the model."
        )
