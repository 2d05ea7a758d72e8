"""What problems of denoising look like: tensors of noisy images, with or without their noise levels."""

from typing import Any

from jaxtyping import Float
from torch import Tensor


def noisy_images(x: Any) -> Float[Tensor, "batch 1 height width"]:
    """The images of problems: ``x`` itself, or the first entry of a tuple ``(images, sigma)``.

    Raises:
        ValueError: unless they are floating-point images ``(batch, 1, H, W)`` with at least one pixel, and the noise
            levels, if there are any, are ``(batch,)``.

    Examples:
        >>> import torch
        >>> from energysolve.images import noisy_images
        >>> images, sigma = torch.rand(2, 1, 8, 8), torch.tensor([0.1, 0.2])
        >>> torch.equal(noisy_images((images, sigma)), noisy_images(images))
        True
        >>> noisy_images(torch.rand(8, 8))
        Traceback (most recent call last):
        ...
        ValueError: Images to denoise are one floating-point tensor (batch, 1, H, W), ...
    """
    told = isinstance(x, tuple) and len(x) == 2
    images = x[0] if told else x
    if not isinstance(images, Tensor):
        many = " Solve images of unlike size one at a time." if isinstance(x, list | tuple) else ""
        raise ValueError(f"{_EXPECTED}; got a {type(x).__name__}.{many} {_ARRAYS}")
    if images.ndim != 4 or images.shape[1] != 1 or not images.is_floating_point():
        raise ValueError(f"{_EXPECTED}; got {images.dtype} of shape {tuple(images.shape)}. {_ARRAYS}")
    if not min(images.shape[2:]):
        raise ValueError(f"An image needs at least one pixel; got images of shape {tuple(images.shape)}.")
    if told and (not isinstance(x[1], Tensor) or x[1].shape != images.shape[:1]):
        got = tuple(x[1].shape) if isinstance(x[1], Tensor) else type(x[1]).__name__
        raise ValueError(f"Expected one noise level for each of the {len(images)} images, ({len(images)},); got {got}.")
    return images


_EXPECTED = (
    "Images to denoise are one floating-point tensor (batch, 1, H, W), in [0, 1] plus noise, or a tuple of that and "
    "the noise levels (batch,)"
)
_ARRAYS = "energysolve.images.denoise takes single images as NumPy arrays, of any size, grey or in colour."
