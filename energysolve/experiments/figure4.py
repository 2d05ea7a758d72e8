"""Figure 4: the squared error of each element of a sum during its descent."""

from pathlib import Path

from ..evaluation.figures import save
from ..landscape.figures import draw_element_errors
from .runs import Laboratory


def reproduce(laboratory: Laboratory, preset: str, seeds: int) -> list[Path]:
    """Draw the errors of one fresh addition problem. Returns the paths of the written files."""
    path, target = laboratory.fresh_descent("addition", preset, "figure4", 1)
    figure = draw_element_errors(path.squared_errors(target), "Addition: squared error of each element over the steps")
    return save(figure, laboratory.results, "figure4")
