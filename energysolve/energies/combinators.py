"""Energies made of other energies."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..energy import Combined


class SoftMin(Combined):
    """``-T log sum_i exp(-E_i / T)``, a disjunction: low where at least one term is low.

    It lies below the smallest term by at most ``T log(terms)``.

    Args:
        energies: `Energy` objects, other modules or plain functions.
        temperature: ``T``, positive, in units of the energy.

    Raises:
        ValueError: if there is no energy, or the temperature is not positive and finite.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver
        >>> from energysolve.energies import SoftMin
        >>> def near(x, y):
        ...     return (y - x).square().sum(-1)
        >>> def near_opposite(x, y):
        ...     return (y + x).square().sum(-1)
        >>> solver = EnergySolver(SoftMin([near, near_opposite], temperature=0.1))
        >>> solver.minimize(torch.ones(2, 1), torch.tensor([[0.5], [-0.5]])).y.round(decimals=3)
        tensor([[ 1.],
                [-1.]])
    """

    def __init__(self, energies: Sequence[Callable[..., Tensor]], temperature: float = 1.0):
        super().__init__(energies)
        if not (math.isfinite(temperature) and temperature > 0):
            raise ValueError(f"SoftMin needs a positive, finite temperature, got {temperature!r}.")
        self.temperature = float(temperature)

    def combine(self, energies: list[Tensor]) -> Float[Tensor, " batch"]:
        return -self.temperature * torch.logsumexp(torch.stack(energies, -1) / -self.temperature, -1)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}"


class Mapped(Combined):
    """The energy of functions of problem, answer and scratchpad: ``E(x(x), y(y), z(z))``.

    Args:
        energy: an `Energy`, another module or a plain function.
        x: applied to the problem, once per solve. A module is trained with the energy.
        y: applied to the answer, differentiable, such as a fixed or learned decoder.
        z: applied to the scratchpad.

    Raises:
        ValueError: if ``z`` is given and the energy takes no scratchpad.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver
        >>> from energysolve.energies import Bowl, Mapped
        >>> def on_circle(angle):
        ...     return torch.cat([angle.cos(), angle.sin()], 1)
        >>> solver = EnergySolver(Mapped(Bowl(), y=on_circle))  # the nearest point of the circle, by its angle
        >>> solver.minimize(torch.tensor([[0.0, 2.0]]), torch.ones(1, 1)).y.rad2deg().round()
        tensor([[90.]])
    """

    def __init__(
        self,
        energy: Callable[..., Tensor],
        x: Callable[[Any], Any] | None = None,
        y: Callable[[Any], Any] | None = None,
        z: Callable[[Any], Any] | None = None,
    ):
        super().__init__([energy])
        if z is not None and not self._takes[0]:
            raise ValueError("Mapped was given a function of z, but its energy takes no scratchpad.")
        self.x_map, self.y_map, self.z_map = x, y, z

    def encode(self, x: Any) -> tuple[Any, ...]:
        return super().encode(_applied(self.x_map, x))

    def evaluate(self, context: tuple[Any, ...], y: Any, *z: Any) -> Float[Tensor, " batch"]:
        return super().evaluate(context, _applied(self.y_map, y), *(_applied(self.z_map, pad) for pad in z))

    def combine(self, energies: list[Tensor]) -> Float[Tensor, " batch"]:
        return energies[0]


def _applied(function: Callable[[Any], Any] | None, value: Any) -> Any:
    return value if function is None else function(value)
