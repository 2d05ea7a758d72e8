"""Images as NumPy arrays: in colour by luminance and chrominance, and large ones in overlapping tiles."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

TILE = 512
"""Rows and columns that a tile contributes to the answer."""
OVERLAP = 48
"""Rows and columns of its neighbours that a tile sees on each side."""


@dataclass(frozen=True)
class Denoised:
    """A denoised image.

    Attributes:
        image: the answer, with the shape and the dtype of the image.
        steps: the most steps that a part of the image took.
        evaluations: the most evaluations of the energy for a part.
        converged: whether the solver's criterion fired for every part.
        sigma: the noise level in units of the image, given, or estimated by the energy; of the luminance, for colours.
            None if the energy does not tell.

    Examples:
        >>> import numpy as np
        >>> from energysolve import EnergySolver, FromInput
        >>> from energysolve.energies import FieldsEnergy
        >>> from energysolve.images import solve_image
        >>> solver = EnergySolver(FieldsEnergy(filters=4, size=5, groups=4), init=FromInput())
        >>> image = 0.5 + 0.1 * np.random.default_rng(0).standard_normal((24, 20))
        >>> denoised = solve_image(solver, image, sigma=0.1)  # a `Denoised`
        >>> denoised.image.shape, denoised.sigma, denoised.steps <= denoised.evaluations
        ((24, 20), 0.1, True)
    """

    image: np.ndarray
    steps: int
    evaluations: int
    converged: bool
    sigma: float | None


def denoise(solver: Any, image: Any, sigma: float | None = None, **options: Any) -> np.ndarray:
    """Remove the noise from an image of any size, grey or in colour.

    Args:
        solver: a solver for images, such as ``EnergySolver.from_pretrained("denoise")``.
        image: ``(H, W)``, ``(H, W, 1)`` or, in colour, ``(H, W, 3)``; further transparency ``(H, W, 2)`` or ``(H, W,
            4)`` is kept as it is. Integers of any depth, or floating-point numbers in [0, 1] plus noise.
        sigma: the standard deviation of the noise in units of the image (of 255 for 8 bits, of 65,535 for 16). By
            default the energy finds it from the image.
        **options: see `solve_image`.

    Returns:
        The image with the same shape and dtype; integers are rounded and stay within their range.

    Raises:
        ValueError: for an array of another kind, numbers that are not finite, or a noise level that the energy does not
            take.

    Examples:
        >>> import numpy as np
        >>> from energysolve import EnergySolver
        >>> from energysolve.images import denoise
        >>> noise = 25 * np.random.default_rng(0).standard_normal((24, 20, 3))
        >>> image = (128 + noise).clip(0, 255).astype(np.uint8)  # one colour everywhere, and noise
        >>> clean = denoise(EnergySolver.from_pretrained("denoise"), image, sigma=25)
        >>> clean.shape, clean.dtype, bool(clean.std() < image.std() / 2)
        ((24, 20, 3), dtype('uint8'), True)
    """
    return solve_image(solver, image, sigma, **options).image


@torch.no_grad()
def solve_image(
    solver: Any,
    image: Any,
    sigma: float | None = None,
    *,
    max_steps: int | None = None,
    tile: int = TILE,
    overlap: int = OVERLAP,
    progress: Callable[[int, int], None] | None = None,
) -> Denoised:
    """`denoise`, with the number of steps and the noise level beside the answer.

    A colour image is solved as luminance and two colour differences, which have less noise and less structure. Where
    all three colours are equal everywhere, they remain so. Large images are solved in tiles that overlap.

    Args:
        solver: as for `denoise`.
        image: as for `denoise`.
        sigma: as for `denoise`.
        max_steps: replaces the solver's.
        tile: rows and columns of a tile, a multiple of 4.
        overlap: rows and columns that a tile sees beyond its own on each side, a multiple of 4.
        progress: called with the number of tiles done, and of all.

    Raises:
        ValueError: as `denoise`, and for sizes of tiles that are no multiples of 4.

    Examples:
        >>> import numpy as np
        >>> from energysolve import EnergySolver, FromInput
        >>> from energysolve.energies import FieldsEnergy
        >>> from energysolve.images import solve_image
        >>> solver = EnergySolver(FieldsEnergy(filters=4, size=5, groups=4), init=FromInput())
        >>> image = 0.5 + 0.1 * np.random.default_rng(0).standard_normal((40, 20))
        >>> found = solve_image(solver, image, 0.1, tile=16, overlap=4, progress=lambda done, of: print(done, "of", of))
        1 of 3
        2 of 3
        3 of 3
        >>> found.image.shape
        (40, 20)
    """
    white, colours = _checked(image, sigma)
    if min(tile, overlap + 1) < 1 or tile % 4 or overlap % 4:
        raise ValueError(f"Tiles need sizes that are multiples of 4, tile of 4 or more; got {tile=}, {overlap=}.")
    told = sigma is not None
    if told and not getattr(solver.energy, "takes_noise_level", True):
        raise ValueError(
            f"{type(solver.energy).__name__} finds the noise level by itself and takes none: leave out sigma."
        )
    parameter = next(solver.parameters(), torch.zeros(()))
    precision = np.float64 if parameter.dtype == torch.float64 else np.float32
    pixels = torch.from_numpy(np.ascontiguousarray(colours.transpose(2, 0, 1), dtype=precision)).to(parameter) / white
    grey = len(pixels) == 1 or bool((pixels[0] == pixels[1]).all() and (pixels[0] == pixels[2]).all())
    planes, factors = (pixels[:1], torch.ones(1)) if grey else _opponents(pixels)
    levels = None if sigma is None else (factors * (sigma / white)).to(parameter)
    solved = _Planes(solver, max_steps, tile, overlap, progress).solve(planes.unsqueeze(1), levels)
    found = solved.y.squeeze(1)
    if not grey:
        found = _colours(found)
    answer = _like(image, found.expand(len(pixels), -1, -1).cpu().numpy(), white)
    estimated = None if solved.sigma is None else float(solved.sigma[0] / factors[0]) * white
    level = sigma if told else estimated
    return Denoised(answer, solved.steps, solved.evaluations, solved.converged, level)


def white_of(image: np.ndarray) -> float:
    """The value of white: the largest integer of the dtype, or 1 for floating-point numbers."""
    return float(np.iinfo(image.dtype).max) if np.issubdtype(image.dtype, np.integer) else 1.0


def _checked(image: Any, sigma: Any) -> tuple[float, np.ndarray]:
    """The value of white and the colours ``(H, W, 1)`` or ``(H, W, 3)``."""
    if isinstance(image, list | tuple):
        raise ValueError(
            f"Expected one image, got {len(image)} of them. Images may differ in size, so they are solved one at a "
            "time: [denoise(solver, image) for image in images]."
        )
    image = np.asarray(image)
    if not (np.issubdtype(image.dtype, np.integer) or np.issubdtype(image.dtype, np.floating)):
        raise ValueError(f"Expected an image of integers or floating-point numbers, got {image.dtype}.")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 2, 3, 4)) or not image.size:
        raise ValueError(
            f"Expected an image (H, W), (H, W, 1) or (H, W, 3), or with transparency (H, W, 2) or (H, W, 4), got shape "
            f"{image.shape}. Several images are solved one at a time."
        )
    if np.issubdtype(image.dtype, np.floating) and not np.isfinite(image).all():
        raise ValueError("The image has pixels that are NaN or infinite; replace them first.")
    if sigma is not None and not (np.ndim(sigma) == 0 and 0 <= float(sigma) < np.inf):
        raise ValueError(f"sigma must be a finite number of 0 or more, got {sigma!r}.")
    colours = image[..., None] if image.ndim == 2 else image[..., : 3 if image.shape[2] > 2 else 1]
    return white_of(image), colours


def _like(image: Any, found: np.ndarray, white: float) -> np.ndarray:
    """The colours ``(colours, H, W)`` in the shape and the dtype of the image, with its transparency."""
    answer = np.array(image)
    planes = answer[..., None] if answer.ndim == 2 else answer
    for number, plane in enumerate(found):  # one at a time, which takes less memory
        values = plane.astype(np.float64) * white
        if np.issubdtype(answer.dtype, np.integer):
            info = np.iinfo(answer.dtype)
            values = values.round().clip(info.min, info.max)
        planes[..., number] = values
    return answer


def _opponents(colours: Tensor) -> tuple[Tensor, Tensor]:
    """Luminance and two colour differences, in [0, 1] for colours in [0, 1], and their noise over that of the colours.

    Independent noise of the colours is independent in these planes, too.
    """
    red, green, blue = colours
    planes = torch.stack([(red + green + blue) / 3, (red - blue) / 2 + 0.5, (red - 2 * green + blue) / 4 + 0.5])
    return planes, torch.tensor([1 / 3, 1 / 2, 3 / 8]).sqrt()


def _colours(planes: Tensor) -> Tensor:
    """The inverse of `_opponents`."""
    light, first, second = planes[0], planes[1] - 0.5, planes[2] - 0.5
    return torch.stack([light + first + second * 2 / 3, light - second * 4 / 3, light - first + second * 2 / 3])


@dataclass
class _Solved:
    """Answers ``(planes, 1, H, W)``, and how they were found."""

    y: Tensor
    sigma: Tensor | None
    steps: int = 0
    evaluations: int = 0
    converged: bool = True


@dataclass(frozen=True)
class _Planes:
    """Solves planes of one size, tile by tile."""

    solver: Any
    max_steps: int | None
    tile: int
    overlap: int
    progress: Callable[[int, int], None] | None

    def solve(self, planes: Tensor, sigma: Tensor | None) -> _Solved:
        """The answers to ``(planes, 1, H, W)``; a constant plane is its own answer."""
        varied = [number for number, plane in enumerate(planes) if bool((plane != plane[0, 0, 0]).any())]
        if sigma is None and hasattr(self.solver.energy, "noise_level"):
            # From the whole image: tiles that estimate it each on their own would not fit together.
            sigma = planes.new_zeros(len(planes))
            sigma[varied] = self.solver.energy.noise_level(planes[varied]) if varied else sigma[varied]
        solved = _Solved(planes.clone(), sigma)
        windows = list(self._windows(*planes.shape[2:])) if varied else []
        for done, (own, seen, inner) in enumerate(windows):
            part = planes[varied][..., seen[0], seen[1]]
            x = part if sigma is None else (part, sigma[varied])
            found = self.solver.minimize(x, part, max_steps=self.max_steps)
            found.raise_for_status()
            for number, plane in enumerate(varied):
                solved.y[plane, :, own[0], own[1]] = found.y[number][:, inner[0], inner[1]]
            solved.steps = max(solved.steps, int(found.steps.max()))
            solved.evaluations = max(solved.evaluations, int(found.evaluations.max()))
            solved.converged &= bool(found.converged.all())
            if self.progress is not None:
                self.progress(done + 1, len(windows))
        return solved

    def _windows(self, height: int, width: int) -> Iterator[tuple[Any, Any, Any]]:
        """For each tile, the pixels that are its own, those that it sees, and its own ones within these."""
        for rows in self._intervals(height):
            for columns in self._intervals(width):
                yield tuple(zip(rows, columns, strict=True))  # pyright: ignore[reportReturnType]

    def _intervals(self, size: int) -> Iterator[tuple[slice, slice, slice]]:
        if size <= self.tile + 2 * self.overlap:
            yield slice(0, size), slice(0, size), slice(0, size)
            return
        for start in range(0, size, self.tile):
            stop = min(start + self.tile, size)
            low, high = max(start - self.overlap, 0), min(stop + self.overlap, size)
            yield slice(start, stop), slice(low, high), slice(start - low, stop - low)
