"""The settings of a training run."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ..checks import check_nonnegative, check_whole
from ..differentiation import Differentiation, Truncated
from ..pretrained.serialization import from_config, to_config
from .schedules import OneCycle, Schedule, schedule_from_json, schedule_to_json

PRECISIONS = ("no", "bf16", "fp16")


@dataclass(frozen=True)
class TrainingConfig:
    """How to train; every field can be given to `Trainer` by name. Plain JSON by `to_json`, and back.

    Attributes:
        train_steps: inner steps an iteration; 5 in the paper.
        differentiation: `Truncated(1)` in the paper.
        batch_size: new problems an iteration, over all processes; as many replayed ones join them.
        replay: capacity of the replay buffer; 0 for none. 10,000 in the paper.
        lr: the outer learning rate of Adam, the highest one where it is scheduled. 1e-4 in the paper.
        betas: decays of Adam.
        weight_decay: decoupled (AdamW).
        schedule: of the learning rate, over the iterations of a run. `Constant()` in the paper.
        accumulate: batches whose gradients are averaged into one iteration.
        clip_norm: the largest norm of the gradient; a longer one is scaled down. None for no limit.
        ema: decay of a moving average of the weights, which then is what is validated and kept; None for none.
        precision: ``"no"`` (the energy's own), ``"bf16"`` or ``"fp16"`` autocast, as accelerate names them.
        compile: compile the loss with its inner loop (`torch.compile`); for problems of static shapes.
        skip_nonfinite: go on after a batch whose loss or gradient is not finite, without it; else training stops.
        log_every: iterations between entries of the trackers.
    """

    train_steps: int = 5
    differentiation: Differentiation = field(default_factory=lambda: Truncated(1))
    batch_size: int = 128
    replay: int = 0
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    schedule: Schedule = field(default_factory=OneCycle)
    accumulate: int = 1
    clip_norm: float | None = None
    ema: float | None = None
    precision: str = "no"
    compile: bool = False
    skip_nonfinite: bool = False
    log_every: int = 50

    def __post_init__(self):
        owner = "TrainingConfig"
        check_whole(
            owner,
            least=1,
            train_steps=self.train_steps,
            batch_size=self.batch_size,
            accumulate=self.accumulate,
            log_every=self.log_every,
        )
        check_whole(owner, least=0, replay=self.replay)
        check_nonnegative(owner, weight_decay=self.weight_decay)
        _check_positive("lr", self.lr)
        if self.clip_norm is not None:
            _check_positive("clip_norm", self.clip_norm)
        for name, decay in (("betas", self.betas[0]), ("betas", self.betas[1]), ("ema", self.ema)):
            if decay is not None and not 0 <= decay < 1:
                raise ValueError(f"TrainingConfig needs {name} in [0, 1), got {decay!r}.")
        if self.precision not in PRECISIONS:
            raise ValueError(f"TrainingConfig needs a precision among {', '.join(PRECISIONS)}; got {self.precision!r}.")

    def changed(self, changes: Mapping[str, Any]) -> "TrainingConfig":
        """With some fields exchanged; a TypeError for a name that is no field."""
        unknown = sorted(set(changes) - {each.name for each in fields(self)})
        if unknown:
            known = ", ".join(each.name for each in fields(self))
            raise TypeError(f"Trainer has no setting {', '.join(unknown)}; its settings are {known}.")
        return replace(self, **changes)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON; a TypeError if a part is not one of the library's own."""
        plain = {each.name: getattr(self, each.name) for each in fields(self)}
        plain["betas"] = list(self.betas)
        plain["differentiation"] = to_config(self.differentiation)
        plain["schedule"] = schedule_to_json(self.schedule)
        return plain

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "TrainingConfig":
        """What `to_json` wrote; a ValueError or TypeError if it does not describe a configuration."""
        values = dict(plain)
        values["betas"] = tuple(plain["betas"])
        values["differentiation"] = from_config(plain["differentiation"])
        values["schedule"] = schedule_from_json(plain["schedule"])
        return cls().changed(values)

    def __str__(self) -> str:
        return "\n".join(f"{name} = {value!r}" for name, value in sorted(vars(self).items()))


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < float("inf"):
        raise ValueError(f"TrainingConfig needs {name} positive and finite, got {value!r}.")
