"""Solvers made anew for problems of another size, where what was learned does not depend on it."""

import torch

from ..energy import Energy
from ..solver import EnergySolver
from ..tasks import Task
from .preset import Preset


def rebuilt(solver: EnergySolver, preset: Preset, task: Task) -> EnergySolver:
    """The solver for a task of another size: the energy's weights and the halting criterion stay.

    Args:
        solver: with an energy whose weights do not depend on the size; itself if it is for that size already.
        preset: builds solvers with such an energy; gives the optimizer and the initial answers.
        task: at the size asked for.
    """
    with torch.random.fork_rng(devices=[]):  # initial weights, which are overwritten, draw nothing from the user
        made = preset.build(task, {**preset.settings, "seed": preset.seed})
    old, new = solver.energy, made.energy
    assert isinstance(old, Energy)
    assert isinstance(new, Energy)
    if new.config() == old.config():
        return solver
    new.load_state_dict(old.state_dict())
    return solver.replace(
        energy=new.to(next(old.parameters()).device).eval(),
        optimizer=made.optimizer,
        init=made.init,
        scratchpad=made.scratchpad,
    )
