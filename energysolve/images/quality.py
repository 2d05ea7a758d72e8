"""How close an image is to another: peak signal-to-noise ratio and structural similarity."""

import torch
from jaxtyping import Float
from torch import Tensor


def psnr(images: Float[Tensor, "batch *pixels"], target: Float[Tensor, "batch *pixels"]) -> Float[Tensor, " batch"]:
    """The peak signal-to-noise ratio of each image in decibels, ``-10 log10`` of the mean squared error.

    White is 1. Both are clipped to [0, 1] first, as in the literature on denoising. Equal images have infinity. Tables
    report the mean over images of these numbers.

    Examples:
        >>> import torch
        >>> from energysolve.images import psnr
        >>> target = torch.full((2, 1, 8, 8), 0.5)
        >>> errors = torch.tensor([0.1, 0.01]).view(2, 1, 1, 1)
        >>> psnr(target + errors, target).round()  # a tenth of the error: 20 decibels more
        tensor([20., 40.], dtype=torch.float64)
    """
    error = (images.clamp(0, 1).double() - target.clamp(0, 1).double()).square().flatten(1).mean(1)
    return -10 * torch.log10(error)


def ssim(
    images: Float[Tensor, "batch 1 height width"], target: Float[Tensor, "batch 1 height width"]
) -> Float[Tensor, " batch"]:
    """The structural similarity of each image (Wang et al., 2004), with their Gaussian window of 11 x 11 pixels.

    White is 1, and both are clipped to [0, 1] first. It is computed by scikit-image.

    Raises:
        ValueError: for images of fewer than 11 x 11 pixels.

    Examples:
        >>> import torch
        >>> from energysolve.images import ssim
        >>> target = torch.rand(1, 1, 16, 16)
        >>> ssim(target, target).round(decimals=3), bool(ssim(1 - target, target) < 0)
        (tensor([1.], dtype=torch.float64), True)
    """
    if min(images.shape[2:]) < 11:
        raise ValueError(f"The structural similarity needs 11 x 11 pixels or more; got {tuple(images.shape[2:])}.")
    from skimage.metrics import structural_similarity

    settings = {"data_range": 1.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    pairs = zip(images.clamp(0, 1).double().cpu().numpy(), target.clamp(0, 1).double().cpu().numpy(), strict=True)
    found = [structural_similarity(a[0], b[0], **settings) for a, b in pairs]
    return torch.tensor(found, dtype=torch.float64)
