"""Table 5: images with noise of several levels, those beyond training included (Appendix A)."""

import json
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..files import tensors_digest
from ..images import psnr, ssim
from ..seeding import stream
from ..tasks.image import LEVELS, images_of, noisy
from .denoisers import BM3D, NonLocalMeans, TotalVariation
from .runs import Laboratory, Run
from .tables import markdown, origin, page

PUBLISHED: Mapping[str, Mapping[int, float]] = {
    "UNLNet": {45: 26.48, 55: 25.64},
    "DnCNN, blind": {45: 26.56, 55: 25.71, 65: 22.19, 75: 17.90},
    "DnCNN-stop": {45: 26.48, 55: 25.79, 65: 23.56, 75: 18.62},
    "IREM": {45: 26.52, 55: 25.85, 65: 23.87, 75: 23.43},
}
"""Peak signal-to-noise ratios of the paper's Table 5, on BSD68; the baselines' are of Chen et al. (2020)."""

TRAINED_UP_TO = 55
"""The highest noise level of training."""
TASK = "denoise"
CLASSICAL: Mapping[str, Any] = {"bm3d": BM3D(), "non-local-means": NonLocalMeans(), "total-variation": TotalVariation()}
_TITLES = {"noisy": "noisy image", "bm3d": "BM3D", "non-local-means": "non-local means"}
_TITLES |= {"total-variation": "total variation", "dncnn": "DnCNN, blind"}


def reproduce(laboratory: Laboratory, preset: str, seeds: int) -> list[Path]:
    """Evaluate the preset's energy and the classical methods at every level. Returns the paths of the written files.

    Every level of every method has its own result file, so that an interrupted run continues.
    """
    images = test_images(laboratory)
    methods: dict[str, tuple[Any, bool]] = {"noisy": (None, False)}
    methods |= {name: (method, True) for name, method in CLASSICAL.items()}
    solver = laboratory.model(Run(TASK, "irem", preset, 0))
    methods[preset] = (solver, False)
    if getattr(solver.energy, "takes_noise_level", True):
        methods[f"{preset}-told"] = (solver, True)
    written = []
    for name, (method, told) in methods.items():
        for level in LEVELS:
            written.append(_path(laboratory, name, level))
            if not _done(written[-1], images):
                laboratory.log(f"{name}: noise level {level}")
                laboratory.write(written[-1], _evaluated(laboratory, name, method, told, images, level))
    return [*written, laboratory.write_page("table5.md", table(laboratory.results))]


def test_images(laboratory: Laboratory) -> dict[str, Tensor]:
    """The test images ``(1, 1, H, W)`` by name, at most as many as the laboratory has problems."""
    folder = laboratory.test_data
    found = images_of(None if folder is None else folder)
    chosen = list(found.items())[: laboratory.problems]
    return {name: torch.from_numpy(image)[None, None] for name, image in chosen}


def problem(name: str, image: Tensor, level: float) -> tuple[Tensor, Tensor]:
    """The noisy image, the same for every method, and its noise level."""
    return noisy(image, level / 255, stream(f"noise {level} {name}", 0)), torch.tensor([level / 255])


@torch.no_grad()
def _evaluated(
    laboratory: Laboratory, name: str, method: Any, told: bool, images: Mapping[str, Tensor], level: int
) -> dict[str, Any]:
    """The qualities, steps and seconds of a method on every image. JSON-able."""
    found: dict[str, dict[str, Any]] = {}
    for image, clean in images.items():
        x, sigma = problem(image, clean, level)
        started = time.perf_counter()
        if method is None:
            y, steps, evaluations = x, 0, 0
        else:
            solution = method.solve((x, sigma) if told else x)
            y, steps = solution.y, int(solution.steps[0])
            evaluations = steps if solution.evaluations is None else int(solution.evaluations[0])
        seconds = round(time.perf_counter() - started, 3)
        quality = {"psnr": psnr(y, clean).item(), "ssim": ssim(y, clean).item()}
        found[image] = quality | {"steps": steps, "evaluations": evaluations, "seconds": seconds}
    about = {"kind": "denoising", "command": laboratory.command, "method": name, "told": told, "level": level}
    return about | {"digest": tensors_digest(images), "images": found}


def _path(laboratory: Laboratory, name: str, level: int) -> Path:
    return laboratory.results / "denoising" / f"{name}-{level}.json"


def _done(path: Path, images: Mapping[str, Tensor]) -> bool:
    """Whether there is a result; a ValueError if it is of other images."""
    if not path.exists():
        return False
    if json.loads(path.read_text(encoding="utf-8"))["digest"] != tensors_digest(images):
        raise ValueError(f"{path} has an evaluation on other images. Choose another folder for results.")
    return True


def recorded(results: Path) -> dict[str, dict[int, dict[str, Any]]]:
    """The results of all methods in a folder, by method and level."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for path in sorted((results / "denoising").glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        if result["kind"] == "denoising":
            found.setdefault(result["method"], {})[result["level"]] = result
    first = [name for name in _TITLES if name in found]
    return {name: found[name] for name in [*first, *(name for name in found if name not in first)]}


def table(results: Path) -> str:
    """The table of the results recorded in a folder, beside the published ones, as Markdown."""
    found = recorded(results)
    levels = [level for level in LEVELS if any(level in each for each in found.values())]
    headings = ["method", *(f"{'*' * (level > TRAINED_UP_TO)}{level}" for level in levels)]
    blocks = ["# Table 5: images with noise", _INTRODUCTION, "## Peak signal-to-noise ratio, in decibels"]
    published = [
        [f"{name} (published, BSD68)", *(f"{each[k]:.2f}" if k in each else None for k in levels)]
        for name, each in PUBLISHED.items()
        if any(k in each for k in levels)
    ]
    blocks.append(markdown(headings, [*published, *_rows(found, levels, "psnr", 2)]))
    blocks += ["## Structural similarity", markdown(headings, _rows(found, levels, "ssim", 3))]
    energies = {name: each for name, each in found.items() if name != "noisy" and name not in CLASSICAL}
    blocks += ["## Evaluations of the energy", markdown(headings, _rows(energies, levels, "evaluations", 1))]
    everything = [each for method in found.values() for each in method.values()]
    count = {len(each["images"]) for each in everything}
    if everything:
        where = origin(everything).replace("docs/results/runs", "docs/results/denoising")
        blocks.append(f"Each on {', '.join(map(str, sorted(count)))} images. {where}")
    return page(*blocks)


def _rows(found: Mapping[str, Mapping[int, Any]], levels: list[int], what: str, digits: int) -> list[list[Any]]:
    rows = []
    for name, results in found.items():
        cells = [
            f"{statistics.fmean(each[what] for each in results[level]['images'].values()):.{digits}f}"
            if level in results
            else None
            for level in levels
        ]
        rows.append([title_of(name), *cells])
    return rows


def title_of(name: str) -> str:
    """The title of a method: of the energy's presets, also whether they were told the noise level."""
    told = name.endswith("-told") or name in CLASSICAL
    title = _TITLES.get(name, f"IREM, `{name.removesuffix('-told')}`")
    return f"{title}, told the noise level" if told else title


_INTRODUCTION = (
    "Means over the test images of each image's quality, after clipping to [0, 1]; the noise is Gaussian, of the level "
    "given (of 255), and not clipped. All methods get the same noise. Levels with * lie beyond those of training. "
    "Energies find the noise level themselves unless they are told. Published results are quoted from the paper, whose "
    "baselines are those of Chen et al. (2020), and were not measured here."
)
