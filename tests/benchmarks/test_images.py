"""The time to remove noise from a photograph, against BM3D in the same run. Writes ``docs/results``."""

from pathlib import Path

import numpy as np
import pytest
import torch

from energysolve import EnergySolver
from energysolve.benchmarks.timing import paired
from energysolve.files import write_json
from energysolve.images import psnr
from energysolve.provenance import environment
from energysolve.seeding import stream
from energysolve.tasks.image import noisy, photographs

bm3d = pytest.importorskip("bm3d").bm3d

RESULTS = Path(__file__).parents[2] / "docs" / "results"
SIGMA = 50 / 255


@torch.no_grad()
def test_a_photograph_takes_at_most_twice_the_time_of_bm3d():
    clean = torch.from_numpy(photographs(["camera"])["camera"])[None, None]
    assert clean.shape == (1, 1, 512, 512)
    x, sigma = noisy(clean, SIGMA, stream("speed of denoising", 0)), torch.tensor([SIGMA])
    solver = EnergySolver.from_pretrained("denoise")
    image = x[0, 0].double().numpy()
    measured = paired(lambda: solver.minimize((x, sigma)), lambda: bm3d(image, SIGMA), rounds=5)
    solution = solver.minimize((x, sigma))
    found = {
        **measured,
        "evaluations": int(solution.evaluations[0]),
        "psnr": psnr(solution.y, clean).item(),
        "psnr of BM3D": psnr(torch.from_numpy(np.asarray(bm3d(image, SIGMA)))[None, None], clean).item(),
        "threads": torch.get_num_threads(),
    }
    about = {"kind": "denoising-speed", "command": "pytest tests/benchmarks/test_images.py"}
    write_json(RESULTS / "denoising-speed.json", {**about, **found, **environment("cpu")}, indent=2)
    assert found["evaluations"] <= 60, found
    assert measured["ratio"] <= 2, found
