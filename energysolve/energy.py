"""The base class of energies."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn


class Energy(nn.Module):
    """An energy ``E(x, y)`` or ``E(x, y, z)``: one number a sample, how bad the answer ``y`` is for the problem ``x``.

    Any callable will do as an energy; this base class splits it in two, so that a solve pays once for what depends on
    ``x`` alone. Subclasses write `evaluate`, and `encode` where there is something to save. Energies of the same
    problem and answer add up, with weights: ``2.0 * a + b``.
    """

    def encode(self, x: Any) -> Any:
        """What `evaluate` needs of the problem; called once a solve. By default ``x`` itself."""
        return x

    def evaluate(self, *args: Any, **kwargs: Any) -> Float[Tensor, " batch"]:
        """Energies ``(batch,)`` of ``y``, and of the scratchpad ``z`` if the energy takes one, in ``encode(x)``."""
        raise NotImplementedError(
            f"{type(self).__name__} must override evaluate(context, y) or evaluate(context, y, z)."
        )

    def forward(self, x: Any, y: Any, *z: Any) -> Float[Tensor, " batch"]:
        """``evaluate(encode(x), y[, z])``."""
        return self.evaluate(self.encode(x), y, *z)

    def __add__(self, other: Any) -> "Energy":
        return _weighted((self, other), (1.0, 1.0)) if callable(other) else NotImplemented

    def __radd__(self, other: Any) -> "Energy":
        return _weighted((other, self), (1.0, 1.0)) if callable(other) else NotImplemented

    def __mul__(self, weight: Any) -> "Energy":
        return _weighted((self,), (float(weight),)) if isinstance(weight, int | float) else NotImplemented

    __rmul__ = __mul__

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, JSON-able, so that the energy can be saved and built again."""
        raise NotImplementedError(
            f"{type(self).__name__} has no config(); override it to return the constructor's arguments, or pass "
            "energy= when loading."
        )


def _weighted(energies: tuple[Callable[..., Any], ...], weights: tuple[float, ...]) -> Energy:
    from .energies.combinators import WeightedSum

    return WeightedSum(energies, weights)
