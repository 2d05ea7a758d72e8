"""Files of images, and folders of them: denoised, and compared with clean ones."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ..images import IMAGE_SUFFIXES, Denoised, psnr, read_image, solve_image, write_image
from ..images.denoising import white_of
from ..images.files import check_writable
from ..solver import EnergySolver

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SolvedImage:
    """An image of a file with its answer.

    Attributes:
        input: the file that was read.
        output: the file that was written.
        noisy: the pixels that were read.
        solved: the answer.
        before: the peak signal-to-noise ratio of the image that was read, in decibels; None without a reference.
        after: that of the answer.

    Examples:
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from energysolve import EnergySolver, FromInput
        >>> from energysolve.energies import FieldsEnergy
        >>> from energysolve.images import write_image
        >>> from energysolve.streaming.images import solve_image_files
        >>> write_image(np.random.default_rng(0).integers(100, 150, (24, 20), dtype=np.uint8), "noisy.png")
        >>> solver = EnergySolver(FieldsEnergy(filters=4, size=5, groups=4), init=FromInput())
        >>> solved = next(solve_image_files(solver, Path("noisy.png"), Path("clean.png"), sigma=15))  # a `SolvedImage`
        >>> print(solved)
        noisy.png: 20 x 24 pixels, grey, uint8, noise level 15.0 of 255, ... steps...
    """

    input: Path
    output: Path
    noisy: np.ndarray
    solved: Denoised
    before: float | None = None
    after: float | None = None

    def __str__(self) -> str:
        height, width = self.noisy.shape[:2]
        kind = f"{'colour' if self.noisy.ndim == 3 and self.noisy.shape[2] > 2 else 'grey'}, {self.noisy.dtype}"
        parts = [f"{self.input.name}: {width} x {height} pixels, {kind}"]
        if self.solved.sigma is not None:
            parts.append(f"noise level {self.solved.sigma / white_of(self.noisy) * 255:.1f} of 255")
        parts.append(f"{self.solved.steps} steps" + ("" if self.solved.converged else ", not converged"))
        if self.before is not None and self.after is not None:
            parts.append(f"PSNR {self.before:.2f} -> {self.after:.2f} dB")
        return ", ".join(parts)


def solve_image_files(
    solver: EnergySolver,
    input: Path,
    output: Path,
    *,
    sigma: float | None = None,
    reference: Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Iterator[SolvedImage]:
    """Denoise an image, or each image in a folder, and write the answers.

    Files are checked before the first is solved: their names, and whether answers would replace others.

    Args:
        solver: a solver for images.
        input: an image, or a folder of images.
        output: a file for the answer, or a folder for answers of the same names and kinds.
        sigma: the noise level, of 255; by default the energy finds it.
        reference: the clean image, or a folder of clean images of the same names.
        overwrite: whether answers in a folder may replace files.
        progress: called with the number of parts of images done, and of all.

    Yields:
        One result for each image, as soon as it is written.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ValueError: if a file is damaged or of another kind, an answer cannot be written, or a reference does not fit.

    Examples:
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from energysolve import EnergySolver, FromInput
        >>> from energysolve.energies import FieldsEnergy
        >>> from energysolve.images import write_image
        >>> from energysolve.streaming.images import solve_image_files
        >>> for name in ("a.png", "b.png"):
        ...     write_image(np.random.default_rng(0).integers(100, 150, (24, 20), dtype=np.uint8), f"noisy/{name}")
        >>> solver = EnergySolver(FieldsEnergy(filters=4, size=5, groups=4), init=FromInput())
        >>> solved = solve_image_files(solver, Path("noisy"), Path("clean"), sigma=15)
        >>> [each.output.as_posix() for each in solved]
        ['clean/a.png', 'clean/b.png']
    """
    if not input.is_dir():
        yield _solve(solver, input, output, sigma, reference, progress)
        return
    for job in _jobs(input, output, reference, overwrite):
        yield _solve(solver, *job[:2], sigma, job[2], progress)


def _jobs(input: Path, output: Path, reference: Path | None, overwrite: bool) -> list[tuple[Path, Path, Path | None]]:
    """The image, the answer and the reference of each image in a folder."""
    images = sorted(path for path in input.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise ValueError(f"There are no images in {input}; expected {', '.join(IMAGE_SUFFIXES)}.")
    if output.is_file() or output.suffix.lower() in IMAGE_SUFFIXES:
        raise ValueError(f"{input} is a folder, so --output must be a folder, too; got {output}.")
    if output.resolve() == input.resolve():
        raise ValueError(f"The answers would replace the images in {input}: choose another folder as output.")
    if reference is not None and not reference.is_dir():
        raise ValueError(f"{input} is a folder, so the reference must be a folder of images of the same names.")
    jobs = [(path, output / path.name, None if reference is None else reference / path.name) for path in images]
    existing = [answer.name for _, answer, _ in jobs if answer.exists()]
    if existing and not overwrite:
        raise ValueError(
            f"{output} holds {len(existing)} of the answers already, such as {existing[0]}. Choose another folder, or "
            "pass --overwrite."
        )
    return jobs


def _solve(
    solver: EnergySolver,
    input: Path,
    output: Path,
    sigma: float | None,
    reference: Path | None,
    progress: Progress | None,
) -> SolvedImage:
    noisy = read_image(input).pixels
    check_writable(output, noisy)
    clean = None if reference is None else read_image(reference).pixels
    if clean is not None and _colours(clean).shape != _colours(noisy).shape:
        raise ValueError(f"The reference {reference} has shape {clean.shape}, and {input} has {noisy.shape}.")
    white = white_of(noisy)
    if white == 1 and np.abs(noisy).max() > 4:
        raise ValueError(
            f"{input} holds floating-point numbers up to {np.abs(noisy).max():g}; expected those of an image in [0, 1] "
            "plus noise. Divide them by the value of white."
        )
    try:
        solved = solve_image(solver, noisy, None if sigma is None else sigma / 255 * white, progress=progress)
    except ValueError as error:
        raise ValueError(f"{input}: {error}") from error
    write_image(solved.image, output)
    found = SolvedImage(input, output, noisy, solved)
    if clean is None:
        return found
    return replace(found, before=_psnr(noisy, clean), after=_psnr(solved.image, clean))


def _colours(pixels: np.ndarray) -> np.ndarray:
    """The pixels without transparency, ``(H, W, 1)`` or ``(H, W, 3)``."""
    return pixels[..., None] if pixels.ndim == 2 else pixels[..., : 3 if pixels.shape[2] > 2 else 1]


def _psnr(pixels: np.ndarray, clean: np.ndarray) -> float:
    """Over all pixels and colours; each image in units of its own white."""
    a, b = (torch.from_numpy(_colours(each) / white_of(each))[None] for each in (pixels, clean))
    return psnr(a, b).item()
