"""The protocol of inner optimizers."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor

from ..checks import check_nonnegative


class Evaluation(NamedTuple):
    """Energies and gradients at one iterate.

    Attributes:
        free: the free variables, ``(y,)`` or ``(y, z)``, each a tensor or a tree of tensors.
        energy: ``(batch,)``.
        gradient: of the summed energy, with the structure of ``free``: row by row the gradient of each sample.
    """

    free: Any
    energy: Float[Tensor, " batch"]
    gradient: Any


class InnerOptimizer(ABC):
    """One step of descent on the free variables ``(y,)`` or ``(y, z)``.

    Optimizers are pure: configuration in the object, everything that changes in an explicit state. Each sample must
    move as if it were alone in the batch. Every tensor in the state either has the rows of the free variables or no
    dimension at all (a step count).
    """

    @abstractmethod
    def init(self, free: Any) -> Any:
        """The state before the first step, a tree of tensors."""

    @abstractmethod
    def step(self, at: Evaluation, state: Any, evaluate: Callable[[Any], Evaluation]) -> tuple[Any, Any]:
        """The next free variables, and the state for the step after.

        Args:
            at: the current free variables with their energy and gradient.
            state: what the last step (or `init`) returned.
            evaluate: energies and gradients anywhere else, for optimizers that look ahead, such as a line search.
        """

    def residual(self, at: Evaluation) -> Any:
        """What vanishes at a minimum, seen by gradient criteria: the gradient, unless the optimizer is constrained."""
        return at.gradient


def check_step_size(owner: str, lr: float) -> None:
    """Raise a ValueError for a step size that is negative, infinite or NaN."""
    check_nonnegative(owner, lr=lr)
