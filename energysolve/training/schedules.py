"""Schedules of the outer learning rate: torch's, as configuration."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, LRScheduler, OneCycleLR, SequentialLR

from ..checks import check_whole


class Schedule(ABC):
    """From an optimizer and the number of iterations to torch's scheduler, which is stepped once an iteration."""

    @abstractmethod
    def build(self, optimizer: Optimizer, iterations: int) -> LRScheduler:
        """The scheduler of a run of ``iterations`` iterations."""


@dataclass(frozen=True)
class Constant(Schedule):
    """The same learning rate throughout, as in the paper."""

    def build(self, optimizer, iterations):
        return ConstantLR(optimizer, factor=1.0, total_iters=0)


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up to the learning rate and down to almost nothing along cosines (Smith and Topin 2019).

    Args:
        warmup: the share of the run that goes up.
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
    """Down to zero along a cosine, after a linear warm-up.

    Args:
        warmup: iterations of the warm-up.
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


SCHEDULES: dict[str, type[Schedule]] = {cls.__name__: cls for cls in (Constant, OneCycle, Cosine)}


def schedule_to_json(schedule: Schedule) -> dict[str, Any]:
    """A schedule of the library as plain JSON; a TypeError for any other."""
    if type(schedule) not in SCHEDULES.values():
        raise TypeError(f"{schedule!r} cannot be written as JSON: only {', '.join(SCHEDULES)} can.")
    return {"type": type(schedule).__name__, **asdict(schedule)}  # pyright: ignore[reportArgumentType]


def schedule_from_json(plain: Mapping[str, Any]) -> Schedule:
    """What `schedule_to_json` wrote; a ValueError for an unknown type or field."""
    arguments = dict(plain)
    name = arguments.pop("type", None)
    if name not in SCHEDULES:
        raise ValueError(f"Unknown schedule {name!r}; known are {', '.join(SCHEDULES)}.")
    try:
        return SCHEDULES[name](**arguments)
    except TypeError as error:
        raise ValueError(f"{name} cannot be built from {arguments!r}: {error}") from error
