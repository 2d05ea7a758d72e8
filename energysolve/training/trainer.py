"""Training of an energy: Algorithm 1 of the paper, and Algorithm 3 where the energy has a scratchpad."""

from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ..halting import Never
from ..optimizers import SGD
from ..recorders import Nothing
from ..solution import Solution
from ..solver import EnergySolver
from ..tasks.base import Task
from .base import BaseTrainer, configured
from .config import TrainingConfig
from .identity import described
from .replay import ReplayBuffer
from .validation import Validation


class Trainer(BaseTrainer):
    """Trains the energy of a solver by differentiating through a fixed number of its steps.

    Each iteration draws new problems, joins as many replayed ones (answers found earlier, optimized further), takes
    ``train_steps`` steps, and updates the energy's parameters with Adam by the gradient of the mean error. The halting
    criterion of the solver is not used in training.

    The trainer runs on Hugging Face accelerate: on one process or, started by ``accelerate launch``, on several, each
    with an equal share of every batch. All processes draw from one stream of random numbers, so the result does not
    depend on their number, up to rounding.

    Args:
        solver: its energy is trained in place, and moved to the accelerator's device. The initializer and the layout
            default to the task's.
        task: the source of problems.
        config: the settings.
        replay: the replay buffer, or its capacity; 0 for none. By default as configured.
        validation: when and how to validate; None for no validation.
        generator: the source of all randomness in training, on the accelerator's device; by default seeded with 0.
        accelerator: by default a new one with the configured precision, on the GPU if there is one.
        **settings: fields of `TrainingConfig`, which override ``config``.

    Attributes:
        model: the energy that is trained; `trained_model` is the one to use afterwards.
        solver: the solver as it is used in training.
        state: the current state of the run; `iteration`, `optimizer` and `best` are parts of it.

    Raises:
        TypeError: for a setting that does not exist, or a ``replay`` that is neither a buffer nor a capacity.
        ValueError: for a setting that is out of range, an energy without parameters to train, a batch that the
            processes cannot share equally, or a generator on another device.

    Examples:
        >>> from energysolve import SGD, EnergySolver, Trainer
        >>> from energysolve.energies import SharedQuadratic
        >>> from energysolve.tasks import Addition
        >>> from energysolve.training import make_accelerator
        >>> solver = EnergySolver(SharedQuadratic(size=3), SGD(0.5))
        >>> settings = {"replay": 1000, "lr": 0.1, "ema": 0.9, "accelerator": make_accelerator(cpu=True)}
        >>> trainer = Trainer(solver, Addition(3), **settings)
        >>> losses = []
        >>> trainer.fit(60, lambda progress: losses.append(progress.loss))
        >>> losses[-1] < losses[0] / 10
        True
        >>> solver = solver.replace(energy=trainer.trained_model)  # with the average of the weights
    """

    def __init__(
        self,
        solver: EnergySolver,
        task: Task,
        config: TrainingConfig = TrainingConfig(),  # noqa: B008  (frozen)
        *,
        replay: ReplayBuffer | int | None = None,
        validation: Validation | None = None,
        generator: torch.Generator | None = None,
        accelerator: Accelerator | None = None,
        **settings: Any,
    ):
        config, buffer = configured(config, settings, replay)
        _check_parts(solver, task)
        _check_trainable(solver, config)
        self.solver = solver.suited(task).replace(
            halting=Never(),
            recorder=Nothing(),
            differentiation=config.differentiation,
            max_steps=config.train_steps,
            compile=False,
        )
        loss, start = Loss(self.solver, task), partial(_start, self.solver)
        super().__init__(solver.energy, loss, task, config, start, buffer, generator, accelerator)
        self.validation = validation
        parts = {name: described(getattr(solver, name)) for name in ("optimizer", "init", "scratchpad", "layout")}
        if validation is not None:
            parts["validation"] = _described_validation(validation)
        self.state.identity = {**self.state.identity, **parts}

    def _validate(self) -> None:
        if self.validation is None or self.iteration % self.validation.every:
            return
        validated = self.validation.run(self.iteration, self.trained_model, self.task, self.device)
        if self.best is None or validated.score < self.best[1]:
            self.state.best = (self.iteration, validated.score)
            if self.validation.early_stopping:
                weights = self.trained_model.state_dict()
                self.state.best_weights = {name: weight.detach().clone() for name, weight in weights.items()}
        self._notify("on_validation", validated)
        self.accelerator.log(validated.flat(), step=self.iteration)

    def _exhausted(self) -> bool:
        if self.validation is None or self.validation.early_stopping is None or self.best is None:
            return False
        return self.iteration - self.best[0] >= self.validation.early_stopping * self.validation.every

    def _finish(self) -> None:
        if self.validation and self.validation.early_stopping and self.state.best_weights is not None:
            self.trained_model.load_state_dict(self.state.best_weights)


class Loss(nn.Module):
    """The mean error of the answers to a batch of problems, after the ``max_steps`` steps of a solver.

    It is one module, so that data-parallel training sees one forward and one backward pass, and the compiler sees all
    of the inner loop.
    """

    def __init__(self, solver: EnergySolver, task: Task):
        super().__init__()
        self.solver, self.task = solver, task

    def forward(self, x: Any, target: Any, y: Any, z: Any) -> tuple[Tensor, Any, Any]:
        """The loss, shape (), with the answers and scratchpads.

        The error gets a solution whose ``energy`` is NaN: evaluating the energy at the answer would cost a step.
        """
        y, z = self.solver.descend(x, y, z)
        layout = self.solver.layout_of(x)
        error = self.task.error(Solution.of_answers(y, z, steps=self.solver.max_steps, layout=layout), target)
        if not isinstance(error, Tensor) or error.shape != (layout.batch,):
            got = f"shape {tuple(error.shape)}" if isinstance(error, Tensor) else f"a {type(error).__name__}"
            raise ValueError(
                f"{type(self.task).__name__}.error must return one number per sample, shape ({layout.batch},); got "
                f"{got}. Average over the entries of an answer, such as .mean(-1), and not over the batch."
            )
        return error.mean(), y, z


def _described_validation(validation: Validation) -> str:
    """What determines the errors of the validations, and when they end the run."""
    solver = validation.solver
    parts = ", ".join(described(part) for part in (solver.optimizer, solver.halting, solver.init))
    numbers = {name: getattr(validation, name) for name in ("every", "problems", "early_stopping", "seed")}
    return f"{numbers}, max_steps={solver.max_steps}, {parts}"


def _start(solver: EnergySolver, x: Any, generator: torch.Generator) -> tuple[Any, Any]:
    """Initial answers and scratchpads of new problems."""
    assert solver.init is not None
    layout = solver.layout_of(x)
    y = solver.init(x, layout, generator)
    return y, None if solver.scratchpad is None else solver.scratchpad(x, layout, generator)


def _check_parts(solver: Any, task: Any) -> None:
    if not isinstance(solver, EnergySolver):
        raise TypeError(
            f"Trainer needs an EnergySolver, got a {type(solver).__name__}. Make one of an energy, such as "
            "EnergySolver(energy, SGD(lr=0.1))."
        )
    if not isinstance(task, Task):
        hint = " (the class; construct it first)" if isinstance(task, type) else ""
        raise TypeError(f"Trainer needs a Task, such as Addition(400) or a subclass of your own; got {task!r}{hint}.")
    if solver.init is None and getattr(task, "init", None) is None:
        raise ValueError(
            f"Training has no initial answers: give the solver init=, or {type(task).__name__} an attribute init, such "
            "as Uniform((3,))."
        )


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
