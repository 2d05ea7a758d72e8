"""The state of a training run, and its form in a checkpoint: tensors and plain JSON."""

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ..version import __version__
from .buffers import copy_buffers
from .checkpoints import CheckpointError
from .config import TrainingConfig
from .identity import random_digest, start_of, weights_digest
from .replay import ReplayBuffer

_MODEL = "energy"
"""The prefix of the model's weights in a checkpoint, whether the model is an energy or not."""


@dataclass
class RunState:
    """A training run at one moment: everything that a checkpoint holds.

    Attributes:
        identity: what a resumed run must have in common with this one besides the settings, as plain JSON.
        average: the moving average of the model; None without ``ema``.
        scheduler: the schedule of the learning rate; None before `begin`.
        iteration: the number of iterations done.
        iterations: the length of the run; 0 outside of `fit`.
        schedule_from: the iteration at which the schedule began: 0, or the end of the run that this one prolongs.
        start: digests of the weights and the random state that the run started from.
        failures: the number of batches skipped in a row, up to now.
        best: the iteration and the error of the best validation; None before the first.
        best_weights: the weights at ``best``; None without early stopping.
    """

    config: TrainingConfig
    model: Any
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    device: torch.device
    replay: ReplayBuffer | None = None
    identity: Mapping[str, Any] = field(default_factory=dict, init=False)
    average: Any = field(default=None, init=False)
    scheduler: LRScheduler | None = field(default=None, init=False)
    iteration: int = field(default=0, init=False)
    iterations: int = field(default=0, init=False)
    schedule_from: int = field(default=0, init=False)
    start: Mapping[str, str] = field(default_factory=dict, init=False)
    failures: int = field(default=0, init=False)
    best: tuple[int, float] | None = field(default=None, init=False)
    best_weights: dict[str, Tensor] | None = field(default=None, init=False)

    def __post_init__(self):
        self._initial = copy.deepcopy(self.optimizer.state_dict())
        self.start = start_of(self.model, self.generator)
        if self.config.ema is not None:
            self.average = copy.deepcopy(self.model).requires_grad_(False)

    def settings(self) -> dict[str, Any]:
        """What must be equal for a run to be resumed, as plain JSON."""
        return {**self.config.to_json(), **self.identity}

    def begin(self, iterations: int) -> None:
        """Start a run: reset everything but the weights, the replay buffer and the generator."""
        self.iteration, self.iterations, self.failures, self.schedule_from = 0, iterations, 0, 0
        self.best = self.best_weights = None
        self.model.train()
        if self.average is not None:
            self.average.load_state_dict(self.model.state_dict())
        self.optimizer.load_state_dict(self._initial)
        self.build_schedule()

    def prolong(self) -> None:
        """Start the schedule again at the present iteration, for what is left of the run."""
        self.schedule_from = self.iteration
        groups = self._initial["param_groups"]
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"param_groups": copy.deepcopy(groups)})
        self.build_schedule()

    def build_schedule(self) -> None:
        """The schedule of the run from its beginning."""
        length = max(self.iterations - self.schedule_from, 1)
        self.scheduler = self.config.schedule.build(self.optimizer, length)

    def advance(self, good: bool | Tensor) -> None:
        """Count an iteration: step the scheduler, and the moving average if the update was good."""
        if self.iterations and self.scheduler is not None:
            with warnings.catch_warnings():  # about an optimizer that has not stepped: the first batch was skipped
                warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
                self.scheduler.step()
        if self.config.ema is not None:
            self._average(good, self.config.ema)
        self.iteration += 1

    @torch.no_grad()
    def _average(self, good: bool | Tensor, decay: float) -> None:
        old, new = list(self.average.parameters()), list(self.model.parameters())
        if isinstance(good, Tensor):  # which the host does not know
            for mean, value in zip(old, new, strict=True):
                mean.lerp_(value, (good * (1 - decay)).to(mean.dtype))
        elif good:
            get_ema_multi_avg_fn(decay)(old, new, 0)
        copy_buffers(self.average, self.model)


def snapshot(state: RunState) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a run, and the rest as plain JSON. Some tensors share memory with the run."""
    assert state.scheduler is not None
    optimizer_tensors, optimizer_rest = _optimizer_state(state.optimizer)
    tensors = {
        **_prefixed(_MODEL, state.model.state_dict()),
        **_prefixed("optimizer", optimizer_tensors),
        "generator": state.generator.get_state(),
        "rng.cpu": torch.get_rng_state(),
    }
    if state.device.type == "cuda":
        tensors["rng.cuda"] = torch.cuda.get_rng_state(state.device)
    if state.average is not None:
        tensors |= _prefixed("average", state.average.state_dict())
    if state.replay is not None:
        tensors |= _prefixed("replay", state.replay.state())
    if state.best_weights is not None:
        tensors |= _prefixed("best", state.best_weights)
    rest = {
        "iteration": state.iteration,
        "iterations": state.iterations,
        "schedule_from": state.schedule_from,
        "start": dict(state.start),
        "optimizer": optimizer_rest,
        "scheduler": state.scheduler.state_dict(),
        "best": state.best,
        "failures": state.failures,
        "config": state.settings(),
        "versions": {"energysolve": __version__, "torch": torch.__version__},
    }
    return tensors, rest


def restore(
    state: RunState, tensors: Mapping[str, Tensor], rest: Mapping[str, Any], example: Any, same_start: bool = True
) -> None:
    """Load the two parts of a `snapshot` into a run after `begin`.

    ``example`` is a batch such as the replay buffer stores. A finished run, or one whose schedule does not depend on
    its length, may be continued to another number of iterations. Raises a CheckpointError if the snapshot is of a run
    with other settings or another model, or with ``same_start`` of one that started from other weights or random
    numbers.
    """
    try:
        _restore(state, tensors, rest, example, same_start)
    except CheckpointError:
        raise
    except (LookupError, RuntimeError, ValueError, TypeError, AttributeError, OverflowError) as error:
        what = " ".join(f"{'' if isinstance(error, RuntimeError) else type(error).__name__} {error}".split())
        raise CheckpointError(
            f"The checkpoint does not fit this run: {what}. Resume with the model, task and settings that the run was "
            "started with."
        ) from error


def _restore(
    state: RunState, tensors: Mapping[str, Tensor], rest: Mapping[str, Any], example: Any, same_start: bool
) -> None:
    assert state.scheduler is not None
    _check_settings(state, rest)
    if same_start:
        _check_start(state, tensors, rest)
    state.iteration, state.schedule_from = rest["iteration"], rest.get("schedule_from", 0)
    state.model.load_state_dict(_named(_MODEL, tensors))
    state.build_schedule()  # before the optimizer, whose learning rate it sets
    _load_optimizer(state.optimizer, _named("optimizer", tensors), rest["optimizer"])
    assert state.scheduler is not None
    state.scheduler.load_state_dict(rest["scheduler"])
    if rest["iterations"] != state.iterations and state.config.schedule.depends_on_length:
        state.prolong()
    state.generator.set_state(tensors["generator"])
    torch.set_rng_state(tensors["rng.cpu"])
    if state.device.type == "cuda" and "rng.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["rng.cuda"], state.device)
    if state.average is not None:
        state.average.load_state_dict(_named("average", tensors))
    if state.replay is not None:
        state.replay.load(_named("replay", tensors, state.device), like=example)
    state.best_weights = _named("best", tensors, state.device) or None
    state.best = tuple(rest["best"]) if rest["best"] else None
    state.failures = rest["failures"]
    state.start = rest.get("start", state.start)


def _check_settings(state: RunState, rest: Mapping[str, Any]) -> None:
    ours, theirs = state.settings(), rest["config"]
    # Checkpoints of earlier versions lack the descriptions of parts.
    names = [name for name in {**ours, **theirs} if name in theirs or name not in state.identity]
    differing = [name for name in names if ours.get(name) != theirs.get(name)]
    shown = [f"{name} (then {theirs.get(name)!r}, now {ours.get(name)!r})" for name in differing]
    done, then, now = rest["iteration"], rest["iterations"], state.iterations
    advice = "Resume with the same settings, or start a new run in another folder."
    if now < done or (now != then and done < then and state.config.schedule.depends_on_length):
        shown.append(f"iterations (then {then}, of which {done} are done, now {now})")
        advice += " A run is prolonged once it is finished."
    if shown:
        raise CheckpointError(f"The checkpoint is of a run with other settings: {', '.join(shown)}. {advice}")


def _check_start(state: RunState, tensors: Mapping[str, Tensor], rest: Mapping[str, Any]) -> None:
    """Refuse another run's checkpoint. Weights that were trained to the checkpoint itself may be resumed too."""
    weights = _named(_MODEL, tensors)
    if _shapes(state.model.state_dict()) != _shapes(weights):
        return  # another model, which loading it will say
    present = {"weights": weights_digest(weights), "random numbers": random_digest(tensors["generator"])}
    theirs = rest.get("start", {})
    differing = [name for name in theirs if state.start.get(name) not in (theirs[name], present[name])]
    if differing:
        raise CheckpointError(
            f"The checkpoint is of a run that started from other {' and other '.join(differing)}. Make the model and "
            "the generator with the seeds of that run, start anew with overwrite=True (--overwrite) or in another "
            "folder, or, if no seed determines the initial weights, pass Checkpoints(..., same_start=False)."
        )


def _optimizer_state(optimizer: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    state = optimizer.state_dict()
    tensors, numbers = {}, {}
    for index, values in state["state"].items():
        for key, value in values.items():
            (tensors if isinstance(value, Tensor) else numbers)[f"{index}.{key}"] = value
    return tensors, {"groups": state["param_groups"], "numbers": numbers}


def _load_optimizer(optimizer: Any, tensors: Mapping[str, Tensor], rest: Mapping[str, Any]) -> None:
    state: dict[int, dict[str, Any]] = {}
    for name, value in {**tensors, **rest["numbers"]}.items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value
    groups = [group | {"betas": tuple(group["betas"])} for group in rest["groups"]]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _named(prefix: str, tensors: Mapping[str, Tensor], device: Any = None) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {name[len(start) :]: tensor.to(device) for name, tensor in tensors.items() if name.startswith(start)}


def _shapes(tensors: Mapping[str, Any]) -> dict[str, Any]:
    return {name: getattr(value, "shape", None) for name, value in tensors.items()}
