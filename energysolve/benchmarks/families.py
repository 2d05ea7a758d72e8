"""Batches of small problems, and one large problem, for comparisons of optimizers.

Each energy is written three times, as users of the libraries would: for torch on a batch, for NumPy on one problem with
its gradient by hand, and for JAX on one problem.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..energy import Energy, FunctionEnergy, LeastSquares
from ..seeding import stream

TIMES = np.linspace(0, 5, 50)
DECAY, STIFFNESS = 1e-3, 5.0
"""Of the weights of a regression, and between neighbours of a signal."""


@dataclass(frozen=True, eq=False)
class Family:
    """Problems of one kind in float64.

    Attributes:
        name: in words.
        energy: for torch, ``energy(x, y) -> (batch,)``.
        x: the problems, one row per sample.
        y0: initial answers ``(batch, n)``.
        single: for NumPy, ``single(v, row) -> (energy, gradient)``; a function of a module, so that processes know it.
        jax: for JAX, ``jax(jax.numpy, v, row) -> energy``.
        residuals: for NumPy, ``residuals(v, row) -> (residuals, Jacobian)``, of a `LeastSquares` energy.
    """

    name: str
    energy: Energy
    x: Tensor
    y0: Tensor
    single: Callable[[Any, Any], tuple[float, Any]]
    jax: Callable[..., Any]
    residuals: Callable[[Any, Any], tuple[Any, Any]] | None = None

    def part(self, rows: slice) -> "Family":
        """Some of the problems."""
        return replace(self, x=self.x[rows], y0=self.y0[rows])

    def gradient_norm(self, y: Tensor) -> Tensor:
        """``(batch,)`` at ``y``."""
        y = y.detach().requires_grad_()
        return torch.autograd.grad(self.energy(self.x, y).sum(), y)[0].norm(dim=1)


def families(count: int, large: int, seed: int) -> list[Family]:
    """Curve fits, logistic regressions of 20 parameters, Rosenbrock functions of 10 variables, and one large problem.

    Args:
        count: of problems of each kind.
        large: variables of the large problem.
        seed: of the random numbers.
    """
    generator = stream("bench optimizers", seed, "cpu")

    def draw(function: Callable[..., Tensor], *shape: int) -> Tensor:
        return function(shape, generator=generator, dtype=torch.float64)

    true = torch.tensor([1.0, 0.5, 0.0]) + torch.tensor([2.0, 1.5, 1.0]) * draw(torch.rand, count, 3)
    curves = -exponential_residuals(torch.zeros(count, len(TIMES)), true) + 0.05 * draw(torch.randn, count, len(TIMES))
    features, weights = draw(torch.randn, count, 100, 20), draw(torch.randn, count, 20, 1)
    labels = torch.where(draw(torch.rand, count, 100, 1) < (features @ weights).sigmoid(), 1.0, -1.0)
    valley = torch.tensor([-1.2, 1.0] * 5, dtype=torch.float64) + 0.1 * draw(torch.randn, count, 10)
    signal = draw(torch.randn, 1, large).cumsum(1) / 10 + draw(torch.randn, 1, large)
    fits, ones = LeastSquares(exponential_residuals), torch.ones(count, 3, dtype=torch.float64)
    none, weights = torch.zeros(count, 1, dtype=torch.float64), torch.zeros(count, 20, dtype=torch.float64)
    return [
        Family("exponential curves", fits, curves, ones, fit_one, _fit_jax, fit_residuals),
        Family(
            "logistic regressions", FunctionEnergy(logistic), features * labels, weights, logistic_one, _logistic_jax
        ),
        Family("Rosenbrock functions", FunctionEnergy(rosenbrock), none, valley, rosenbrock_one, _rosenbrock_jax),
        Family("one signal", FunctionEnergy(signal_energy), signal, torch.zeros_like(signal), signal_one, _signal_jax),
    ]


def exponential_residuals(x: Tensor, y: Tensor) -> Tensor:
    """``x - a exp(-b t) - c``, ``(batch, times)``."""
    return x - y[:, :1] * torch.exp(-y[:, 1:2] * torch.from_numpy(TIMES)) - y[:, 2:]


def fit_residuals(v: Any, row: Any) -> tuple[Any, Any]:
    """Residuals and Jacobian of one curve."""
    decay = np.exp(-v[1] * TIMES)
    return row - v[0] * decay - v[2], np.stack([-decay, v[0] * TIMES * decay, -np.ones_like(TIMES)], 1)


def fit_one(v: Any, row: Any) -> tuple[float, Any]:
    """Energy and gradient of one curve."""
    misfit, jacobian = fit_residuals(v, row)
    return misfit @ misfit / 2, misfit @ jacobian


def _fit_jax(jnp: Any, v: Any, row: Any) -> Any:
    return jnp.sum((row - v[0] * jnp.exp(-v[1] * TIMES) - v[2]) ** 2) / 2


def logistic(x: Tensor, y: Tensor) -> Tensor:
    """The mean logistic loss of weights ``y``, with a penalty; ``x`` holds features times labels of 1 or -1."""
    margins = (x @ y.unsqueeze(2)).squeeze(2)
    return torch.nn.functional.softplus(-margins).mean(1) + DECAY / 2 * y.square().sum(1)


def logistic_one(v: Any, row: Any) -> tuple[float, Any]:
    """Energy and gradient of one regression."""
    margins = row @ v
    loss = np.logaddexp(0, -margins)
    return loss.mean() + DECAY / 2 * (v @ v), DECAY * v - np.exp(-margins - loss) @ row / len(row)


def _logistic_jax(jnp: Any, v: Any, row: Any) -> Any:
    return jnp.logaddexp(0, -(row @ v)).mean() + DECAY / 2 * (v @ v)


def rosenbrock(x: Tensor, y: Tensor) -> Tensor:
    """The chained Rosenbrock function."""
    return (100 * (y[:, 1:] - y[:, :-1].square()).square() + (1 - y[:, :-1]).square()).sum(1)


def rosenbrock_one(v: Any, row: Any) -> tuple[float, Any]:
    """Energy and gradient of one Rosenbrock function."""
    bend, rest = v[1:] - v[:-1] ** 2, 1 - v[:-1]
    gradient = np.zeros_like(v)
    gradient[:-1] = -400 * v[:-1] * bend - 2 * rest
    gradient[1:] += 200 * bend
    return 100 * (bend @ bend) + rest @ rest, gradient


def _rosenbrock_jax(jnp: Any, v: Any, row: Any) -> Any:
    return jnp.sum(100 * (v[1:] - v[:-1] ** 2) ** 2 + (1 - v[:-1]) ** 2)


def signal_energy(x: Tensor, y: Tensor) -> Tensor:
    """A robust fit to a noisy signal that wants neighbours to be equal."""
    misfit = (1 + (y - x).square()).sqrt().sum(1)
    return misfit + STIFFNESS * (y[:, 1:] - y[:, :-1]).square().sum(1)


def signal_one(v: Any, row: Any) -> tuple[float, Any]:
    """Energy and gradient of the signal."""
    misfit, rise = np.sqrt(1 + (v - row) ** 2), np.diff(v)
    gradient = (v - row) / misfit
    gradient[1:] += 2 * STIFFNESS * rise
    gradient[:-1] -= 2 * STIFFNESS * rise
    return misfit.sum() + STIFFNESS * (rise @ rise), gradient


def _signal_jax(jnp: Any, v: Any, row: Any) -> Any:
    return jnp.sqrt(1 + (v - row) ** 2).sum() + STIFFNESS * jnp.sum(jnp.diff(v) ** 2)
