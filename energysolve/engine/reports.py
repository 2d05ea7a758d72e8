"""What happens with samples whose derivative cannot be had: their gradient is zero or NaN, or an error is raised."""

import math
import warnings
from dataclasses import dataclass

from torch import Tensor


class DifferentiationWarning(RuntimeWarning):
    """The derivative of some samples could not be computed; their gradient is zero, or NaN if asked for.

    Examples:
        >>> import warnings
        >>> import torch
        >>> from energysolve import EnergySolver, Implicit
        >>> from energysolve.differentiation import DifferentiationWarning
        >>> def energy(x, y):  # without a minimum
        ...     return (y - x).exp().sum(-1)
        >>> solver = EnergySolver(energy, differentiation=Implicit(), max_steps=3)
        >>> with warnings.catch_warnings(record=True) as seen:
        ...     warnings.simplefilter("always", DifferentiationWarning)
        ...     solution = solver.minimize(torch.zeros(1, 1, requires_grad=True), torch.zeros(1, 1))
        >>> print(seen[0].message)
        Implicit: 1 of 1 samples did not converge in max_steps and get a gradient of zero: [0]
    """


class DifferentiationError(RuntimeError):
    """The derivative of some samples could not be computed, or is not that of the path that was taken.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver, Implicit
        >>> from energysolve.differentiation import DifferentiationError, RaiseError
        >>> def energy(x, y):  # without a minimum
        ...     return (y - x).exp().sum(-1)
        >>> solver = EnergySolver(energy, differentiation=Implicit(on_failure=RaiseError()), max_steps=3)
        >>> try:
        ...     solver.minimize(torch.zeros(1, 1, requires_grad=True), torch.zeros(1, 1))
        ... except DifferentiationError as error:
        ...     print(error)
        Implicit: 1 of 1 samples did not converge in max_steps: [0]
    """


@dataclass(frozen=True)
class Failure:
    """What a sample gets whose derivative cannot be had.

    Examples:
        >>> from energysolve import Implicit
        >>> from energysolve.differentiation import Failure, NanGradient, RaiseError
        >>> [isinstance(kind, Failure) for kind in (NanGradient(), RaiseError(), Implicit().on_failure)]
        [True, True, True]
        >>> Implicit().on_failure  # the default
        ZeroGradient()
    """

    @property
    def gradient(self) -> float:
        """Every entry of its gradient."""
        return 0.0

    def report(self, mode: str, samples: Tensor, what: str) -> None:
        """Name the samples ``(batch,)`` bool for which ``what`` is the case; nothing happens where there are none."""
        indices = samples.nonzero().flatten().tolist()
        if indices:
            shown = f"{indices[:20]}" + (" ..." if len(indices) > 20 else "")
            self.tell(f"{mode}: {len(indices)} of {len(samples)} samples {what}", shown)

    def tell(self, message: str, samples: str) -> None:
        """Pass the message on."""
        raise NotImplementedError


@dataclass(frozen=True)
class ZeroGradient(Failure):
    """A gradient of zero, and a `DifferentiationWarning` that names the samples.

    Examples:
        >>> import warnings
        >>> import torch
        >>> from energysolve import EnergySolver, Implicit
        >>> from energysolve.differentiation import DifferentiationWarning, ZeroGradient
        >>> def energy(x, y):  # without a minimum
        ...     return (y - x).exp().sum(-1)
        >>> solver = EnergySolver(energy, differentiation=Implicit(on_failure=ZeroGradient()), max_steps=3)
        >>> x = torch.zeros(1, 1, requires_grad=True)
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore", DifferentiationWarning)
        ...     solver.minimize(x, torch.zeros(1, 1)).y.sum().backward()
        >>> x.grad
        tensor([[0.]])
    """

    def tell(self, message, samples):
        warnings.warn(f"{message} and get a gradient of zero: {samples}", DifferentiationWarning, stacklevel=4)


@dataclass(frozen=True)
class NanGradient(Failure):
    """A gradient of NaN, and a `DifferentiationWarning`; parameters that all samples share get NaN too.

    Examples:
        >>> import warnings
        >>> import torch
        >>> from energysolve import EnergySolver, Implicit
        >>> from energysolve.differentiation import DifferentiationWarning, NanGradient
        >>> def energy(x, y):  # without a minimum
        ...     return (y - x).exp().sum(-1)
        >>> solver = EnergySolver(energy, differentiation=Implicit(on_failure=NanGradient()), max_steps=3)
        >>> x = torch.zeros(1, 1, requires_grad=True)
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore", DifferentiationWarning)
        ...     solver.minimize(x, torch.zeros(1, 1)).y.sum().backward()
        >>> x.grad
        tensor([[nan]])
    """

    @property
    def gradient(self):
        return math.nan

    def tell(self, message, samples):
        warnings.warn(f"{message} and get a gradient of NaN: {samples}", DifferentiationWarning, stacklevel=4)


@dataclass(frozen=True)
class RaiseError(Failure):
    """A `DifferentiationError` that names the samples.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver, Implicit
        >>> from energysolve.differentiation import RaiseError
        >>> def energy(x, y):  # without a minimum
        ...     return (y - x).exp().sum(-1)
        >>> solver = EnergySolver(energy, differentiation=Implicit(on_failure=RaiseError()), max_steps=3)
        >>> solver.minimize(torch.zeros(1, 1, requires_grad=True), torch.zeros(1, 1))
        Traceback (most recent call last):
        ...
        energysolve.engine.reports.DifferentiationError: Implicit: 1 of 1 samples did not converge in max_steps: [0]
    """

    def tell(self, message, samples):
        raise DifferentiationError(f"{message}: {samples}")
