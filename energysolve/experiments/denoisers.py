"""Classical methods that remove noise of a known level, through the interface that solvers and baselines share."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..images.problems import noisy_images
from ..solution import Solution


class ToldDenoiser(ABC):
    """A method for images ``x = (images, sigma)``, which it solves one by one on the CPU."""

    def solve(self, x: Any, max_steps: int | None = None, *, generator: torch.Generator | None = None) -> Solution:
        """The answers, after one step.

        Raises:
            ImportError: if the method's package is not installed.
            ValueError: if ``x`` does not state the noise levels.
        """
        images = noisy_images(x)
        if not isinstance(x, tuple):
            raise ValueError(f"{type(self).__name__} must be told the noise: pass a tuple (images, sigma).")
        pairs = zip(images[:, 0].double().cpu().numpy(), x[1].tolist(), strict=True)
        found = [self.denoise(image, level) for image, level in pairs]
        return Solution.of_answers(torch.from_numpy(np.stack(found)).to(images).unsqueeze(1), steps=1)

    @abstractmethod
    def denoise(self, image: np.ndarray, sigma: float) -> np.ndarray:
        """The answer to one image ``(H, W)``."""


@dataclass(frozen=True)
class BM3D(ToldDenoiser):
    """Block matching and 3D filtering (Dabov et al., 2007), by its authors' package ``bm3d``, with its defaults."""

    def denoise(self, image, sigma):
        from bm3d import bm3d

        return np.asarray(bm3d(image, sigma))


@dataclass(frozen=True)
class NonLocalMeans(ToldDenoiser):
    """Non-local means (Buades et al., 2005) by scikit-image.

    Args:
        strength: the cut-off distance of patches over the noise level; scikit-image recommends less than 1.
    """

    strength: float = 0.65

    def denoise(self, image, sigma):
        from skimage.restoration import denoise_nl_means

        settings = {"patch_size": 5, "patch_distance": 8, "fast_mode": True}
        return denoise_nl_means(image, h=self.strength * sigma, sigma=sigma, **settings)


@dataclass(frozen=True)
class TotalVariation(ToldDenoiser):
    """The image with the least total variation near the noisy one (Rudin et al., 1992), by scikit-image.

    Args:
        strength: the weight of the variation over the noise level.
    """

    strength: float = 0.85

    def denoise(self, image, sigma):
        from skimage.restoration import denoise_tv_chambolle

        return denoise_tv_chambolle(image, weight=self.strength * sigma, max_num_iter=500)
