"""Figure 1: the energy of addition over the first two elements of the answer, with the descent drawn in."""

from pathlib import Path

from ..evaluation.figures import save
from ..landscape import Principal, line, plane
from ..landscape.figures import draw_line, draw_plane
from .runs import Laboratory


def reproduce(laboratory: Laboratory, preset: str, seeds: int) -> list[Path]:
    """Draw two planes and a line through the answer to a fresh problem. Returns the paths of the written files."""
    path, target = laboratory.fresh_descent("addition", preset, "figure1", 1)
    elements = plane(path, target)
    main = plane(path, target, directions=Principal(2))
    along = line(path, target)
    folder = laboratory.results
    return [
        *save(draw_plane(elements, "Addition: energy over the first two elements of the answer"), folder, "figure1"),
        *save(draw_plane(main, "Addition: energy on the main plane of the descent"), folder, "figure1-main-plane"),
        *save(draw_line(along, "Addition: energy along the main direction of the descent"), folder, "figure1-line"),
    ]
