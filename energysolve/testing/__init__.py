"""Contract checks for users' energies, halting criteria and optimizers, and test problems with known answers.

Hypothesis strategies are in `energysolve.testing.strategies`, the only module that needs hypothesis.
"""

from .energy import check_energy
from .halting import check_halting
from .optimizer import check_optimizer
from .problems import Problem, problems

__all__ = ["Problem", "check_energy", "check_halting", "check_optimizer", "problems"]
