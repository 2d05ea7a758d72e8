"""The interface of the baselines: a training loss, and answers after any number of steps."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from inspect import signature
from itertools import islice, pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ..checks import MOST_LAYERS, check_whole
from ..solution import Solution, Status


class Baseline(nn.Module, ABC):
    """A method to compare energies with; maps problems to answers in one or more steps.

    Train it with `energysolve.training.SupervisedTrainer`, then use `solve`.

    The answer to a sample does not depend on the other samples in its batch, random numbers aside. Subclasses implement
    `loss` and `answers`, and store each argument of the constructor as an attribute of the same name.

    Args:
        x_dim: number of entries of one problem; ``x`` is flattened.
        y_shape: the shape of one answer.
        train_steps: number of steps in training.

    Raises:
        ValueError: for a size that is not a whole number of 1 or more.

    Examples:
        >>> from energysolve.baselines import Recurrent
        >>> from energysolve.tasks import Addition
        >>> from energysolve.training import Constant, SupervisedTrainer, make_accelerator
        >>> task = Addition(size=2)
        >>> model = Recurrent.of_task(task)  # or Recurrent(x_dim=4, y_shape=(2,))
        >>> trainer = SupervisedTrainer(model, task, schedule=Constant(), accelerator=make_accelerator(cpu=True))
        >>> trainer.fit(20)
        >>> x, target = task.sample(5)
        >>> solution = trainer.trained_model.solve(x, max_steps=7)
        >>> solution.y.shape, solution.steps
        (torch.Size([5, 2]), tensor([7, 7, 7, 7, 7]))
    """

    def __init__(self, x_dim: int, y_shape: Sequence[int] | int, *, train_steps: int = 5):
        super().__init__()
        self.x_dim = x_dim
        self.y_shape: tuple[int, ...] = (y_shape,) if isinstance(y_shape, int) else tuple(y_shape)
        self.train_steps = train_steps
        owner = type(self).__name__
        check_whole(owner, least=1, x_dim=x_dim, train_steps=train_steps)
        for size in self.y_shape:
            check_whole(owner, least=1, y_shape=size)

    @property
    def y_dim(self) -> int:
        """Number of entries of one answer."""
        return math.prod(self.y_shape)

    @property
    def task_size(self) -> int | None:
        """The size of the task that it solves; None if it solves tasks of any size."""
        return self.y_shape[0]

    @classmethod
    def of_task(cls, task: Any) -> "Baseline":
        """A baseline for problems and answers such as those of a task."""
        x, target = task.sample(1)
        return cls(x[0].numel(), tuple(target.shape[1:]))

    @property
    def default_steps(self) -> int:
        """The default number of steps of `solve`."""
        return self.train_steps

    @abstractmethod
    def loss(
        self,
        x: Float[Tensor, "batch *features"],
        target: Float[Tensor, "batch *answer"],
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, ""]:
        """The training loss, a mean over the batch.

        Args:
            x: problems of ``x_dim`` entries each.
            target: their answers, ``(batch, *y_shape)``.
            generator: source of randomness, on the device of ``x``.

        Raises:
            ValueError: if ``x`` or ``target`` has another shape.
        """

    @abstractmethod
    def answers(self, x: Float[Tensor, "batch x_dim"], generator: torch.Generator | None) -> Iterator[Tensor]:
        """An endless, lazy iterator over the answers after 1, 2, 3, ... steps, each ``(batch, y_dim)``."""

    def config(self) -> dict[str, Any]:
        """The arguments of the constructor, JSON-able."""
        arguments = {name: getattr(self, name) for name in signature(type(self)).parameters}
        return arguments | {"y_shape": list(self.y_shape)}

    @torch.no_grad()
    def iterates(
        self, x: Float[Tensor, "batch *features"], steps: int, *, generator: torch.Generator | None = None
    ) -> list[Float[Tensor, "batch *answer"]]:
        """The answers after 1 to ``steps`` steps, each ``(batch, *y_shape)``, without gradients.

        With a generator in the same state, fewer steps give a prefix of the list, and `solve` gives its last entry.

        Raises:
            ValueError: if ``x`` has the wrong shape or ``steps`` is not 1 or more.
        """
        check_whole("iterates", least=1, steps=steps)
        return [self._shaped(y) for y in islice(self.answers(self._flat(x), generator), steps)]

    @torch.no_grad()
    def solve(
        self,
        x: Float[Tensor, "batch *features"],
        max_steps: int | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Solution:
        """The answers after ``max_steps`` steps, without gradients.

        Args:
            x: problems of ``x_dim`` entries each.
            max_steps: 1 or more; by default `default_steps`.
            generator: source of randomness, on the device of ``x``.

        Returns:
            The answers ``(batch, *y_shape)`` and their steps, with NaN as energies. The status is ``CONVERGED`` where
            the method stopped earlier, ``NONFINITE`` where the answer is not finite, otherwise ``MAX_STEPS``.

        Raises:
            ValueError: if ``x`` has the wrong shape or ``max_steps`` is not 1 or more.
        """
        steps = self.default_steps if max_steps is None else max_steps
        check_whole("solve", least=1, max_steps=steps)
        flat = self._flat(x)
        y = next(islice(self.answers(flat, generator), steps - 1, None))
        return self._solution(y, torch.full((len(flat),), steps, device=flat.device), steps)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.config().items())

    def _solution(self, y: Tensor, taken: Tensor, steps: int) -> Solution:
        """The solution; samples that took fewer than ``steps`` steps count as converged."""
        status = torch.where(taken < steps, int(Status.CONVERGED), int(Status.MAX_STEPS))
        status = torch.where(y.isfinite().all(1), status, int(Status.NONFINITE))
        return replace(Solution.of_answers(self._shaped(y), steps=taken), status=status)

    def _flat(self, x: Tensor) -> Tensor:
        if x.ndim < 2 or math.prod(x.shape[1:]) != self.x_dim:
            raise ValueError(
                f"{type(self).__name__} takes problems of {self.x_dim} entries, x of shape (batch, {self.x_dim}) or "
                f"(batch, rows, columns); got {tuple(x.shape)}."
            )
        return x.reshape(len(x), self.x_dim)

    def _flat_target(self, x: Tensor, target: Tensor) -> Tensor:
        if tuple(target.shape) != (len(x), *self.y_shape):
            raise ValueError(
                f"{type(self).__name__} needs targets of shape {(len(x), *self.y_shape)}, got {tuple(target.shape)}."
            )
        return target.reshape(len(x), self.y_dim)

    def _shaped(self, y: Tensor) -> Tensor:
        return y.reshape(len(y), *self.y_shape)


class AnySize(Baseline):
    """A baseline whose weights do not depend on the size of its problems; its classes are made without arguments."""

    @property
    def task_size(self):
        return None

    @classmethod
    def of_task(cls, task):
        return cls()  # pyright: ignore[reportCallIssue]  (subclasses need no arguments)

    def config(self):
        return {name: getattr(self, name) for name in signature(type(self)).parameters}

    @torch.no_grad()
    def iterates(self, x: Any, steps: int, *, generator: torch.Generator | None = None) -> list[Tensor]:
        """The answers after 1 to ``steps`` steps, in the shape of answers, without gradients."""
        check_whole("iterates", least=1, steps=steps)
        return list(islice(self.answers(x, generator), steps))


def hidden_layers(
    inputs: int, width: int, depth: int, *, activation: Callable[[], nn.Module] = nn.ReLU
) -> nn.Sequential:
    """Linear layers, each followed by an activation, by default a ReLU (Tables 11 and 13 of the paper).

    Args:
        inputs: number of entries of the input.
        width: units of each layer.
        depth: number of layers.
        activation: makes an activation module.

    Raises:
        ValueError: for a size that is not a whole number of 1 or more, or more than 10,000 layers.
    """
    check_whole("A baseline", least=1, width=width)
    check_whole("A baseline", least=1, most=MOST_LAYERS, depth=depth)
    sizes = pairwise([inputs, *[width] * depth])
    return nn.Sequential(*(layer for before, after in sizes for layer in (nn.Linear(before, after), activation())))


def mean_squares(y: Float[Tensor, "batch y_dim"], target: Float[Tensor, "batch y_dim"]) -> Float[Tensor, " batch"]:
    """The mean squared error of each sample."""
    return F.mse_loss(y, target, reduction="none").mean(-1)
