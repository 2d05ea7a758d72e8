"""What happens with samples whose derivative cannot be had: their gradient is zero or NaN, or an error is raised."""

import math
import warnings
from dataclasses import dataclass

from torch import Tensor


class DifferentiationWarning(RuntimeWarning):
    """The derivative of some samples could not be computed; their gradient is zero, or NaN if asked for."""


class DifferentiationError(RuntimeError):
    """The derivative of some samples could not be computed, or is not that of the path that was taken."""


@dataclass(frozen=True)
class Failure:
    """What a sample gets whose derivative cannot be had."""

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
    """A gradient of zero, and a `DifferentiationWarning` that names the samples."""

    def tell(self, message, samples):
        warnings.warn(f"{message} and get a gradient of zero: {samples}", DifferentiationWarning, stacklevel=4)


@dataclass(frozen=True)
class NanGradient(Failure):
    """A gradient of NaN, and a `DifferentiationWarning`; parameters that all samples share get NaN too."""

    @property
    def gradient(self):
        return math.nan

    def tell(self, message, samples):
        warnings.warn(f"{message} and get a gradient of NaN: {samples}", DifferentiationWarning, stacklevel=4)


@dataclass(frozen=True)
class RaiseError(Failure):
    """A `DifferentiationError` that names the samples."""

    def tell(self, message, samples):
        raise DifferentiationError(f"{message}: {samples}")
