"""The settings of a training run."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ..checks import check_nonnegative, check_whole
from ..differentiation import Differentiation, Truncated
from ..pretrained.serialization import from_config, to_config
from .schedules import OneCycle, Schedule

PRECISIONS = ("no", "bf16", "fp16")


@dataclass(frozen=True)
class TrainingConfig:
    """The settings of a training run; a trainer takes every field by name.

    Attributes:
        train_steps: inner steps per iteration; 5 in the paper.
        differentiation: how gradients pass through the inner steps; `Truncated(1)` in the paper.
        batch_size: new problems per batch, over all processes; as many replayed ones join them.
        replay: capacity of the replay buffer; 0 for none. 10,000 in the paper.
        lr: the learning rate of Adam; with a schedule, the highest. 1e-4 in the paper.
        betas: the decay rates of Adam.
        weight_decay: decoupled weight decay (AdamW).
        schedule: how the learning rate changes over a run. `Constant()` in the paper.
        accumulate: batches per iteration; their gradients are averaged.
        clip_norm: the largest norm of the gradient; a longer one is scaled down. None for no limit.
        ema: the decay rate of a moving average of the weights, which is then validated and kept; None for no average.
        precision: ``"no"`` (that of the weights), or autocast in ``"bf16"`` or ``"fp16"``, as accelerate names them.
        compile: compile the loss with its inner loop (`torch.compile`); for problems of static shapes.
        skip_nonfinite: skip batches whose loss or gradient is not finite, rather than stop.
        log_every: iterations between entries of the trackers.

    Raises:
        TypeError: for a part of the wrong kind.
        ValueError: for a setting that is out of range.

    Examples:
        >>> from energysolve import SGD, EnergySolver, Trainer
        >>> from energysolve.energies import SharedQuadratic
        >>> from energysolve.tasks import Addition
        >>> from energysolve.training import TrainingConfig, make_accelerator
        >>> config = TrainingConfig(train_steps=3, batch_size=16, lr=1e-2)
        >>> solver = EnergySolver(SharedQuadratic(size=3), SGD(0.5))
        >>> trainer = Trainer(solver, Addition(3), config, ema=0.9, accelerator=make_accelerator(cpu=True))
        >>> trainer.config.changes()
        {'train_steps': 3, 'batch_size': 16, 'lr': 0.01, 'ema': 0.9}
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
        for name, kind in (("differentiation", Differentiation), ("schedule", Schedule)):
            if not isinstance(getattr(self, name), kind):
                raise TypeError(f"{owner} needs a {kind.__name__} as {name}, got {getattr(self, name)!r}.")
        counts = ("train_steps", "batch_size", "accumulate", "log_every")
        check_whole(owner, least=1, **{name: getattr(self, name) for name in counts})
        check_whole(owner, least=0, replay=self.replay)
        check_nonnegative(owner, weight_decay=self.weight_decay)
        for name, value in (("lr", self.lr), ("clip_norm", 1.0 if self.clip_norm is None else self.clip_norm)):
            if not 0 < value < float("inf"):
                raise ValueError(f"TrainingConfig needs {name} positive and finite, got {value!r}.")
        if len(self.betas) != 2:
            raise ValueError(f"TrainingConfig needs two betas, got {self.betas!r}.")
        for name, decay in (("betas", self.betas[0]), ("betas", self.betas[1]), ("ema", self.ema)):
            if decay is not None and not 0 <= decay < 1:
                raise ValueError(f"TrainingConfig needs {name} in [0, 1), got {decay!r}.")
        if self.precision not in PRECISIONS:
            raise ValueError(f"TrainingConfig needs a precision among {', '.join(PRECISIONS)}; got {self.precision!r}.")

    def changed(self, changes: Mapping[str, Any]) -> "TrainingConfig":
        """A copy with some fields replaced; a TypeError for a name that is not a field."""
        unknown = sorted(set(changes) - {each.name for each in fields(self)})
        if unknown:
            known = ", ".join(each.name for each in fields(self))
            raise TypeError(f"This trainer has no setting {', '.join(unknown)}; its settings are {known}.")
        return replace(self, **changes)

    def changes(self) -> dict[str, Any]:
        """The settings that differ from the defaults, by name."""
        defaults = type(self)()
        return {name: value for name, value in vars(self).items() if value != getattr(defaults, name)}

    def to_json(self) -> dict[str, Any]:
        """The settings as plain JSON; a TypeError if a part is not one of the library's own."""
        plain = {**vars(self), "betas": list(self.betas)}
        return plain | {name: to_config(plain[name]) for name in ("differentiation", "schedule")}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "TrainingConfig":
        """The settings that `to_json` wrote; a ValueError or TypeError if ``plain`` is something else."""
        try:
            parts = {name: from_config(plain[name]) for name in ("differentiation", "schedule")}
            return cls().changed({**plain, "betas": tuple(plain["betas"]), **parts})
        except (LookupError, AttributeError, RecursionError) as error:
            raise ValueError(f"These are no settings of a training run ({error!r}): {plain!r:.200}") from error

    def __str__(self) -> str:
        return "\n".join(f"{name} = {value!r}" for name, value in sorted(vars(self).items()))
