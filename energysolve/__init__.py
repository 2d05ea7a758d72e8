"""Reasoning by energy minimization.

An energy ``E(x, y)`` says how bad the answer ``y`` is for the problem ``x``; a solver finds a low-energy answer by
running an inner optimizer on it, sample by sample, until a halting criterion is met.
"""

from .composition import compose
from .differentiation import Detached, Implicit, Truncated, Unroll
from .energies.mlp import MLPEnergy
from .energy import Energy
from .halting import (
    After,
    EnergyChange,
    EnergyIncrease,
    GradientNorm,
    Halting,
    Never,
    StepInfo,
    StepNorm,
    TargetEnergy,
    halting,
)
from .initializers import FromInput, Normal, Uniform, Zeros
from .layout import Dense, Segment
from .optimizers import SGD, Adam, Momentum, Projected, RMSProp, TorchOpt
from .recorders import BestSoFar, Nothing, Trajectory
from .solution import Solution, Status
from .solver import EnergySolver
from .version import __version__ as __version__

__all__ = [
    "SGD",
    "Adam",
    "After",
    "BestSoFar",
    "Dense",
    "Detached",
    "Energy",
    "EnergyChange",
    "EnergyIncrease",
    "EnergySolver",
    "FromInput",
    "GradientNorm",
    "Halting",
    "Implicit",
    "MLPEnergy",
    "Momentum",
    "Never",
    "Normal",
    "Nothing",
    "Projected",
    "RMSProp",
    "Segment",
    "Solution",
    "Status",
    "StepInfo",
    "StepNorm",
    "TargetEnergy",
    "TorchOpt",
    "Trajectory",
    "Truncated",
    "Uniform",
    "Unroll",
    "Zeros",
    "compose",
    "halting",
]
