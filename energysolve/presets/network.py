"""The paper's network as a preset: the settings of the paper, and ours for the same architecture."""

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
"""Problems whose mean and deviation standardize the network's input."""

SOLVER: Settings = {
    "step_size": 100.0,
    "test_step_size": 20.0,
    "test_max_steps": 300,
    "test_atol": 1e-5,
    "test_patience": 2,
}
"""Settings for any energy: ``step_size`` is that of training; those that begin with ``test`` are for the solver
that is saved."""

NETWORK: Settings = {
    **SOLVER,
    "scratchpad": 0,
    "width": 512,
    "energy_scale": 1.0,
    "standardized": False,
    "start": "paper",
}
"""Settings of the network besides: ``scratchpad`` is a number of entries (0 for none), ``start`` one of `STARTS`."""


def network(sizes: Callable[[Any], tuple[int, int]], name: str) -> Callable[[Any, Settings], EnergySolver]:
    """A ``build`` for `Preset`: the paper's network for a task.

    Args:
        sizes: the entries of a problem and of an answer of a task.
        name: of the task, for the stream of the problems that the network's input is standardized on.
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
            energy.standardize(
                task.sample(_STANDARD, generator=stream(f"standardize {name}", settings.get("seed", 0)))[0]
            )
        init = STARTS[settings["start"]](energy, task, settings["step_size"])
        scratchpad = Uniform((pad,)) if pad else None
        return EnergySolver(energy, SGD(settings["step_size"]), init=init, scratchpad=scratchpad)

    return build


def with_energy(make_energy: Callable[[Any], Callable[..., Any]]) -> Callable[[Any, Settings], EnergySolver]:
    """A ``build`` for `Preset`: an energy of the user's own, from the task."""

    def build(task: Task, settings: Settings) -> EnergySolver:
        return EnergySolver(make_energy(task), SGD(settings["step_size"]), init=task.init)

    return build


def at_test_time(solver: EnergySolver, settings: Settings) -> EnergySolver:
    """The solver with the test-time settings."""
    return solver.replace(
        optimizer=SGD(settings["test_step_size"]),
        halting=EnergyChange(atol=settings["test_atol"]).patience(settings["test_patience"]),
        max_steps=settings["test_max_steps"],
    )


def paper(build: Callable[[Any, Settings], EnergySolver], settings: Settings = NETWORK, **changes: Any) -> Preset:
    """The paper's settings for a network, with some changed."""
    training = TrainingConfig(lr=1e-4, schedule=Constant(), replay=10_000)
    return Preset(build, 10_000, training, settings, at_test_time, validate_every=500).changed(changes)


def tuned(build: Callable[[Any, Settings], EnergySolver], settings: Settings = NETWORK, **changes: Any) -> Preset:
    """Our settings for the same network, with some changed."""
    training = TrainingConfig(lr=1e-3, schedule=OneCycle(), replay=10_000)
    return Preset(build, 6_000, training, settings, at_test_time, validate_every=500).changed(changes)
