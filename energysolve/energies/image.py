"""The energy of images that is trained the paper's way."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ..checks import MOST_LAYERS, check_whole
from ..energy import Energy
from ..images.problems import noisy_images


class ConvContext(NamedTuple):
    """The noisy images ``(batch, 1, H, W)``, and of each view its features, ``(batch, features, H/2, W/2)``."""

    images: Tensor
    features: list[Tensor]


class ConvEnergy(Energy):
    """``E(x, y) = 1/2 |y - x|^2 + 1/2 |relu(g(x) + W y)|^2``, with a convolutional network ``g``.

    The paper minimizes a convolutional energy of the noisy image ``x`` and the clean one ``y`` (Appendix A), and does
    not report its layers. Here the layers that see ``x`` alone, ``g``, run once per solve, and only the last one,
    ``W``, runs at every step. They are chosen such that the energy is easy to learn and to minimize:

    - It is strongly convex in ``y``. There is one minimum, and more steps never lead away from it.
    - There are no constants (Mohan et al., ICLR 2020): ``E(s x, s y) = s^2 E(x, y)`` for ``s > 0``. An image that is
      ``s`` times as bright, with ``s`` times the noise, has ``s`` times the answer. The noise level is not an input.
    - The filters that see the images have mean zero: ``E(x + c, y + c) = E(x, y)`` for constants ``c``.
    - ``g`` works on half and on a quarter of the resolution, which costs little and sees far.
    - With ``symmetric``, in evaluation mode (``energy.eval()``), the second term is its mean over the eight flips and
      quarter turns of both images, which then commute with the answers. It takes eight times as long; training, on
      images that are flipped and turned at random, does without.

    ``x`` is ``(batch, 1, H, W)`` of any size, in [0, 1] plus noise, or a tuple of that and noise levels, which are not
    used. ``y`` is ``(batch, 1, H, W)``.

    Args:
        width: channels at half the resolution; a quarter of the resolution has twice as many.
        depth: residual blocks of two layers at a quarter of the resolution.
        features: outputs of ``g`` at half the resolution.
        symmetric: whether flips and quarter turns of both images leave the energy, in evaluation mode, as it is.

    Raises:
        ValueError: for a size that is not a whole number of 1 or more; from a solve, for ``x`` of another shape.

    Examples:
        >>> import torch
        >>> from energysolve.energies import ConvEnergy
        >>> energy = ConvEnergy(width=4, depth=1, features=4)
        >>> x, y = torch.rand(2, 2, 1, 12, 10)  # two images of 12 x 10 pixels each
        >>> energy(x, y).shape, torch.allclose(energy(3 * x, 3 * y), 9 * energy(x, y))
        (torch.Size([2]), True)
    """

    takes_noise_level = False

    def __init__(self, width: int = 32, depth: int = 3, features: int = 32, symmetric: bool = False):
        super().__init__()
        check_whole("ConvEnergy", least=1, width=width, features=features)
        check_whole("ConvEnergy", least=0, most=MOST_LAYERS, depth=depth)
        self.width, self.depth, self.features, self.symmetric = width, depth, features, bool(symmetric)
        self.head = _ZeroMean(width)
        self.down = _conv(4 * width, 2 * width)
        self.blocks = nn.ModuleList(
            nn.ModuleList([_conv(2 * width, 2 * width) for _ in range(2)]) for _ in range(depth)
        )
        self.up = _conv(2 * width, 4 * width)
        self.joined = _conv(width, width)
        self.from_x = _conv(width, features)
        self.from_y = _ZeroMean(features)
        with torch.no_grad():
            self.from_y.weight.mul_(0.25)  # answers near the images, and a small curvature, at first
            for block in self.blocks:
                block[1].weight.mul_(0.1)  # pyright: ignore[reportIndexIssue]

    def encode(self, x: Any) -> ConvContext:
        images = noisy_images(x)
        return ConvContext(images, [self._features(view(images)) for view in self._views()])

    def evaluate(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, context: ConvContext, y: Float[Tensor, "batch 1 height width"]
    ) -> Float[Tensor, " batch"]:
        images, features = context
        if y.shape != images.shape:
            raise ValueError(f"Answers must have the shape of the images, {tuple(images.shape)}; got {tuple(y.shape)}.")
        squares = torch.zeros_like(y[:, 0, 0, 0])
        for view, of_images in zip(self._views(), features, strict=True):
            responses = torch.relu(of_images + self.from_y(_padded(view(y), 4)))
            squares = squares + responses.square().flatten(1).sum(1) / len(features)
        return ((y - images).square().flatten(1).sum(1) + squares) / 2

    def _features(self, images: Tensor) -> Tensor:
        fine = torch.relu(self.head(_padded(images, 4)))
        coarse = torch.relu(self.down(F.pixel_unshuffle(fine, 2)))
        for first, second in self.blocks:  # pyright: ignore[reportGeneralTypeIssues]
            coarse = coarse + second(torch.relu(first(coarse)))
        fine = torch.relu(fine + F.pixel_shuffle(self.up(coarse), 2))
        return self.from_x(torch.relu(self.joined(fine)))

    def _views(self) -> list[Callable[[Tensor], Tensor]]:
        return _SYMMETRIES if self.symmetric and not self.training else _SYMMETRIES[:1]

    def config(self) -> dict[str, Any]:
        sizes = {"width": self.width, "depth": self.depth, "features": self.features}
        return {**sizes, "symmetric": self.symmetric}


def _view(images: Tensor, turns: int, flipped: bool) -> Tensor:
    images = images.flip(3) if flipped else images
    return images.rot90(turns, (2, 3)) if turns else images


_SYMMETRIES = [partial(_view, turns=turns, flipped=flipped) for flipped in (False, True) for turns in range(4)]
"""The flips and quarter turns of images, leaving them as they are first."""


class _ZeroMean(nn.Module):
    """Filters of 6 x 6 pixels with mean zero, at every second row and column of an image whose sizes are even."""

    def __init__(self, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, 4, 3, 3) / 6)

    def forward(self, images: Tensor) -> Tensor:
        """``(batch, 1, H, W)`` to ``(batch, outputs, H / 2, W / 2)``."""
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        # The border is repeated, so that constant images have no response there either.
        return F.conv2d(F.pixel_unshuffle(F.pad(images, (2, 2, 2, 2), mode="replicate"), 2), weight)


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    made = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(made.weight)  # features keep their size from layer to layer
    return made


def _padded(images: Tensor, multiple: int) -> Tensor:
    """The images, their last rows and columns repeated up to a multiple."""
    bottom, right = (-size % multiple for size in images.shape[2:])
    return F.pad(images, (0, right, 0, bottom), mode="replicate") if bottom or right else images
