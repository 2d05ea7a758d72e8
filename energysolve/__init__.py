"""Reasoning by energy minimization.

An energy ``E(x, y)`` says how bad the answer ``y`` is for the problem ``x``. A solver finds a low-energy answer by
running an inner optimizer on it, sample by sample, until a halting criterion fires.
"""

from typing import TYPE_CHECKING, Any

from .composition import compose
from .differentiation import Detached, Implicit, Truncated, Unroll
from .energies.mlp import MLPEnergy
from .energy import Energy, LeastSquares
from .engine.linear import CG
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
from .optimizers import (
    LBFGS,
    SGD,
    Adam,
    Backtracking,
    Ball,
    Box,
    Clipped,
    FixedPoint,
    LevenbergMarquardt,
    Momentum,
    NewtonCG,
    Projected,
    RMSProp,
    Simplex,
    TorchOpt,
)
from .recorders import BestSoFar, Nothing, Trajectory
from .solution import Solution, Status
from .solver import EnergySolver
from .version import __version__ as __version__

if TYPE_CHECKING:
    from .training import Trainer

__all__ = [
    "CG",
    "LBFGS",
    "SGD",
    "Adam",
    "After",
    "Backtracking",
    "Ball",
    "BestSoFar",
    "Box",
    "Clipped",
    "Dense",
    "Detached",
    "Energy",
    "EnergyChange",
    "EnergyIncrease",
    "EnergySolver",
    "FixedPoint",
    "FromInput",
    "GradientNorm",
    "Halting",
    "Implicit",
    "LeastSquares",
    "LevenbergMarquardt",
    "MLPEnergy",
    "Momentum",
    "Never",
    "NewtonCG",
    "Normal",
    "Nothing",
    "Projected",
    "RMSProp",
    "Segment",
    "Simplex",
    "Solution",
    "Status",
    "StepInfo",
    "StepNorm",
    "TargetEnergy",
    "TorchOpt",
    "Trainer",
    "Trajectory",
    "Truncated",
    "Uniform",
    "Unroll",
    "Zeros",
    "compose",
    "halting",
]


def __getattr__(name: str) -> Any:
    if name == "Trainer":  # imported at its first use, since it imports accelerate
        from .training import Trainer

        return Trainer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
