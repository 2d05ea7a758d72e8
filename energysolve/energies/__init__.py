"""Energies: learned ones, analytic ones with known minima, and combinators."""

from ..energy import FunctionEnergy, WeightedSum
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
from .combinators import Mapped, SoftMin
from .convex import Bowl, Logistic, Quadratic, Ridge
from .fields import FieldsEnergy
from .graph import GINEEnergy, TripleEnergy
from .image import ConvEnergy
from .mlp import MLPEnergy
from .noise import NoiseLevel
from .structured import FactoredCompletion, PreconditionedInverse, SharedQuadratic

__all__ = [
    "AnalyticEnergy",
    "Beale",
    "Booth",
    "Bowl",
    "Box3D",
    "BrownBadlyScaled",
    "ConvEnergy",
    "FactoredCompletion",
    "FieldsEnergy",
    "FunctionEnergy",
    "GINEEnergy",
    "HelicalValley",
    "Himmelblau",
    "Logistic",
    "MLPEnergy",
    "Mapped",
    "Matyas",
    "NoiseLevel",
    "PowellSingular",
    "PreconditionedInverse",
    "Quadratic",
    "Rastrigin",
    "Ridge",
    "Rosenbrock",
    "SharedQuadratic",
    "SoftMin",
    "StyblinskiTang",
    "ThreeHumpCamel",
    "Trigonometric",
    "TripleEnergy",
    "VariablyDimensioned",
    "WeightedSum",
    "Wood",
]
