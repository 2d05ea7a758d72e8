"""What all trainers do: iterations, guarded updates, events and checkpoints."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ..checks import check_whole
from ..display import card
from ..tasks.base import Task
from .accelerators import make_accelerator
from .batches import Batch, Batches
from .callbacks import Callback, Delayed, Progress
from .checkpoints import Checkpoints
from .config import TrainingConfig
from .identity import described, start_of
from .interrupts import Interrupts
from .progress import ProgressBar
from .replay import ReplayBuffer
from .state import RunState, restore, snapshot
from .update import NonfiniteLossError, Updater

_LOG = logging.getLogger("energysolve.training")
_MAX_FAILURES = 100
"""Batches in a row that may be skipped; training stops at one more."""


class BaseTrainer:
    """Trains a model on the problems of a task. Subclasses provide the loss.

    The ``loss`` is a module from the inputs of a batch to ``(loss, y, z)``, which contains the ``model``; ``start`` is
    that of `Batches`. The other arguments are those of `Trainer`.
    """

    def __init__(
        self,
        model: Any,
        loss: nn.Module,
        task: Task,
        config: TrainingConfig,
        start: Callable[[Any, torch.Generator], tuple[Any, Any]] | None,
        replay: ReplayBuffer | None,
        generator: torch.Generator | None,
        accelerator: Accelerator | None,
    ):
        self.task, self.config, self.model, self.replay = task, config, model, replay
        self.accelerator = accelerator or make_accelerator(config.precision)
        if config.batch_size % self.accelerator.num_processes:
            raise ValueError(
                f"batch_size must be a multiple of the {self.accelerator.num_processes} processes, which share every "
                f"batch; got {config.batch_size}."
            )
        self.device = self.accelerator.device
        self.generator = _generator(generator, self.device)
        self.callbacks: list[Callback] = []
        self._bar: ProgressBar | None = None
        self.batches = Batches(task, config.batch_size, start, replay, self.generator, self.accelerator)
        model.to(self.device)
        self._updater = Updater(loss, config, self.accelerator)
        self.optimizer = self._updater.optimizer
        self.state = RunState(config, model, self.optimizer, self.generator, self.device, replay)
        self.state.identity = {"task": described(task), "model": {"class": type(model).__qualname__}}

    @property
    def trained_model(self) -> Any:
        """The model to use: the moving average if there is one, else the model that is trained."""
        return self.model if self.state.average is None else self.state.average

    @property
    def iteration(self) -> int:
        """The number of iterations done, 0 before training."""
        return self.state.iteration

    @property
    def iterations(self) -> int:
        """The number of iterations of the run, 0 before `fit`."""
        return self.state.iterations

    @property
    def best(self) -> tuple[int, float] | None:
        """The iteration and the error of the best validation, None before the first."""
        return self.state.best

    def fit(
        self,
        iterations: int,
        callback: Callable[[Progress], None] | None = None,
        *,
        callbacks: Iterable[Callback] = (),
        checkpoints: Checkpoints | None = None,
        resume: bool = False,
        overwrite: bool = False,
        progress: bool = False,
    ) -> None:
        """Train.

        Ctrl-C ends the run after the present iteration, with a checkpoint if there are ``checkpoints``; a second one
        ends it at once. The KeyboardInterrupt says in one line where the run can be continued.

        Args:
            iterations: the number of parameter updates, those before an interruption included. A finished run may be
                resumed with more; see `Schedule` for its learning rate.
            callback: called after each iteration, on the main process.
            callbacks: receive all events, see `Callback`.
            checkpoints: where and how often to write checkpoints; the folder must hold none, unless ``resume`` or
                ``overwrite`` is given.
            resume: continue from the latest checkpoint; start a new run if there is none.
            overwrite: delete the checkpoints in the folder and start a new run.
            progress: show a progress bar with the loss, the learning rate and the validations, as the command does.

        Raises:
            NonfiniteLossError: if the loss or its gradient becomes NaN or infinite and such batches are not skipped.
                The model is as it was before that iteration; the message names the last checkpoint.
            CheckpointError: if a checkpoint cannot be written or read, is of another run, or would be lost.
            ValueError: for ``resume`` or ``overwrite`` without ``checkpoints``, or both together, and if the task or
                the energy gives something that cannot be trained on; the message says what.
        """
        check_whole("fit", least=0, iterations=iterations)
        self.callbacks = [*callbacks, *([_OnIteration(callback)] if callback else [])]
        latest = self._found(checkpoints, resume, overwrite)
        self._bar = ProgressBar() if progress and self.accelerator.is_main_process else None
        self.callbacks += [self._bar] if self._bar else []
        with self._bar or nullcontext(), Interrupts() as interrupts:
            try:
                self._begin(iterations, checkpoints, latest, resume)
                self._run(iterations, checkpoints, interrupts)
            except KeyboardInterrupt as error:
                raise KeyboardInterrupt(self._interruption(checkpoints)) from (error if error.args else None)

    def step(self) -> Tensor:
        """Do one iteration outside of `fit`, and return its detached loss, shape (). Raises the same errors."""
        if self.state.scheduler is None:
            self.state.begin(0)
        self._updater.begin()
        loss, good = self._iterate()
        if not self.config.skip_nonfinite and not bool(good):
            raise NonfiniteLossError.at(self.iteration, loss.item())
        return loss

    def _found(self, checkpoints: Checkpoints | None, resume: bool, overwrite: bool) -> Path | None:
        """The checkpoint to resume from, if any; otherwise the folder holds no checkpoints."""
        if not isinstance(checkpoints, Checkpoints | None):
            raise TypeError(f"checkpoints must be Checkpoints(folder), got {checkpoints!r}.")
        if resume and overwrite:
            raise ValueError("resume=True continues the run in the folder and overwrite=True deletes it: choose one.")
        if checkpoints is None:
            if resume or overwrite:
                name = "resume" if resume else "overwrite"
                raise ValueError(f"{name}=True needs the folder of the run: pass checkpoints=Checkpoints(folder).")
            return None
        if resume:
            return checkpoints.latest()
        if not overwrite:
            checkpoints.check_free()
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            checkpoints.clear()
        self.accelerator.wait_for_everyone()
        return None

    def _begin(self, iterations: int, checkpoints: Checkpoints | None, latest: Path | None, resume: bool) -> None:
        """Start a run, or load the checkpoint ``latest``, and say so."""
        self.state.begin(iterations)
        self._updater.begin()
        if checkpoints is None or latest is None:
            self.state.start = start_of(self.model, self.generator)
            if resume and checkpoints is not None:
                self._say(f"There is no checkpoint in {checkpoints.folder}: a new run starts.")
        else:
            example = None if self.replay is None else self.batches.example()
            restore(self.state, *checkpoints.load(latest), example, checkpoints.same_start)
            left = f"of {iterations}" if self.iteration < iterations else f"of {iterations}; nothing is left to do"
            self._say(f"Resumed from {latest} after iteration {self.iteration} {left}.")
        self._notify("on_start", self.iteration, iterations)

    def _run(self, iterations: int, checkpoints: Checkpoints | None, interrupts: Interrupts) -> None:
        delayed = Delayed()
        while self.iteration < iterations and not self._exhausted():
            lr = float(self.optimizer.param_groups[0]["lr"])
            loss, good = self._iterate()
            delayed.push((self.iteration, lr), torch.stack([loss, good.to(loss.dtype)]))
            self._report(delayed.arrived(), checkpoints)
            self._validate()
            # Processes are interrupted at different iterations, and would wait for each other.
            stop = interrupts.asked and self.accelerator.num_processes == 1
            if checkpoints is not None and (stop or checkpoints.due(self.iteration, iterations)):
                self._report(delayed.arrived(wait=True), checkpoints)  # raises before a failed iteration is saved
                self._save(checkpoints)
            if interrupts.asked:
                raise KeyboardInterrupt
        self._report(delayed.arrived(wait=True), checkpoints)
        self._finish()
        if interrupts.asked:
            raise KeyboardInterrupt

    def _interruption(self, checkpoints: Checkpoints | None) -> str:
        latest = checkpoints.latest() if checkpoints else None
        if latest:
            kept = f"resume=True (--resume) continues from {latest}"
        else:
            kept = "there is no checkpoint to continue from" + (
                "" if checkpoints else "; pass checkpoints= to write some"
            )
        return f"Interrupted after {self.iteration} of {self.iterations} iterations; {kept}."

    def _say(self, line: str) -> None:
        """Print a line with the progress bar, or log it."""
        if self._bar is not None:
            self._bar.say(line)
        elif self.accelerator.is_main_process:
            _LOG.warning(line)

    def __repr__(self) -> str:
        title, rows = self._summary()
        return "\n  ".join([title, *(f"{name}: {value}" for name, value in rows.items())])

    def _repr_html_(self) -> str:
        title, rows = self._summary()
        return card(title, rows.items())

    def _summary(self) -> tuple[str, dict[str, str]]:
        task = type(self.task).__name__ if type(self.task).__repr__ is object.__repr__ else repr(self.task)
        settings = ", ".join(f"{name}={value!r}" for name, value in self.config.changes().items())
        rows = {
            "settings": settings or "the defaults",
            "iteration": f"{self.iteration}" + (f" of {self.iterations}" if self.iterations else ""),
        }
        if self.best is not None:
            rows["best validation"] = f"error {self.best[1]:.4g} at iteration {self.best[0]}"
        return f"{type(self).__name__} of {type(self.model).__name__} for {task}", rows | {"device": str(self.device)}

    def _inputs(self, batch: Batch) -> tuple[Any, ...]:
        """The inputs of the loss, from a batch."""
        return batch

    def _validate(self) -> None:
        """Validate if a validation is due."""

    def _exhausted(self) -> bool:
        """Whether early stopping ends the run."""
        return False

    def _finish(self) -> None:
        """Called at the end of a run, to choose the weights that the model keeps."""

    def _iterate(self) -> tuple[Tensor, Tensor]:
        """Do one iteration. Returns the loss and whether it and its gradient were finite, both on the device."""
        losses, solved = [], []
        for number in range(self.config.accumulate):
            batch = self.batches.draw()
            last = number == self.config.accumulate - 1
            loss, y, z = self._updater.backward(*self._inputs(batch), last=last)
            losses.append(loss)
            solved.append((*batch[:2], y, z))
        loss: Any = self.accelerator.reduce(torch.stack(losses).mean(), reduction="mean")
        good = self._updater.step(loss)
        self.batches.store(solved, good)
        self.state.advance(bool(good) if self._updater.waits else good)
        return loss, good

    def _report(self, arrived: Iterator[tuple[Any, list[float]]], checkpoints: Checkpoints | None) -> None:
        """Log the iterations whose loss has arrived; raise at one whose loss was not finite."""
        for (iteration, lr), (loss, good) in arrived:
            self.state.failures = 0 if good else self.state.failures + 1
            if not good and (not self.config.skip_nonfinite or self.state.failures > _MAX_FAILURES):
                raise NonfiniteLossError.at(iteration, loss, checkpoints.latest() if checkpoints else None)
            self._notify("on_iteration", Progress(iteration, self.iterations, loss, lr, skipped=not good))
            if iteration % self.config.log_every == 0 or iteration == self.iterations:
                self.accelerator.log({"loss": loss, "lr": lr}, step=iteration)

    def _save(self, checkpoints: Checkpoints) -> None:
        if self.accelerator.is_main_process:
            path = checkpoints.save(self.iteration, *snapshot(self.state), best=self.best[0] if self.best else None)
            self._notify("on_checkpoint", path)
        self.accelerator.wait_for_everyone()

    def _notify(self, event: str, *arguments: Any) -> None:
        if self.accelerator.is_main_process:
            for callback in self.callbacks:
                getattr(callback, event)(*arguments)


def configured(
    config: TrainingConfig, settings: Mapping[str, Any], replay: ReplayBuffer | int | None
) -> tuple[TrainingConfig, ReplayBuffer | None]:
    """The settings of a trainer and its replay buffer, from the arguments of its constructor."""
    if isinstance(replay, bool) or not isinstance(replay, ReplayBuffer | int | None):
        raise TypeError(
            f"replay must be a ReplayBuffer, or the capacity of one (0 for no replay); got {replay!r}. For example "
            "replay=ReplayBuffer(10_000), or replay=10_000."
        )
    if replay is not None:
        settings = {**settings, "replay": replay if isinstance(replay, int) else replay.capacity}
    config = config.changed(settings)
    if isinstance(replay, ReplayBuffer):
        return config, replay
    return config, ReplayBuffer(config.replay) if config.replay else None


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
            f"torch.Generator({str(device)!r}), or pass accelerator=make_accelerator(cpu=True)."
        )
    return generator
