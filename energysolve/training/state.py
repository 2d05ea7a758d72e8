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
from .checkpoints import CheckpointError
from .config import TrainingConfig
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
    failures: int = field(default=0, init=False)
    best: tuple[int, float] | None = field(default=None, init=False)
    best_weights: dict[str, Tensor] | None = field(default=None, init=False)

    def __post_init__(self):
        self._initial = copy.deepcopy(self.optimizer.state_dict())
        if self.config.ema is not None:
            self.average = copy.deepcopy(self.model).requires_grad_(False)

    def settings(self) -> dict[str, Any]:
        """What must be equal for a run to be resumed, as plain JSON."""
        return {**self.config.to_json(), **self.identity}

    def begin(self, iterations: int) -> None:
        """Start a run: reset everything but the weights, the replay buffer and the generator."""
        self.iteration, self.iterations, self.failures = 0, iterations, 0
        self.best = self.best_weights = None
        self.model.train()
        if self.average is not None:
            self.average.load_state_dict(self.model.state_dict())
        self.optimizer.load_state_dict(self._initial)
        self.scheduler = self.config.schedule.build(self.optimizer, max(iterations, 1))

    def advance(self) -> None:
        """Count an iteration whose update is done: step the scheduler and the moving average."""
        if self.iterations and self.scheduler is not None:
            with warnings.catch_warnings():  # about an optimizer that has not stepped: the first batch was skipped
                warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
                self.scheduler.step()
        if self.config.ema is not None:
            with torch.no_grad():
                update = get_ema_multi_avg_fn(self.config.ema)
                update(list(self.average.parameters()), list(self.model.parameters()), 0)
                for old, new in zip(self.average.buffers(), self.model.buffers(), strict=True):
                    old.copy_(new)
        self.iteration += 1


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
        "optimizer": optimizer_rest,
        "scheduler": state.scheduler.state_dict(),
        "best": state.best,
        "failures": state.failures,
        "config": state.settings(),
        "versions": {"energysolve": __version__, "torch": torch.__version__},
    }
    return tensors, rest


def restore(state: RunState, tensors: Mapping[str, Tensor], rest: Mapping[str, Any], example: Any) -> None:
    """Load the two parts of a `snapshot` into a run after `begin`.

    ``example`` is a batch such as the replay buffer stores. Raises a CheckpointError if the snapshot is of a run with
    other settings or another model.
    """
    assert state.scheduler is not None
    _check_settings(state, rest)
    try:
        state.model.load_state_dict(_named(_MODEL, tensors))
        _load_optimizer(state.optimizer, _named("optimizer", tensors), rest["optimizer"])
        state.scheduler.load_state_dict(rest["scheduler"])
        state.generator.set_state(tensors["generator"])
        torch.set_rng_state(tensors["rng.cpu"])
        if state.device.type == "cuda" and "rng.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["rng.cuda"], state.device)
        if state.average is not None:
            state.average.load_state_dict(_named("average", tensors))
        if state.replay is not None:
            state.replay.load(_named("replay", tensors, state.device), like=example)
    except (KeyError, RuntimeError, ValueError) as error:
        what = " ".join(str(error).split())
        raise CheckpointError(
            f"The checkpoint does not fit this run: {what}. Resume with the model, task and settings that the run was "
            "started with."
        ) from error
    state.best_weights = _named("best", tensors, state.device) or None
    state.best = tuple(rest["best"]) if rest["best"] else None
    state.failures = rest["failures"]
    state.iteration = rest["iteration"]


def _check_settings(state: RunState, rest: Mapping[str, Any]) -> None:
    ours = {"iterations": state.iterations, **state.settings()}
    theirs = {"iterations": rest["iterations"], **rest["config"]}
    differing = [name for name in ours if ours[name] != theirs.get(name)]
    if differing:
        shown = ", ".join(f"{name} (then {theirs.get(name)!r}, now {ours[name]!r})" for name in differing)
        raise CheckpointError(
            f"The checkpoint is of a run with other settings: {shown}. Resume with the same settings, or start a new "
            "run in another folder."
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
