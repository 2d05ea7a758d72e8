"""The protocol of tasks."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..initializers import Initializer
from ..layout import Layout, layout_of
from ..solution import Solution


class Task(ABC):
    """A source of problems with known answers, and the error of a solution.

    Subclasses write `sample` and `error` and set ``init``. The layout and
    the way in which batches are split for the replay buffer have defaults for dense problems.
    """

    difficulties: tuple[str, ...] = ("same",)
    """The named settings that `sample` knows; the first is the one to train on."""

    init: Initializer
    """Initial answers that suit the task; what a solver states wins."""

    @abstractmethod
    def sample(
        self,
        batch: int,
        difficulty: str = "same",
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> tuple[Any, Any]:
        """Problems and their answers, ``(x, target)``.

        Args:
            batch: how many.
            difficulty: one of ``difficulties``.
            generator: source of randomness, on ``device``.
            device: where to make them.
        """

    @abstractmethod
    def error(self, solution: Solution, target: Any) -> Float[Tensor, " batch"]:
        """The error of each answer, by which the task is judged and trained."""

    def layout(self, x: Any) -> Layout:
        """The layout of the answers to ``x``."""
        return layout_of(x)

    def split(self, tree: Any) -> Any:
        """A batch as a rows tree (see `energysolve.ragged`), so that its samples can be stored, drawn and joined.

        Args:
            tree: a tuple ``(x, target, y, z)``; None in the place of a scratchpad stays None. Tensors and trees of
                tensors with one row a sample need no splitting; graphs do: `energysolve.graph.split_edges`.
        """
        return tree

    def merge(self, rows: Any) -> Any:
        """The inverse of `split`: the batch that a solver and `error` take, from some samples in any order."""
        return rows

    def check_difficulty(self, difficulty: str) -> None:
        """Raise a ValueError for a difficulty that the task does not know."""
        if difficulty not in self.difficulties:
            known = ", ".join(map(repr, self.difficulties))
            raise ValueError(f"{type(self).__name__} has no difficulty {difficulty!r}; it has {known}.")
