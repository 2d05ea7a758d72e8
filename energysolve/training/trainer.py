"""Training: Algorithm 1 of the paper, and Algorithm 3 where the energy has a scratchpad."""

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ..halting import Never
from ..optimizers import SGD
from ..ragged import rows_cat
from ..recorders import Nothing
from ..solver import EnergySolver
from ..tasks.base import Task
from .accelerators import make_accelerator
from .callbacks import Callback, Delayed, Progress
from .checkpoints import Checkpoints
from .config import TrainingConfig
from .loss import Loss
from .replay import ReplayBuffer
from .sharing import gathered, own_part
from .state import restore, snapshot
from .update import NonfiniteLossError, Updater
from .validation import Validation, Validator

_DEFAULTS = TrainingConfig()
_MOST_FAILURES = 100
"""Batches in a row that may be skipped before training stops all the same."""


class Trainer:
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
        self.config = config = config.changed(settings)
        self.replay = ReplayBuffer(config.replay) if replay is None and config.replay else replay
        _check_trainable(solver, config)
        self.accelerator = accelerator or make_accelerator(config.precision)
        if config.batch_size % self.accelerator.num_processes:
            raise ValueError(
                f"batch_size must be a multiple of the {self.accelerator.num_processes} processes, which share every "
                f"batch; got {config.batch_size}."
            )
        self.device = self.accelerator.device
        self.generator = _generator(generator, self.device)
        self.task = task
        self.energy: Any = solver.energy.to(self.device)  # pyright: ignore[reportFunctionMemberAccess]
        self.solver = solver.replace(
            halting=Never(),
            recorder=Nothing(),
            differentiation=config.differentiation,
            max_steps=config.train_steps,
            init=solver.init or task.init,
            layout=solver.layout or task.layout,
            compile=False,
        )
        self.validator = Validator(validation, task, self.device) if validation else None
        self.average = None if config.ema is None else copy.deepcopy(self.energy).requires_grad_(False)
        self.callbacks: list[Callback] = []
        self._updater: Updater | None = None

    @property
    def trained_energy(self) -> Any:
        """The energy to use: the moving average if there is one, else the energy that is trained."""
        return self.energy if self.average is None else self.average

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
        self._tell("on_start", self.iteration, iterations)
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
        if self.validator is not None and self.validator.validation.patience and self.best_weights is not None:
            self.trained_energy.load_state_dict(self.best_weights)
        # Meanwhile communication threads let go of tensors; one that is late for it would abort the process at its end.
        self.accelerator.wait_for_everyone()

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

    def example(self) -> Any:
        """A batch as the replay buffer stores it, of one problem, drawn apart from the run's random numbers."""
        return self._new(1, torch.Generator(self.device))

    def _start(self, iterations: int) -> None:
        """Set up a run that has not begun."""
        self.iteration, self.iterations = 0, iterations
        self.failures = 0
        self.best: tuple[int, float] | None = None
        self.best_weights: dict[str, Tensor] | None = None
        self.energy.train()
        self._updater = Updater(Loss(self.solver, self.task), self.config, self.accelerator)
        if self.average is not None:  # after the processes have agreed on the weights
            self.average.load_state_dict(self.energy.state_dict())
        self.optimizer = self._updater.optimizer
        self.scheduler = self.config.schedule.build(self.optimizer, max(iterations, 1))

    def _iterate(self) -> tuple[Tensor, Tensor]:
        """One iteration. Returns the loss, and whether it and its gradient were finite, still on the device."""
        assert self._updater is not None
        losses, stored = [], []
        for part in range(self.config.accumulate):
            x, target, y, z = self.task.merge(own_part(self._draw(), self.accelerator))
            loss, y, z = self._updater.backward(x, target, y, z, last=part == self.config.accumulate - 1)
            losses.append(loss)
            stored.append(self.task.split((x, target, y, z)))
        loss: Any = self.accelerator.reduce(torch.stack(losses).mean(), reduction="mean")
        good = self._updater.step(loss)
        if self.replay is not None:
            for rows in stored:
                self.replay.insert(gathered(rows, self.accelerator), keep=good)
        if self.iterations:
            with warnings.catch_warnings():  # that the first batch was skipped
                warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
                self.scheduler.step()
        if self.average is not None:
            _update_average(self.average, self.energy, self.config.ema)
        self.iteration += 1
        return loss, good

    def _draw(self) -> Any:
        """The rows of a batch, over all processes: new problems, and replayed ones once the buffer holds a batch."""
        new = self._new(self.config.batch_size, self.generator)
        if self.replay is None or len(self.replay) < self.config.batch_size:
            return new
        return rows_cat(new, self.replay.sample(self.config.batch_size, self.generator))

    def _new(self, batch: int, generator: torch.Generator) -> Any:
        x, target = self.task.sample(batch, generator=generator, device=self.device)
        assert self.solver.layout is not None
        assert self.solver.init is not None
        layout = self.solver.layout(x)
        y = self.solver.init(x, layout, generator)
        z = None if self.solver.scratchpad is None else self.solver.scratchpad(x, layout, generator)
        return self.task.split((x, target, y, z))

    def _report(self, arrived: Iterator[tuple[Any, list[float]]], checkpoints: Checkpoints | None) -> None:
        """Tell of iterations whose loss has arrived; stop at one that was not finite."""
        for (iteration, lr), (loss, good) in arrived:
            self.failures = 0 if good else self.failures + 1
            if not good and (not self.config.skip_nonfinite or self.failures > _MOST_FAILURES):
                raise NonfiniteLossError.at(iteration, loss, checkpoints.latest() if checkpoints else None)
            self._tell("on_iteration", Progress(iteration, self.iterations, loss, lr, skipped=not good))
            if iteration % self.config.log_every == 0 or iteration == self.iterations:
                self.accelerator.log({"loss": loss, "lr": lr}, step=iteration)

    def _validate(self) -> None:
        if self.validator is None or self.iteration % self.validator.validation.every:
            return
        validated = self.validator.run(self.iteration, self.trained_energy)
        if self.best is None or validated.score < self.best[1]:
            self.best = (self.iteration, validated.score)
            if self.validator.validation.patience:
                self.best_weights = {name: t.detach().clone() for name, t in self.trained_energy.state_dict().items()}
        self._tell("on_validation", validated)
        self.accelerator.log(validated.flat(), step=self.iteration)

    def _exhausted(self) -> bool:
        """Whether so many validations have brought nothing better that training stops."""
        if self.validator is None or self.validator.validation.patience is None or self.best is None:
            return False
        waited = self.iteration - self.best[0]
        return waited >= self.validator.validation.patience * self.validator.validation.every

    def _save(self, checkpoints: Checkpoints) -> None:
        if self.accelerator.is_main_process:
            path = checkpoints.save(self.iteration, *snapshot(self), best=self.best[0] if self.best else None)
            self._tell("on_checkpoint", path)
        self.accelerator.wait_for_everyone()

    def _tell(self, event: str, *arguments: Any) -> None:
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


def _update_average(average: Any, energy: Any, decay: float | None) -> None:
    assert decay is not None
    with torch.no_grad():
        get_ema_multi_avg_fn(decay)(list(average.parameters()), list(energy.parameters()), 0)
        for old, new in zip(average.buffers(), energy.buffers(), strict=True):
            old.copy_(new)
