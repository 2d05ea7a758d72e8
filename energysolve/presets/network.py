"""Presets of the paper's network: with the paper's settings, and with ours for the same architecture."""

from collections.abc import Callable
from typing import Any

from ..energies import MLPEnergy
from ..halting import EnergyChange
from ..initializers import Uniform
from ..optimizers import SGD
from ..seeding import stream
from ..solver import EnergySolver
from ..tasks import Task
from ..training import Constant, OneCycle, TrainingConfig
from .preset import Preset, Settings
from .starts import STARTS

_STANDARD = 4000
"""Number of problems whose mean and standard deviation standardize the network's input."""

SOLVER: Settings = {
    "step_size": 100.0,
    "test_step_size": 20.0,
    "test_max_steps": 300,
    "test_atol": 1e-5,
    "test_patience": 2,
}
"""Settings for any energy: ``step_size`` is for training, those that begin with ``test`` are for the saved solver."""

NETWORK: Settings = {
    **SOLVER,
    "scratchpad": 0,
    "width": 512,
    "energy_scale": 1.0,
    "standardized": False,
    "start": "paper",
}
"""Further settings of the network: ``scratchpad`` is a number of entries (0 for none), ``start`` one of `STARTS`."""


def network(sizes: Callable[[Any], tuple[int, int]], name: str) -> Callable[[Any, Settings], EnergySolver]:
    """A ``build`` for `Preset` that makes the paper's network for a task.

    Args:
        sizes: returns the number of entries of a problem and of an answer of a task.
        name: name of the task; seeds the problems that standardize the network's input.
    """

    def build(task: Task, settings: Settings) -> EnergySolver:
        if settings["start"] not in STARTS:
            raise ValueError(f"There is no start {settings['start']!r}; there are: {', '.join(STARTS)}.")
        pad = settings["scratchpad"]
        energy = MLPEnergy(
            *sizes(task),
            width=settings["width"],
            z_dim=pad,
            scale=settings["energy_scale"],
            standardized=settings["standardized"],
        )
        if settings["standardized"]:
            problems, _ = task.sample(_STANDARD, generator=stream(f"standardize {name}", settings.get("seed", 0)))
            energy.standardize(problems)
        init = STARTS[settings["start"]](energy, task, settings["step_size"])
        scratchpad = Uniform((pad,)) if pad else None
        return EnergySolver(energy, SGD(settings["step_size"]), init=init, scratchpad=scratchpad)

    return build


def with_energy(make_energy: Callable[[Any], Callable[..., Any]]) -> Callable[[Any, Settings], EnergySolver]:
    """A ``build`` for `Preset` that makes a user's energy from the task."""

    def build(task: Task, settings: Settings) -> EnergySolver:
        return EnergySolver(make_energy(task), SGD(settings["step_size"]), init=task.init)

    return build


def at_test_time(solver: EnergySolver, settings: Settings) -> EnergySolver:
    """The solver with its test-time settings."""
    return solver.replace(
        optimizer=SGD(settings["test_step_size"]),
        halting=EnergyChange(atol=settings["test_atol"]).patience(settings["test_patience"]),
        max_steps=settings["test_max_steps"],
    )


def paper(build: Callable[[Any, Settings], EnergySolver], settings: Settings = NETWORK, **changes: Any) -> Preset:
    """A preset with the paper's settings, except for ``changes``."""
    training = TrainingConfig(lr=1e-4, schedule=Constant(), replay=10_000)
    return Preset(build, 10_000, training, settings, at_test_time, validate_every=500).changed(changes)


def tuned(build: Callable[[Any, Settings], EnergySolver], settings: Settings = NETWORK, **changes: Any) -> Preset:
    """A preset with our settings for the same network, except for ``changes``."""
    training = TrainingConfig(lr=1e-3, schedule=OneCycle(), replay=10_000)
    return Preset(build, 6_000, training, settings, at_test_time, validate_every=500).changed(changes)
