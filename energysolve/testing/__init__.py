"""Checks for users' own energies, halting criteria and optimizers, and problems with known answers to try them on.

The hypothesis strategies are in `energysolve.testing.strategies`, which alone needs hypothesis to be installed.
"""

from .energy import check_energy
from .halting import check_halting
from .optimizer import check_optimizer
from .problems import Problem, problems

__all__ = ["Problem", "check_energy", "check_halting", "check_optimizer", "problems"]
