"""Everything that a run consists of at one moment, as tensors and plain JSON, and back."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..version import __version__
from .checkpoints import CheckpointError

if TYPE_CHECKING:
    from .run import Run

_MODEL = "energy"
"""The name of the trained model in checkpoints, an energy or not."""


def snapshot(run: "Run") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights, optimizer, schedule, moving average, replay buffer, generators and counters."""
    optimizer_tensors, optimizer_rest = _optimizer_state(run.optimizer)
    tensors = {
        **_prefixed(_MODEL, run.model.state_dict()),
        **_prefixed("optimizer", optimizer_tensors),
        "generator": run.generator.get_state(),
        "rng.cpu": torch.get_rng_state(),
    }
    if run.device.type == "cuda":
        tensors["rng.cuda"] = torch.cuda.get_rng_state(run.device)
    if run.average is not None:
        tensors |= _prefixed("average", run.average.state_dict())
    if run.replay is not None:
        tensors |= _prefixed("replay", run.replay.state())
    if run.best_weights is not None:
        tensors |= _prefixed("best", run.best_weights)
    rest = {
        "iteration": run.iteration,
        "iterations": run.iterations,
        "optimizer": optimizer_rest,
        "scheduler": run.scheduler.state_dict(),
        "best": run.best,
        "failures": run.failures,
        "config": run.settings(),
        "versions": {"energysolve": __version__, "torch": torch.__version__},
    }
    return tensors, rest


def restore(run: "Run", tensors: Mapping[str, Tensor], rest: Mapping[str, Any]) -> None:
    """Put a run that has been set up where `snapshot` was taken.

    Raises:
        CheckpointError: if the checkpoint is of a run with other settings or another model.
    """
    _check_settings(run, rest)
    try:
        run.model.load_state_dict(_named(_MODEL, tensors))
        _load_optimizer(run.optimizer, _named("optimizer", tensors), rest["optimizer"])
        run.scheduler.load_state_dict(rest["scheduler"])
        run.generator.set_state(tensors["generator"])
        torch.set_rng_state(tensors["rng.cpu"])
        if run.device.type == "cuda" and "rng.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["rng.cuda"], run.device)
        if run.average is not None:
            run.average.load_state_dict(_named("average", tensors))
        if run.replay is not None:
            run.replay.load(_named("replay", tensors, run.device), like=run.example())
    except (KeyError, RuntimeError, ValueError) as error:
        what = " ".join(str(error).split())
        raise CheckpointError(
            f"The checkpoint does not fit this run: {what}. Resume with the energy, task and settings that it was "
            "started with."
        ) from error
    run.best_weights = _named("best", tensors, run.device) or None
    run.best = tuple(rest["best"]) if rest["best"] else None
    run.failures = rest["failures"]
    run.iteration = rest["iteration"]


def _check_settings(run: "Run", rest: Mapping[str, Any]) -> None:
    ours = {"iterations": run.iterations, **run.settings()}
    theirs = {"iterations": rest["iterations"], **rest["config"]}
    differing = [name for name in ours if ours[name] != theirs.get(name)]
    if differing:
        shown = ", ".join(f"{name} (then {theirs.get(name)!r}, now {ours[name]!r})" for name in differing)
        raise CheckpointError(
            f"The checkpoint is of a run with other settings: {shown}. Resume with those, or start anew in another "
            "folder."
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
    groups = [
        {key: tuple(value) if key == "betas" else value for key, value in group.items()} for group in rest["groups"]
    ]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _named(prefix: str, tensors: Mapping[str, Tensor], device: Any = None) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {name[len(start) :]: tensor.to(device) for name, tensor in tensors.items() if name.startswith(start)}
