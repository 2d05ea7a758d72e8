"""Inner optimizers: how a step changes the answers."""

from .base import InnerOptimizer
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
    "Ball",
    "Box",
    "InnerOptimizer",
    "LevenbergMarquardt",
    "Momentum",
    "NewtonCG",
    "Projected",
    "RMSProp",
    "Simplex",
    "TorchOpt",
]
