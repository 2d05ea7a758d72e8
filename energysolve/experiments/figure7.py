"""Figure 7: error against the number of composed additions."""

from pathlib import Path

from ..evaluation.figures import save
from ..landscape.figures import draw_error_curves
from .figure3 import methods_of
from .runs import Laboratory
from .table4 import zero


def reproduce(laboratory: Laboratory, preset: str, seeds: int) -> list[Path]:
    """Make the missing runs and the figure. Returns the paths of the written files."""
    runs = {name: laboratory.result(run) for name, run in methods_of("addition", preset).items()}
    curves = {name: run["composition"] for name, run in runs.items()}
    numbers = range(1, len(next(iter(curves.values()))) + 1)
    curves["predict zero"] = [zero(k) for k in numbers]
    figure = draw_error_curves(
        curves, {}, "Composition of additions", "additions", "mean squared error", x=dict.fromkeys(curves, numbers)
    )
    return save(figure, laboratory.results, "figure7")
