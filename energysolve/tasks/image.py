"""The denoising of images (Appendix A of the paper, with the protocol of Chen et al., ICML 2020)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..checks import check_nonnegative, check_whole
from ..images.files import IMAGE_SUFFIXES, read_image
from ..images.problems import noisy_images
from ..images.quality import psnr
from ..initializers import FromInput, Initializer
from ..layout import Dense
from .base import Task

LEVELS = (15, 25, 45, 50, 55, 65, 75)
"""Noise levels of the difficulties, of 255. The paper trains on levels up to 55."""
PHOTOGRAPHS = ("astronaut", "brick", "camera", "chelsea", "coffee", "coins", "grass", "gravel", "rocket")
"""Photographs in scikit-image's wheel."""


class Pixels(NamedTuple):
    """Grey images of any sizes, one after the other.

    Attributes:
        values: all pixels, row by row.
        first: the first pixel of each image.
        width: the number of columns of each image.
        rows: the number of patches of a size below each other in each image.
        ends: the cumulative number of patches.
    """

    values: Tensor
    first: Tensor
    width: Tensor
    rows: Tensor
    ends: Tensor


@dataclass(frozen=True)
class Denoising(Task):
    """Remove Gaussian noise from patches of grey images in [0, 1].

    A patch is one of all patches of the images with equal probability, flipped and turned at random. ``x`` is ``(batch,
    1, size, size)``, the patch plus noise, which is not clipped; the target is the patch. The standard deviation of the
    noise is uniform in (0, ``most`` / 255) for each ``"same"`` problem, as in training, and fixed for the difficulties
    ``"15"`` to ``"75"``, those above 55 outside of the paper's training. With ``told``, ``x`` is a tuple ``(images,
    sigma)``, with ``sigma (batch,)`` in the units of the images. The error is the mean squared error of answers clipped
    to [0, 1].

    Solvers trained on patches take images of any size; `energysolve.images.denoise` takes them in colour.

    Args:
        size: rows and columns of a patch.
        folder: a folder of images of any size, grey or in colour, of which the luminance is taken; None for the
            photographs in scikit-image's wheel.
        most: the highest noise level of training, of 255; 55 in the paper.
        told: whether problems state their noise level.

    Raises:
        ValueError: for a size or level out of range; from `sample`, for a folder without images, or with an image
            smaller than a patch.

    Examples:
        >>> from energysolve.tasks import Denoising
        >>> x, target = Denoising(size=64).sample(5, "25")  # noise with a standard deviation of 25/255
        >>> x.shape, (x - target).std().mul(255).round()
        (torch.Size([5, 1, 64, 64]), tensor(25.))
    """

    size: int = 64
    folder: str | None = None
    most: float = 55.0
    told: bool = False
    init: Initializer = field(init=False, repr=False, compare=False)
    difficulties = ("same", *map(str, LEVELS))

    def __post_init__(self):
        check_whole("Denoising", least=1, size=self.size)
        check_nonnegative("Denoising", most=self.most)
        object.__setattr__(self, "init", FromInput())

    def sample(self, batch, difficulty="same", generator=None, device=None):
        self.check_difficulty(difficulty)
        target = self.patches(batch, generator, device)
        if difficulty == "same":
            sigma = torch.rand(batch, generator=generator, device=device) * (self.most / 255)
        else:
            sigma = torch.full((batch,), float(difficulty) / 255, device=device)
        x = noisy(target, sigma, generator)
        return (x, sigma) if self.told else x, target

    def patches(
        self, batch: int, generator: torch.Generator | None = None, device: torch.device | str | None = None
    ) -> Float[Tensor, "batch 1 size size"]:
        """Random patches of the images."""
        pixels = _pixels(self.folder, self.size, str(torch.device(device or "cpu")))

        def below(bound: Tensor | int) -> Tensor:
            # The remainder of so large a number is uniform to one part in 10^9 and needs no loop over images.
            return torch.randint(2**52, (batch,), generator=generator, device=device) % bound

        place = below(pixels.ends[-1])
        image = torch.searchsorted(pixels.ends, place, right=True)
        place = place - torch.where(image > 0, pixels.ends[image - 1], 0)
        row, column = place % pixels.rows[image], place // pixels.rows[image]
        turned, down, right = (below(2).bool().view(-1, 1, 1) for _ in range(3))
        step = torch.arange(self.size, device=device)
        i, j = step.view(1, -1, 1), step.view(1, 1, -1)
        i, j = torch.where(turned, j, i), torch.where(turned, i, j)
        i, j = torch.where(down, self.size - 1 - i, i), torch.where(right, self.size - 1 - j, j)
        rows, columns = row.view(-1, 1, 1) + i, column.view(-1, 1, 1) + j
        width = pixels.width[image].view(-1, 1, 1)
        return pixels.values[pixels.first[image].view(-1, 1, 1) + rows * width + columns].unsqueeze(1)

    def error(self, solution, target):
        return (solution.y.clamp(0, 1) - target).square().flatten(1).mean(-1)

    def floors(self, difficulty, x, target, mean_target=None):
        """Also ``"noisy image"``, the error of the problem itself."""
        return super().floors(difficulty, x, target) | {"noisy image": self.error_of(noisy_images(x), x, target)}

    def layout(self, x):
        return Dense(len(noisy_images(x)))


def noisy(
    images: Float[Tensor, "batch 1 height width"],
    sigma: Float[Tensor, " batch"] | float,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "batch 1 height width"]:
    """Images plus Gaussian noise of these standard deviations, not clipped."""
    noise = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
    return images + (sigma.view(-1, 1, 1, 1) if isinstance(sigma, Tensor) else sigma) * noise


def grey(pixels: np.ndarray) -> np.ndarray:
    """An image in [0, 1], float32: grey as it is, of colours the luminance (ITU-R BT.601); transparency is ignored."""
    white = np.iinfo(pixels.dtype).max if np.issubdtype(pixels.dtype, np.integer) else 1
    if pixels.ndim == 3:
        pixels = pixels[..., :3] @ np.array([0.299, 0.587, 0.114]) if pixels.shape[2] > 2 else pixels[..., 0]
    return (pixels / white).astype(np.float32)


def photographs(names: Sequence[str] = PHOTOGRAPHS) -> dict[str, np.ndarray]:
    """The photographs of scikit-image's wheel, grey, by name.

    Raises:
        ImportError: if scikit-image is not installed.
    """
    try:
        from skimage import data
    except ImportError as error:
        raise ImportError(
            "Without a folder of images the task takes the photographs of scikit-image: pip install energysolve[image]."
        ) from error
    return {name: grey(getattr(data, name)()) for name in names}


def images_of(folder: str | Path | None) -> dict[str, np.ndarray]:
    """The images of a folder in the order of their names, grey; without a folder, `photographs`.

    Raises:
        ValueError: if there is no such folder, or no image in it.
    """
    if folder is None:
        return photographs()
    paths = sorted(path for path in Path(folder).glob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise ValueError(f"There are no images in {folder}; expected a folder of {', '.join(IMAGE_SUFFIXES)}.")
    return {path.stem: grey(read_image(path).pixels) for path in paths}


@lru_cache(maxsize=4)
def _pixels(folder: str | None, size: int, device: str) -> Pixels:
    images = images_of(folder)
    for name, image in images.items():
        if min(image.shape) < size:
            raise ValueError(
                f"The image {name!r} of {image.shape[0]} x {image.shape[1]} pixels is smaller than a patch of {size} x "
                f"{size}. Take smaller patches (size), or leave it out."
            )
    shapes = torch.tensor([image.shape for image in images.values()], device=device)
    counts = shapes.prod(1)
    rows, columns = (shapes - size + 1).unbind(1)
    values = torch.cat([torch.from_numpy(image).flatten() for image in images.values()]).to(device)
    return Pixels(values, counts.cumsum(0) - counts, shapes[:, 1], rows, (rows * columns).cumsum(0))


def mean_psnr(y: Any, target: Any) -> float:
    """The mean over images of their peak signal-to-noise ratios."""
    return psnr(y, target).mean().item()
