"""Schedules of the learning rate: configuration from which torch's schedulers are built."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, LRScheduler, OneCycleLR, SequentialLR

from ..checks import check_whole
from ..pretrained.serialization import register


class Schedule(ABC):
    """A schedule of the learning rate, such as ``Trainer(..., lr=1e-3, schedule=OneCycle(warmup=0.1))``.

    Subclasses implement `build`. To keep checkpoints, a subclass must be a dataclass that is passed to
    `energysolve.pretrained.serialization.register`.
    """

    depends_on_length: ClassVar[bool] = True
    """Whether the learning rates depend on the number of iterations of the run. If so, a finished run is prolonged by a
    new schedule over the iterations that are added."""

    @abstractmethod
    def build(self, optimizer: Optimizer, iterations: int) -> LRScheduler:
        """The scheduler of a run of ``iterations`` iterations, which steps it once per iteration."""


@dataclass(frozen=True)
class Constant(Schedule):
    """A constant learning rate, as in the paper."""

    depends_on_length: ClassVar[bool] = False

    def build(self, optimizer, iterations):
        return ConstantLR(optimizer, factor=1.0, total_iters=0)


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Warm-up to the learning rate, then decay to almost zero, both along cosines (Smith and Topin 2019).

    Args:
        warmup: the fraction of the run that warms up, in (0, 1).
    """

    warmup: float = 0.3

    def __post_init__(self):
        if not 0 < self.warmup < 1:
            raise ValueError(f"OneCycle needs a warmup in (0, 1), got {self.warmup!r}.")

    def build(self, optimizer, iterations):
        peak = [float(group["lr"]) for group in optimizer.param_groups]
        return OneCycleLR(optimizer, peak, total_steps=max(iterations, 2) + 1, pct_start=self.warmup)


@dataclass(frozen=True)
class Cosine(Schedule):
    """Linear warm-up, then decay to zero along a cosine.

    Args:
        warmup: the number of iterations that warm up, 0 or more and less than the run has.
    """

    warmup: int = 0

    def __post_init__(self):
        check_whole("Cosine", least=0, warmup=self.warmup)

    def build(self, optimizer, iterations):
        if self.warmup >= iterations:
            raise ValueError(f"Cosine needs a warmup of less than the {iterations} iterations, got {self.warmup}.")
        decay = CosineAnnealingLR(optimizer, T_max=iterations - self.warmup)
        if not self.warmup:
            return decay
        rise = LinearLR(optimizer, start_factor=1 / (self.warmup + 1), total_iters=self.warmup)
        return SequentialLR(optimizer, [rise, decay], milestones=[self.warmup])


register(Constant, OneCycle, Cosine)
