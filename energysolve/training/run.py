"""What every training run does, whatever it trains: iterations, guarded updates, reports and checkpoints."""

import copy
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ..ragged import rows_cat
from ..tasks.base import Task
from .accelerators import make_accelerator
from .batches import gather_all
from .callbacks import Callback, Delayed, Progress
from .checkpoints import Checkpoints
from .config import TrainingConfig
from .replay import ReplayBuffer
from .state import restore, snapshot
from .update import NonfiniteLossError, Updater

_MOST_FAILURES = 100
"""Batches in a row that may be skipped before training stops all the same."""


class Run(ABC):
    """The training of a model on a task. Subclasses say what the loss is and which batches it sees.

    Args:
        model: trained in place, and moved to the accelerator's device.
        task: the source of problems.
        config: the settings.
        generator: source of all randomness in training, on the accelerator's device; by default seeded with 0.
        accelerator: by default a new one with the configured precision, on the GPU if there is one.

    Raises:
        ValueError: if the processes cannot share the batches, or the generator is on another device.
    """

    replay: ReplayBuffer | None = None

    def __init__(
        self,
        model: Any,
        task: Task,
        config: TrainingConfig,
        generator: torch.Generator | None,
        accelerator: Accelerator | None,
    ):
        self.config = config
        self.accelerator = accelerator or make_accelerator(config.precision)
        if config.batch_size % self.accelerator.num_processes:
            raise ValueError(
                f"batch_size must be a multiple of the {self.accelerator.num_processes} processes, which share every "
                f"batch; got {config.batch_size}."
            )
        self.device = self.accelerator.device
        self.generator = _generator(generator, self.device)
        self.task = task
        self.model: Any = model.to(self.device)
        self.average = None if config.ema is None else copy.deepcopy(self.model).requires_grad_(False)
        self.callbacks: list[Callback] = []
        self._updater: Updater | None = None

    @property
    def trained_model(self) -> Any:
        """The model to use: the moving average if there is one, else the one that is trained."""
        return self.model if self.average is None else self.average

    def fit(
        self,
        iterations: int,
        callback: Callable[[Progress], None] | None = None,
        *,
        callbacks: Iterable[Callback] = (),
        checkpoints: Checkpoints | None = None,
        resume: bool = False,
    ) -> None:
        """Train.

        Args:
            iterations: updates of the parameters, in all.
            callback: called after each of them.
            callbacks: told of everything that happens.
            checkpoints: where to write checkpoints, and when.
            resume: go on from the latest of the checkpoints; from the beginning if there is none yet.

        Raises:
            NonfiniteLossError: if the loss or its gradient becomes NaN or infinite and such batches are not skipped;
                the parameters are as they were before that iteration, and the last checkpoint is named.
            CheckpointError: if a checkpoint cannot be written or read.
        """
        self._start(iterations)
        self.callbacks = [*callbacks, *([_OnIteration(callback)] if callback else [])]
        latest = checkpoints.latest() if resume and checkpoints is not None else None
        if checkpoints is not None and latest is not None:
            restore(self, *checkpoints.load(latest))
        self._notify("on_start", self.iteration, iterations)
        delayed = Delayed()
        while self.iteration < iterations and not self._exhausted():
            lr = float(self.optimizer.param_groups[0]["lr"])
            loss, good = self._iterate()
            delayed.push((self.iteration, lr), torch.stack([loss, good.to(loss.dtype)]))
            self._report(delayed.arrived(), checkpoints)
            self._validate()
            if checkpoints is not None and checkpoints.due(self.iteration, iterations):
                self._report(delayed.arrived(wait=True), checkpoints)  # no checkpoint after a failure
                self._save(checkpoints)
        self._report(delayed.arrived(wait=True), checkpoints)
        self._finish()

    def step(self) -> Tensor:
        """One iteration outside of a run: draw, optimize, learn, store. Returns the detached loss.

        Raises:
            NonfiniteLossError: if the loss or its gradient is not finite and such batches are not skipped.
        """
        if self._updater is None:
            self._start(0)
        loss, good = self._iterate()
        if not self.config.skip_nonfinite and not bool(good):
            raise NonfiniteLossError.at(self.iteration, loss.item())
        return loss

    def settings(self) -> dict[str, Any]:
        """What must be the same for a run to be resumed, as plain JSON."""
        return self.config.to_json()

    def example(self) -> Any:
        """A batch as the replay buffer stores it, of one problem, drawn apart from the run's random numbers."""
        return self._new(1, torch.Generator(self.device))

    @abstractmethod
    def _loss(self) -> nn.Module:
        """The module from a batch to a tuple that begins with the loss."""

    @abstractmethod
    def _batch(self, last: bool) -> tuple[Tensor, Any]:
        """Draw a batch and add its gradient to those before it.

        Args:
            last: whether an update follows.

        Returns:
            The detached loss, and what `_store` is given.
        """

    @abstractmethod
    def _new(self, batch: int, generator: torch.Generator) -> Any:
        """The rows of new problems, with their targets and initial answers, as the replay buffer stores them."""

    def _draw(self) -> Any:
        """The rows of a batch, over all processes: new problems, and replayed ones once the buffer holds a batch."""
        new = self._new(self.config.batch_size, self.generator)
        if self.replay is None or len(self.replay) < self.config.batch_size:
            return new
        return rows_cat(new, self.replay.sample(self.config.batch_size, self.generator))

    def _store(self, parts: list[Any], good: Tensor) -> None:
        """Keep what the batches of an iteration have brought if the loss was ``good``, a boolean on the device."""
        if self.replay is not None:
            for rows in parts:
                self.replay.insert(gather_all(rows, self.accelerator), keep=good)

    def _validate(self) -> None:
        """Validate if it is time to."""

    def _exhausted(self) -> bool:
        """Whether training has brought nothing better for so long that it stops."""
        return False

    def _finish(self) -> None:
        """Leave the model as it is to be used."""

    def _start(self, iterations: int) -> None:
        """Set up a run that has not begun."""
        self.iteration, self.iterations = 0, iterations
        self.failures = 0
        self.best: tuple[int, float] | None = None
        self.best_weights: dict[str, Tensor] | None = None
        self.model.train()
        self._updater = Updater(self._loss(), self.config, self.accelerator)
        if self.average is not None:  # after the processes have agreed on the weights
            self.average.load_state_dict(self.model.state_dict())
        self.optimizer = self._updater.optimizer
        self.scheduler = self.config.schedule.build(self.optimizer, max(iterations, 1))

    def _iterate(self) -> tuple[Tensor, Tensor]:
        """One iteration. Returns the loss, and whether it and its gradient were finite, still on the device."""
        assert self._updater is not None
        losses, parts = [], []
        for part in range(self.config.accumulate):
            loss, stored = self._batch(last=part == self.config.accumulate - 1)
            losses.append(loss)
            parts.append(stored)
        loss: Any = self.accelerator.reduce(torch.stack(losses).mean(), reduction="mean")
        good = self._updater.step(loss)
        self._store(parts, good)
        if self.iterations:
            with warnings.catch_warnings():  # that the first batch was skipped
                warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
                self.scheduler.step()
        if self.average is not None:
            _update_average(self.average, self.model, self.config.ema)
        self.iteration += 1
        return loss, good

    def _report(self, arrived: Iterator[tuple[Any, list[float]]], checkpoints: Checkpoints | None) -> None:
        """Tell of iterations whose loss has arrived; stop at one that was not finite."""
        for (iteration, lr), (loss, good) in arrived:
            self.failures = 0 if good else self.failures + 1
            if not good and (not self.config.skip_nonfinite or self.failures > _MOST_FAILURES):
                raise NonfiniteLossError.at(iteration, loss, checkpoints.latest() if checkpoints else None)
            self._notify("on_iteration", Progress(iteration, self.iterations, loss, lr, skipped=not good))
            if iteration % self.config.log_every == 0 or iteration == self.iterations:
                self.accelerator.log({"loss": loss, "lr": lr}, step=iteration)

    def _save(self, checkpoints: Checkpoints) -> None:
        if self.accelerator.is_main_process:
            path = checkpoints.save(self.iteration, *snapshot(self), best=self.best[0] if self.best else None)
            self._notify("on_checkpoint", path)
        self.accelerator.wait_for_everyone()

    def _notify(self, event: str, *arguments: Any) -> None:
        if self.accelerator.is_main_process:
            for callback in self.callbacks:
                getattr(callback, event)(*arguments)


class _OnIteration(Callback):
    """A function of the progress as a callback."""

    def __init__(self, function: Callable[[Progress], None]):
        self._function = function

    def on_iteration(self, progress):
        self._function(progress)


def _generator(generator: torch.Generator | None, device: torch.device) -> torch.Generator:
    if generator is None:
        return torch.Generator(device).manual_seed(0)
    if generator.device.type != device.type:
        raise ValueError(
            f"The generator is on {generator.device}, but training runs on {device}: make it with "
            f"torch.Generator({str(device)!r}), or pass accelerator=Accelerator(cpu=True)."
        )
    return generator


def _update_average(average: Any, model: Any, decay: float | None) -> None:
    assert decay is not None
    with torch.no_grad():
        get_ema_multi_avg_fn(decay)(list(average.parameters()), list(model.parameters()), 0)
        for old, new in zip(average.buffers(), model.buffers(), strict=True):
            old.copy_(new)
