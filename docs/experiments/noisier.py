"""Denoising at levels that training never saw: what is lost against the same energy trained on them.

    python docs/experiments/noisier.py --train-data Train400 --test-data BSD68 --output docs/results/noisier.json

The shipped energy knows noise of levels up to 55. Here its training is continued with levels up to 75, from its own
weights, and it is evaluated at 65 and 75 on the test images with the very noise of Table 5.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from energysolve import EnergySolver
from energysolve.differentiation import CG, Implicit
from energysolve.experiments.runs import Laboratory
from energysolve.experiments.table5 import problem, test_images
from energysolve.halting import GradientNorm
from energysolve.images import psnr
from energysolve.optimizers import LBFGS
from energysolve.presets.image import BEST
from energysolve.seeding import stream
from energysolve.tasks.image import Denoising
from energysolve.training import MinimumLoss, SupervisedTrainer, make_accelerator

MOST = 75
LEVELS = (65, 75)
RATE = 0.01
"""A sixth of that of the preset: training continues from weights that are good already."""


def _told(x: Any, target: Any) -> Any:
    return x, (x - target).square().flatten(1).mean(1).sqrt()


def trained(folder: Path | None, iterations: int, seed: int) -> EnergySolver:
    """The shipped solver after further training with noise of higher levels."""
    shipped, settings = EnergySolver.from_pretrained("denoise"), BEST.settings
    learning = shipped.replace(
        optimizer=LBFGS(memory=5),
        halting=GradientNorm(rtol=settings["tolerance"]),
        differentiation=Implicit(CG(rtol=settings["linear_tolerance"], max_steps=60)),
        compact=False,
    )
    task = Denoising(size=BEST.size, folder=None if folder is None else str(folder), most=MOST)
    config = BEST.training.changed({"lr": RATE})
    trainer = SupervisedTrainer(
        MinimumLoss(learning, settings["power"], pose=_told),
        task,
        config,
        generator=stream("noisier", seed),
        accelerator=make_accelerator(cpu=True),
    )
    trainer.fit(iterations)
    return shipped.replace(energy=learning.energy)


@torch.no_grad()
def evaluated(solver: EnergySolver, laboratory: Laboratory) -> dict[str, dict[str, float]]:
    """The peak signal-to-noise ratio of each test image at each level."""
    images = test_images(laboratory)
    return {
        str(level): {
            name: psnr(solver.minimize(problem(name, clean, level)).y, clean).item() for name, clean in images.items()
        }
        for level in LEVELS
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python docs/experiments/noisier.py", description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--train-data", type=Path)
    parser.add_argument("--test-data", type=Path)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--iterations", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    command = f"{parser.prog} {shlex.join(sys.argv[1:] if arguments is None else arguments)}"
    folder = given.output.parent
    laboratory = Laboratory(folder, folder, command, problems=given.images, test_data=given.test_data)
    found = evaluated(trained(given.train_data, given.iterations, given.seed), laboratory)
    about = {"kind": "noisier", "command": command, "iterations": given.iterations, "most": MOST, "seed": given.seed}
    laboratory.write(given.output, about | {"levels": found})


if __name__ == "__main__":
    main()
