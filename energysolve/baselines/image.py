"""The feedforward baseline on images (Table 5 of the paper): DnCNN."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import MOST_LAYERS, check_whole
from ..images.problems import noisy_images
from ..solution import Solution, Status
from .base import AnySize


class DnCNN(AnySize):
    """A convolutional network that estimates the noise in an image (Zhang et al., 2017).

    Layers of 3 x 3 filters, with batch normalization between the first and the last; the answer is the image minus the
    output. Blind, as in the paper's Table 5: one network for all noise levels. It always takes a single step.

    ``x`` is ``(batch, 1, H, W)`` of any size, or a tuple of that and noise levels, which are not used.

    Args:
        depth: number of layers; 17 for a network of one noise level and 20 for a blind one in the publication.
        width: channels of the hidden layers.

    Raises:
        ValueError: for a size out of range.

    Examples:
        >>> import torch
        >>> from energysolve.baselines import DnCNN
        >>> model = DnCNN(depth=3, width=8).eval()
        >>> model.solve(torch.rand(2, 1, 20, 30)).y.shape  # images of any size
        torch.Size([2, 1, 20, 30])
    """

    def __init__(self, depth: int = 17, width: int = 64):
        super().__init__(1, 1, train_steps=1)
        check_whole("DnCNN", least=2, most=MOST_LAYERS, depth=depth)
        check_whole("DnCNN", least=1, width=width)
        self.depth, self.width = depth, width
        layers: list[nn.Module] = [nn.Conv2d(1, width, 3, padding=1), nn.ReLU()]
        for _ in range(depth - 2):
            layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, 1, 3, padding=1))
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)

    def loss(self, x, target, generator=None):
        return (self(noisy_images(x)) - target).square().mean()

    def answers(self, x: Any, generator: Any) -> Iterator[Tensor]:
        return repeat(self(noisy_images(x)))

    def forward(self, images: Tensor) -> Tensor:
        """The images without their noise."""
        return images - self.layers(images)

    @torch.no_grad()
    def solve(self, x: Any, max_steps: int | None = None, *, generator: torch.Generator | None = None) -> Solution:
        """As `Baseline.solve`, for images."""
        check_whole("solve", least=1, max_steps=1 if max_steps is None else max_steps)
        y = next(self.answers(x, generator))
        finite = y.isfinite().flatten(1).all(1)
        status = torch.where(finite, int(Status.MAX_STEPS), int(Status.NONFINITE))
        return replace(Solution.of_answers(y, steps=1), status=status)
