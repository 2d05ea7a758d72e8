"""Energies: learned ones, analytic ones with known minima, and combinators."""

from .analytic import (
    AnalyticEnergy,
    Beale,
    Booth,
    Box3D,
    BrownBadlyScaled,
    HelicalValley,
    Himmelblau,
    Matyas,
    PowellSingular,
    Rastrigin,
    Rosenbrock,
    StyblinskiTang,
    ThreeHumpCamel,
    Trigonometric,
    VariablyDimensioned,
    Wood,
)
from .combinators import FunctionEnergy, Mapped, SoftMin, WeightedSum
from .convex import Bowl, Logistic, Quadratic, Ridge
from .mlp import MLPEnergy

__all__ = [
    "AnalyticEnergy",
    "Beale",
    "Booth",
    "Bowl",
    "Box3D",
    "BrownBadlyScaled",
    "FunctionEnergy",
    "HelicalValley",
    "Himmelblau",
    "Logistic",
    "MLPEnergy",
    "Mapped",
    "Matyas",
    "PowellSingular",
    "Quadratic",
    "Rastrigin",
    "Ridge",
    "Rosenbrock",
    "SoftMin",
    "StyblinskiTang",
    "ThreeHumpCamel",
    "Trigonometric",
    "VariablyDimensioned",
    "WeightedSum",
    "Wood",
]
