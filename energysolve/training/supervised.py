"""Training of models that define their own loss, the baselines among them."""

from typing import Any, Protocol, runtime_checkable

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ..tasks.base import Task
from .base import BaseTrainer, configured
from .batches import Batch
from .config import TrainingConfig
from .replay import ReplayBuffer

UNUSED = ("train_steps", "differentiation", "compile")


@runtime_checkable
class Replayable(Protocol):
    """A model that improves given answers, and so can be trained with a replay buffer.

    Examples:
        >>> from energysolve.baselines import Feedforward, UnrolledFeedforward
        >>> from energysolve.training import Replayable
        >>> isinstance(UnrolledFeedforward(8, 4, width=16), Replayable)
        True
        >>> isinstance(Feedforward(8, 4, width=16), Replayable)
        False
    """

    def initial(self, x: Any, generator: torch.Generator | None = None) -> Tensor:
        """Initial answers to ``x``."""
        ...

    def loss_from(self, x: Any, target: Any, y: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of a batch that starts from the answers ``y``, and the improved answers, detached."""
        ...


class SupervisedTrainer(BaseTrainer):
    """Trains a model on new problems of a task by the model's own loss.

    The model is a module with a method ``loss(x, target, generator=...)`` that returns the loss of a batch, shape (),
    such as the baselines of `energysolve.baselines`.

    Everything else is as in `Trainer`, but there is no validation and no inner loop: ``train_steps``,
    ``differentiation`` and ``compile`` must keep their defaults. ``replay`` requires a model that improves given
    answers (see `Replayable`), such as `UnrolledFeedforward`.

    On several processes the random numbers that the loss draws differ between processes. For such a loss the result
    depends on the number of processes.

    Args:
        model: trained in place, and moved to the accelerator's device.
        task: the source of problems; its error is not used.
        config: as in `Trainer`.
        replay: as in `Trainer`.
        generator: as in `Trainer`.
        accelerator: as in `Trainer`.
        **settings: as in `Trainer`.

    Raises:
        TypeError: as in `Trainer`, or for a model without a loss.
        ValueError: as in `Trainer`, or for a setting that is not used.

    Examples:
        >>> from energysolve.baselines import Feedforward
        >>> from energysolve.tasks import Addition
        >>> from energysolve.training import Constant, SupervisedTrainer, make_accelerator
        >>> model = Feedforward(x_dim=6, y_shape=(3,), width=64)
        >>> settings = {"lr": 1e-2, "schedule": Constant(), "accelerator": make_accelerator(cpu=True)}
        >>> trainer = SupervisedTrainer(model, Addition(3), **settings)
        >>> losses = []
        >>> trainer.fit(100, lambda progress: losses.append(progress.loss))
        >>> losses[-1] < losses[0] / 10
        True
        >>> x, target = Addition(3).sample(5)
        >>> trainer.trained_model.solve(x).y.shape
        torch.Size([5, 3])
    """

    def __init__(
        self,
        model: Any,
        task: Task,
        config: TrainingConfig = TrainingConfig(),  # noqa: B008  (frozen)
        *,
        replay: ReplayBuffer | int | None = None,
        generator: torch.Generator | None = None,
        accelerator: Accelerator | None = None,
        **settings: Any,
    ):
        config, buffer = configured(config, settings, replay)
        _check_model(model)
        _check_unused(config)
        if buffer is not None and not isinstance(model, Replayable):
            raise ValueError(
                f"replay={config.replay!r}: {type(model).__name__} has no methods initial and loss_from, so it cannot "
                "improve answers found earlier. Leave out replay."
            )
        start = None if buffer is None else lambda x, generator: (model.initial(x, generator), None)
        super().__init__(model, _Loss(model), task, config, start, buffer, generator, accelerator)
        arguments = getattr(model, "config", None)
        arguments = arguments() if callable(arguments) else None
        model_of = {"class": type(model).__name__, "config": arguments}
        self.state.identity = {**self.state.identity, "model": model_of}

    def _inputs(self, batch: Batch) -> tuple[Any, ...]:
        x, target, y, _ = batch
        if self.replay is not None:
            return x, target, y
        return x, target, self.generator if self.accelerator.num_processes == 1 else self._local_generator()

    def _local_generator(self) -> torch.Generator:
        """A generator for this process alone, seeded from the common stream, which does not advance."""
        local = torch.Generator(self.device)
        local.set_state(self.generator.get_state())
        seed = int(torch.randint(2**62, (), generator=local, device=self.device))
        return local.manual_seed(seed + self.accelerator.process_index)


class _Loss(nn.Module):
    """A model's loss as a forward pass, which data-parallel training and mixed precision hook into."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, x: Any, target: Any, source: torch.Generator | Tensor) -> tuple[Tensor, Any, None]:
        """The loss, the answers if ``source`` are answers to start from, and no scratchpad."""
        if isinstance(source, torch.Generator):
            return self.model.loss(x, target, generator=source), None, None
        return *self.model.loss_from(x, target, source), None


def _check_model(model: Any) -> None:
    if not isinstance(model, nn.Module) or not callable(getattr(model, "loss", None)):
        raise TypeError(
            "SupervisedTrainer needs an nn.Module with a method loss(x, target, generator=None), such as the "
            f"baselines of the library; got {type(model).__name__}. Train the energy of a solver with Trainer."
        )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("The model has no parameters to train: none of them requires a gradient.")


def _check_unused(config: TrainingConfig) -> None:
    unused = {name: value for name, value in config.changes().items() if name in UNUSED}
    if unused:
        shown = ", ".join(f"{name}={value!r}" for name, value in unused.items())
        raise ValueError(
            f"{shown}: SupervisedTrainer has no inner loop or compiled loss. Leave out {', '.join(unused)}; the number "
            "of steps is an argument of the model."
        )
