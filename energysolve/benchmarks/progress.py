"""How the energy falls with the evaluations, by optimizer: medians over a batch of problems, and their figure."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..energy import LeastSquares
from ..halting import Never
from ..optimizers import LBFGS, SGD, Adam, Backtracking, InnerOptimizer, LevenbergMarquardt, NewtonCG
from ..recorders import Recorder
from ..solver import EnergySolver
from .families import Family

TRIALS = 100
LEAST = 1e-12
"""What is left of the initial energy is drawn down to here."""
OPTIMIZERS: dict[str, InnerOptimizer] = {
    "LBFGS()": LBFGS(),
    "NewtonCG()": NewtonCG(),
    "LevenbergMarquardt()": LevenbergMarquardt(),
    "Backtracking(SGD(1.0))": Backtracking(SGD(1.0)),
    "Adam(0.1)": Adam(0.1),
    "Adam(0.01)": Adam(0.01),
    "SGD(0.01)": SGD(0.01),
}


class Energies(Recorder):
    """Records the energies ``(trials + 1, batch)`` after each trial."""

    def init(self, free: Any, energy: Tensor, layout: Any) -> Any:
        return [energy]

    def update(self, state: Any, free: Any, energy: Tensor, step: Tensor) -> Any:
        return [*state, energy]

    def finish(self, state: Any, steps: Tensor) -> Tensor:
        return torch.stack(state)


def progress(family: Family, trials: int = TRIALS) -> dict[str, list[float]]:
    """By optimizer, the share of the initial energy above the lowest one that is left after each evaluation.

    The share is a median over the problems. The lowest energy of a problem is the lowest that any of the optimizers
    found. Hessian products and Jacobians are not counted as evaluations.
    """
    found = {}
    for name, optimizer in OPTIMIZERS.items():
        if isinstance(family.energy, LeastSquares) or not isinstance(optimizer, LevenbergMarquardt):
            solver = EnergySolver(family.energy, optimizer, halting=Never(), recorder=Energies(), max_steps=trials)
            found[name] = solver.minimize(family.x, family.y0).record
    lowest = torch.stack([energies.amin(0) for energies in found.values()]).amin(0)
    first = next(iter(found.values()))[0]
    shares = {name: ((energies - lowest) / (first - lowest)).median(1).values for name, energies in found.items()}
    return {name: share.clamp(min=LEAST).tolist() for name, share in shares.items()}


def save_progress(path: Path, found: Mapping[str, Mapping[str, Sequence[float]]]) -> list[Path]:
    """Draw one panel for each kind of problems; returns the paths of a PNG and an SVG file named like ``path``."""
    # Imported on demand: matplotlib takes a second to import.
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from ..evaluation.figures import COLORS, LINES, STYLE, save

    with rc_context(STYLE):
        figure = Figure(figsize=(11, 4.2), layout="constrained")
        panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
        for axes, (kind, shares) in zip(panels, found.items(), strict=True):
            for index, (name, color) in enumerate(zip(OPTIMIZERS, COLORS, strict=True)):
                if name in shares:
                    values = shares[name]
                    style = {"color": color, "linestyle": LINES[index % len(LINES)], "label": name}
                    axes.plot(range(1, len(values) + 1), values, **style)
            axes.set(title=kind, xscale="log", yscale="log", xlabel="evaluations of the energy")
            axes.set_ylim(LEAST, 3)
        panels[0].set_ylabel("energy above the lowest, share of the initial")
        handles = {line.get_label(): line for axes in panels for line in axes.lines}
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4)
    return save(figure, path.parent, path.stem)
