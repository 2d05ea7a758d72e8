"""Energies of images with simple answers, for tests."""

import torch

from energysolve import Energy
from energysolve.images import noisy_images


class Smooth(Energy):
    """``1/2 |y - x|^2`` plus a smoothed total variation, of a weight in proportion to the noise, if it is told."""

    def __init__(self, weight=0.1, eps=1e-2):
        super().__init__()
        self.weight, self.eps = weight, eps

    def encode(self, x):
        images = noisy_images(x)
        sigma = x[1] if isinstance(x, tuple) else images.new_ones(len(images))
        return images, self.weight * sigma

    def evaluate(self, context, y):
        images, weight = context
        across, down = y.diff(dim=3), y.diff(dim=2)
        variation = sum((step.square() + self.eps**2).sqrt().flatten(1).sum(1) for step in (across, down))
        return (y - images).square().flatten(1).sum(1) / 2 + weight * variation


class Estimating(Smooth):
    """It estimates the noise of an image from the differences of neighbours."""

    def noise_level(self, images):
        return images.diff(dim=3).flatten(1).std(1) / 2**0.5

    def encode(self, x):
        return super().encode(x if isinstance(x, tuple) else (x, self.noise_level(x)))


class Halving(Energy):
    """The answer is half the image: no energy for denoising, but its answers are known exactly."""

    def evaluate(self, context, y):
        images = noisy_images(context)
        return (y - images / 2).square().flatten(1).sum(1) / 2


def tensor_of(image):
    return torch.from_numpy(image)[None, None]
