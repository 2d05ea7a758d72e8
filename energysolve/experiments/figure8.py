"""Figure 8: images with more noise than in training, after several numbers of steps."""

from pathlib import Path

import torch

from ..evaluation.evaluate import answers_by_step
from ..evaluation.image_figures import draw_images, save_picture
from ..tasks.image import photographs
from .runs import Laboratory, Run
from .table5 import TASK, problem

LEVEL = 75
STEPS = (1, 5, 30, 100)
SHOWN = ("camera", "astronaut")
"""Photographs in scikit-image's wheel."""


def reproduce(laboratory: Laboratory, preset: str, seeds: int) -> list[Path]:
    """Draw the photographs, one figure for each. Returns the paths of the written files."""
    solver = laboratory.model(Run(TASK, "irem", preset, 0))
    paths = []
    for name, image in photographs(SHOWN).items():
        clean = torch.from_numpy(image)[None, None]
        x, _ = problem(name, clean, LEVEL)
        answers = answers_by_step(solver, x, max(STEPS))
        # A solver that is done before has fewer answers.
        panels = {f"{count} step{'s' * (count > 1)}": answers[min(count, len(answers) - 1)] for count in STEPS}
        panels = {f"noise level {LEVEL}": x, **panels, "clean": clean}
        paths.append(laboratory.results / f"figure8-{preset}-{name}.png")
        drawn = draw_images({key: each[0, 0].numpy() for key, each in panels.items()}, name, columns=6)
        save_picture(drawn, paths[-1])
    return paths
