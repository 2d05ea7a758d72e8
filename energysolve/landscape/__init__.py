"""The energy landscape around the answers of a solver (Section 4.3 of the paper, and its Figures 1, 4 and 5).

`descent` solves problems and keeps every iterate. `energy_by_distance`, `line` and `plane` evaluate the energy around
the answers. `energysolve.landscape.figures` draws the results.
"""

from .descents import DescentPath, descent
from .distances import CANDIDATES, EnergyByDistance, Interpolations, Iterates, Noise, energy_by_distance, spearman
from .slices import Axes, Coordinates, Principal, Slice, line, plane

__all__ = [
    "CANDIDATES",
    "Axes",
    "Coordinates",
    "DescentPath",
    "EnergyByDistance",
    "Interpolations",
    "Iterates",
    "Noise",
    "Principal",
    "Slice",
    "descent",
    "energy_by_distance",
    "line",
    "plane",
    "spearman",
]
