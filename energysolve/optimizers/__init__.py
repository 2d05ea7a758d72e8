"""Inner optimizers: how a step changes the answers."""

from .backtracking import Backtracking
from .base import Evaluation, InnerOptimizer, PerSample
from .clipped import Clipped
from .fixed_point import FixedPoint
from .lbfgs import LBFGS
from .levenberg import LevenbergMarquardt
from .newton import NewtonCG
from .projected import Ball, Box, Projected, Simplex
from .sgd import SGD
from .torchopt import Adam, Momentum, RMSProp, TorchOpt

__all__ = [
    "LBFGS",
    "SGD",
    "Adam",
    "Backtracking",
    "Ball",
    "Box",
    "Clipped",
    "Evaluation",
    "FixedPoint",
    "InnerOptimizer",
    "LevenbergMarquardt",
    "Momentum",
    "NewtonCG",
    "PerSample",
    "Projected",
    "RMSProp",
    "Simplex",
    "TorchOpt",
]
