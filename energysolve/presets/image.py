"""Image denoising."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..baselines import Baseline
from ..baselines.image import DnCNN
from ..differentiation import CG, Implicit, Truncated
from ..energies.fields import FieldsEnergy
from ..energies.image import ConvEnergy
from ..halting import GradientNorm
from ..initializers import FromInput
from ..optimizers import LBFGS, SGD
from ..seeding import stream
from ..solver import EnergySolver
from ..tasks.image import Denoising, images_of
from ..training import Cosine, MinimumLoss, OneCycle, TrainingConfig
from .domain import Domain, FileJob, FileOption
from .methods import baseline_preset
from .preset import Preset, Settings

_CONVOLUTIONS: Settings = {
    "width": 32,
    "depth": 3,
    "features": 32,
    "symmetric": True,
    "step_size": 0.5,
    "test_tolerance": 1e-2,
    "test_max_steps": 100,
}
"""Of `ConvEnergy`. ``step_size`` is for training, those that begin with ``test`` are for the saved solver."""


def _network(task: Denoising, settings: Settings) -> EnergySolver:
    energy = ConvEnergy(settings["width"], settings["depth"], settings["features"], settings["symmetric"])
    return EnergySolver(energy, SGD(settings["step_size"]), init=task.init)


def _at_test_time(solver: EnergySolver, settings: Settings) -> EnergySolver:
    return solver.replace(
        optimizer=LBFGS(),
        halting=GradientNorm(rtol=settings["test_tolerance"]),
        max_steps=settings["test_max_steps"],
        compact=True,
    )


PAPER = Preset(
    _network,
    iterations=25_000,
    # The paper's five steps. The energy has to be learned at its minimum, so answers are optimized further by replay.
    # Patches are large: the network would otherwise learn most about pixels near a border.
    training=TrainingConfig(
        train_steps=5,
        differentiation=Truncated(3),
        batch_size=4,
        replay=1000,
        lr=4e-3,
        schedule=OneCycle(),
        clip_norm=0.05,
    ),
    settings=_CONVOLUTIONS,
    in_use=_at_test_time,
    size=80,
)
"""The paper's way: five steps, of which the last are differentiated, a replay buffer, and noise levels up to 55."""

_FIELDS: Settings = {
    "filters": 48,
    "filter_size": 13,
    "potentials": 24,
    "convexity": 20.0,
    "power": 1.25,
    "tolerance": 1e-2,
    "linear_tolerance": 0.1,
    "test_tolerance": 1e-2,
    "test_max_steps": 100,
}
"""Of `FieldsEnergy` and `MinimumLoss`; the tolerances are of the minima and of their derivatives."""


def _minima(task: Denoising, settings: Settings) -> MinimumLoss:
    energy = FieldsEnergy(settings["filters"], settings["filter_size"], settings["potentials"], settings["convexity"])
    side = 180  # of the crops of the usual training set; others are cut to it
    images = [torch.from_numpy(image[:side, :side]) for image in images_of(task.folder).values()]
    images = torch.stack([image for image in images if image.shape == (side, side)])[:, None]
    energy.noise.fit(images, task.most / 255, stream("noise level", settings["seed"]))
    solver = EnergySolver(
        energy,
        LBFGS(memory=5),
        init=task.init,
        halting=GradientNorm(rtol=settings["tolerance"]),
        differentiation=Implicit(CG(rtol=settings["linear_tolerance"], max_steps=60)),
        max_steps=settings["test_max_steps"],
    )
    return MinimumLoss(solver, settings["power"], pose=_told)


def _told(x: Any, target: Any) -> Any:
    """Training knows the noise: it estimates no levels, which takes larger images."""
    return x, (x - target).square().flatten(1).mean(1).sqrt()


def _minimizer(model: MinimumLoss, settings: Settings) -> EnergySolver:
    return EnergySolver(
        model.energy,
        init=FromInput(),
        halting=GradientNorm(rtol=settings["test_tolerance"]),
        max_steps=settings["test_max_steps"],
    )


BEST = Preset(
    _minima,
    iterations=4000,
    training=TrainingConfig(batch_size=6, lr=0.06, schedule=OneCycle(), clip_norm=1.0, replay=0),
    settings=_FIELDS,
    in_use=_minimizer,
    size=48,
    stream="train best",
)
"""Fields of experts, trained at their minimum by the implicit function theorem."""

ENERGIES = (FieldsEnergy, ConvEnergy)
"""Classes of the energies of the presets."""


def _task_of(solver: EnergySolver) -> Denoising:
    if not isinstance(solver.energy, ENERGIES):
        names = ", ".join(each.__name__ for each in ENERGIES)
        raise ValueError(f"the model is no energy of images; those are: {names}")
    return Denoising()


def solve_file(solver: EnergySolver, job: FileJob) -> tuple[str, list[Any]]:
    """Denoise an image or a folder of images, with a picture of before and after for each."""
    # Imported on demand: matplotlib takes a second to import.
    from ..evaluation.image_figures import draw_images, save_picture
    from ..images import read_image
    from ..streaming.images import solve_image_files

    reference = job.options.get("reference")
    solved = solve_image_files(
        solver.replace(init=FromInput()),
        job.input,
        job.output,
        sigma=job.options.get("sigma"),
        reference=reference,
        overwrite=job.overwrite,
        progress=job.progress,
    )
    lines, figures, gains = [], [], []
    for found in solved:
        panels = {"before": found.noisy, "after": found.solved.image}
        if reference is not None:
            panels["reference"] = read_image(reference / found.input.name if reference.is_dir() else reference).pixels
            gains.append((found.before, found.after))
        figures.append(found.output.with_name(f"{found.output.stem}-before-after.png"))
        save_picture(draw_images(panels, found.input.name), figures[-1])
        lines.append(str(found))
    if len(gains) > 1:
        before, after = (sum(each) / len(gains) for each in zip(*gains, strict=True))
        lines.append(f"PSNR of {len(gains)} images on average: {before:.2f} -> {after:.2f} dB")
    return "\n".join(lines), figures


_BASELINES: dict[str, type[Baseline]] = {"dncnn": DnCNN}

DNCNN = baseline_preset(
    Preset(
        _network,
        iterations=390_000,  # 50 epochs of 128 * 8000 patches, as published; for a GPU
        training=TrainingConfig(batch_size=128, lr=1e-3, schedule=Cosine()),
        size=50,
        stream="train dncnn",
    ),
    DnCNN,
)
"""The training of DnCNN, blind, with the paper's noise levels."""

DENOISE = Domain(
    name="denoise",
    title="Image denoising",
    task=Denoising,
    size=64,
    task_of=_task_of,
    presets={"paper": PAPER, "best": BEST},
    energies=ENERGIES,
    baselines=_BASELINES,
    method_presets={"dncnn": DNCNN},
    solve_file=solve_file,
    file_options={
        "sigma": FileOption("Images: noise level, of 255; by default the energy finds it.", float),
        "reference": FileOption("Images: the clean image, or a folder of them, to compare with.", Path),
    },
    with_data=lambda task, folder: replace(task, folder=str(folder)),
    harder="75",
    section="images",
    problems=50,
)
