"""Users' own images: denoising of NumPy arrays of any size, grey or in colour, and reading and writing of files."""

from .denoising import Denoised, denoise, solve_image
from .files import IMAGE_SUFFIXES, Picture, read_image, write_image
from .problems import noisy_images
from .quality import psnr, ssim

__all__ = [
    "IMAGE_SUFFIXES",
    "Denoised",
    "Picture",
    "denoise",
    "noisy_images",
    "psnr",
    "read_image",
    "solve_image",
    "ssim",
    "write_image",
]
