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

    Examples:
        >>> from dataclasses import dataclass
        >>> import torch
        >>> from energysolve.training import Schedule
        >>> @dataclass(frozen=True)
        ... class Halving(Schedule):
        ...     every: int
        ...
        ...     def build(self, optimizer, iterations):
        ...         return torch.optim.lr_scheduler.StepLR(optimizer, self.every, gamma=0.5)
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        >>> scheduler, rates = Halving(every=2).build(optimizer, iterations=4), []
        >>> for _ in range(4):
        ...     rates += scheduler.get_last_lr()
        ...     _ = optimizer.step(), scheduler.step()
        >>> rates
        [1.0, 1.0, 0.5, 0.5]
    """

    depends_on_length: ClassVar[bool] = True
    """Whether the learning rates depend on the number of iterations of the run. If so, a finished run is prolonged by a
    new schedule over the iterations that are added."""

    @abstractmethod
    def build(self, optimizer: Optimizer, iterations: int) -> LRScheduler:
        """The scheduler of a run of ``iterations`` iterations, which steps it once per iteration."""


@dataclass(frozen=True)
class Constant(Schedule):
    """A constant learning rate, as in the paper.

    Examples:
        >>> import torch
        >>> from energysolve.training import Constant
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.5)
        >>> scheduler, rates = Constant().build(optimizer, iterations=3), []
        >>> for _ in range(3):
        ...     rates += scheduler.get_last_lr()
        ...     _ = optimizer.step(), scheduler.step()
        >>> rates
        [0.5, 0.5, 0.5]
    """

    depends_on_length: ClassVar[bool] = False

    def build(self, optimizer, iterations):
        return ConstantLR(optimizer, factor=1.0, total_iters=0)


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Warm-up to the learning rate, then decay to almost zero, both along cosines (Smith and Topin 2019).

    Args:
        warmup: the fraction of the run that warms up, in (0, 1).

    Raises:
        ValueError: if ``warmup`` is not in (0, 1).

    Examples:
        >>> import torch
        >>> from energysolve.training import OneCycle
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        >>> scheduler, rates = OneCycle(warmup=0.5).build(optimizer, iterations=9), []
        >>> for _ in range(9):
        ...     rates += scheduler.get_last_lr()
        ...     _ = optimizer.step(), scheduler.step()
        >>> [round(rate, 2) for rate in rates]
        [0.04, 0.18, 0.52, 0.86, 1.0, 0.9, 0.65, 0.35, 0.1]
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

    Raises:
        ValueError: if ``warmup`` is negative; from the trainer, if the run is not longer.

    Examples:
        >>> import torch
        >>> from energysolve.training import Cosine
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        >>> scheduler, rates = Cosine(warmup=3).build(optimizer, iterations=7), []
        >>> for _ in range(7):
        ...     rates += scheduler.get_last_lr()
        ...     _ = optimizer.step(), scheduler.step()
        >>> [round(rate, 2) for rate in rates]
        [0.25, 0.5, 0.75, 1.0, 0.85, 0.5, 0.15]
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
