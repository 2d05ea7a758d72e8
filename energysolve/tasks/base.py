"""The protocol of tasks."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..initializers import Initializer
from ..layout import Layout, layout_of
from ..solution import Solution
from ..trees import tree_map


class Task(ABC):
    """A source of problems with known answers, and the error of a solution.

    Subclasses write `sample` and `error` and set ``init``. The layout, the floors and the split of batches for the
    replay buffer have defaults for dense problems.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver, Uniform
        >>> from energysolve.tasks import Task
        >>> class Halves(Task):
        ...     init = Uniform((3,))
        ...
        ...     def sample(self, batch, difficulty="same", generator=None, device=None):
        ...         x = torch.rand(batch, 3, generator=generator, device=device)
        ...         return x, x / 2
        ...
        ...     def error(self, solution, target):
        ...         return (solution.y - target).square().mean(-1)
        >>> task = Halves()
        >>> x, target = task.sample(4)
        >>> solver = EnergySolver(lambda x, y: (2 * y - x).square().sum(-1)).suited(task)  # with its init
        >>> bool((task.error(solver.minimize(x), target) < 1e-6).all())
        True
    """

    error_name: str = "mean squared error"
    """Name of the error in headings."""

    difficulties: tuple[str, ...] = ("same",)
    """Names of the difficulties that `sample` takes, from the easiest; training uses the default of `sample`."""

    init: Initializer
    """Initial answers for solvers that have no ``init`` of their own."""

    @abstractmethod
    def sample(
        self,
        batch: int,
        difficulty: str = "same",
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> tuple[Any, Any]:
        """Draw problems with their answers, ``(x, target)``.

        Args:
            batch: number of problems.
            difficulty: one of ``difficulties``.
            generator: source of randomness, on ``device``.
            device: the device of the tensors.
        """

    @abstractmethod
    def error(self, solution: Solution, target: Any) -> Float[Tensor, " batch"]:
        """The error of each answer, for evaluation and as the training loss."""

    def error_of(self, y: Any, x: Any, target: Any) -> Float[Tensor, " batch"]:
        """The error of answers ``y`` to the problems ``x`` that do not come from a solve."""
        return self.error(Solution.of_answers(y, layout=self.layout(x)), target)

    def floors(
        self, difficulty: str, x: Any, target: Any, mean_target: Callable[[str], Tensor] | None = None
    ) -> dict[str, Float[Tensor, " batch"]]:
        """The errors of trivial answers to the problems ``x``, by name; by default of ``"predict zero"`` alone.

        Args:
            difficulty: difficulty of the problems.
            x: the problems.
            target: their answers.
            mean_target: returns the mean target of fresh problems of a difficulty, see
                `energysolve.evaluation.floors.mean_target`. Without it, floors that need one are left out.
        """
        return {"predict zero": self.error_of(tree_map(torch.zeros_like, target), x, target)}

    def layout(self, x: Any) -> Layout:
        """The layout of the answers to ``x``."""
        return layout_of(x)

    def split(self, tree: Any) -> Any:
        """A batch as a rows tree (see `energysolve.ragged`), whose samples can be stored, drawn and joined.

        Args:
            tree: a tuple ``(x, target, y, z)``; None in place of a scratchpad stays None. Tensors and trees of tensors
                with one row per sample need no splitting; graphs do: `energysolve.graph.split_edges`.
        """
        return tree

    def merge(self, rows: Any) -> Any:
        """The inverse of `split`, for any samples in any order: a batch for a solver and `error`."""
        return rows

    def check_difficulty(self, difficulty: str) -> None:
        """Raise a ValueError for a difficulty that the task does not know."""
        if difficulty not in self.difficulties:
            known = ", ".join(map(repr, self.difficulties))
            raise ValueError(f"{type(self).__name__} has no difficulty {difficulty!r}; it has {known}.")
