"""Solvers rebuilt for problems of another size, for energies whose weights do not depend on the size."""

import torch

from ..energy import Energy
from ..solver import EnergySolver
from ..tasks import Task
from .preset import Preset


def rebuilt(solver: EnergySolver, preset: Preset, task: Task) -> EnergySolver:
    """The solver for a task of another size, with the same weights and halting criterion.

    Args:
        solver: a solver whose energy has weights that do not depend on the size; returned if it has the size already.
        preset: builds solvers with such an energy; provides the optimizer and the initial answers.
        task: the task at the requested size.
    """
    with torch.random.fork_rng(devices=[]):  # the overwritten initial weights leave the user's random state alone
        made = preset.in_use(preset.build(task, {**preset.settings, "seed": preset.seed}), preset.settings)
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
