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
        gradient: with the structure of ``free``; the rows of a sample hold the gradient of its energy.
    """

    free: Any
    energy: Float[Tensor, " batch"]
    gradient: Any


class InnerOptimizer(ABC):
    """One step of descent on the free variables ``(y,)`` or ``(y, z)``.

    Optimizers are pure: the object holds the configuration, and everything that changes is explicit state. A step of
    one sample must not depend on the others. Every tensor in the state has the rows of the free variables, or no
    dimension (a step count).
    """

    @abstractmethod
    def init(self, free: Any) -> Any:
        """The state before the first step, a tree of tensors."""

    @abstractmethod
    def step(self, at: Evaluation, state: Any, evaluate: Callable[[Any], Evaluation]) -> tuple[Any, Any]:
        """The next free variables, and the next state.

        Args:
            at: the current free variables with their energy and gradient.
            state: from the last step, or from `init`.
            evaluate: energies and gradients at other points, for optimizers such as a line search.
        """

    def residual(self, at: Evaluation) -> Any:
        """What vanishes at a minimum and gradient criteria see: the gradient, or the projected gradient."""
        return at.gradient


def check_step_size(owner: str, lr: float) -> None:
    """Raise a ValueError for a step size that is negative, infinite or NaN."""
    check_nonnegative(owner, lr=lr)
