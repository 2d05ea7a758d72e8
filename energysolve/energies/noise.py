"""The noise of images: its standard deviation, estimated from the image alone."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ..checks import check_whole

LEAST = 16
"""Rows and columns that an image must have for its noise to be estimated."""
_SHARES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9)
_WINDOW = 9
_BASE = 1
"""The feature that is corrected: the standard deviation in the flattest tenth of all windows."""


class NoiseLevel(nn.Module):
    """The standard deviation of white noise on images, ``(batch, 1, height, width) -> (batch,)``.

    Two filters of second and fourth differences leave of an image little but noise. The features are quantiles of
    the magnitude of their responses (Donoho 1995) and of its root mean square in windows, of which the flattest show
    the noise best. A small network corrects the quantile of the flat windows by the logarithms of the ratios of the
    features. So the estimate scales with the image, and does not change with its brightness, flips and quarter turns.

    Args:
        width: of the network.

    Raises:
        ValueError: for images of fewer than 16 rows or columns.

    Examples:
        >>> import torch
        >>> from energysolve.energies import NoiseLevel
        >>> level = NoiseLevel()
        >>> images = 0.5 + torch.tensor([0.1, 0.2]).view(2, 1, 1, 1) * torch.randn(2, 1, 128, 128)
        >>> level(images).detach().round(decimals=1)
        tensor([0.1000, 0.2000])
    """

    _second: Tensor
    _fourth: Tensor

    def __init__(self, width: int = 16):
        super().__init__()
        check_whole("NoiseLevel", least=1, width=width)
        second, fourth = torch.tensor([1.0, -2.0, 1.0]), torch.tensor([1.0, -4.0, 6.0, -4.0, 1.0])
        self.register_buffer("_second", torch.outer(second, second)[None, None] / 6, persistent=False)
        self.register_buffer("_fourth", torch.outer(fourth, fourth)[None, None] / 70, persistent=False)
        features = 2 * (2 * len(_SHARES) - 2)
        self.hidden, self.out = nn.Linear(features - 1, width), nn.Linear(width, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def features(self, image: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, "batch features"]:
        """The logarithms of the features.

        Raises:
            ValueError: for images that are too small.
        """
        if min(image.shape[-2:]) < LEAST:
            height, width = image.shape[-2:]
            raise ValueError(
                f"The noise of an image of {height} x {width} pixels cannot be estimated: it takes {LEAST} x {LEAST}. "
                "Give its standard deviation: x = (images, sigma)."
            )
        found = []
        for kernel in (self._second, self._fourth):
            response = F.conv2d(image, kernel.to(image.dtype))
            windows = F.avg_pool2d(response.square(), _WINDOW, 1).sqrt()
            found += [_quantiles(response.abs(), _SHARES[2:]) / 0.6745, _quantiles(windows, _SHARES)]
        return torch.cat(found, 1).clamp(min=torch.finfo(image.dtype).tiny).log()

    def forward(self, image: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, " batch"]:
        return self._of(self.features(image))

    def _of(self, features: Tensor) -> Tensor:
        base = len(_SHARES) - 2 + _BASE
        ratios = torch.cat([features[:, :base], features[:, base + 1 :]], 1) - features[:, base : base + 1]
        # An image of one colour has no ratios; its noise is zero.
        return (features[:, base] + self.out(torch.tanh(self.hidden(ratios)))[:, 0]).exp()

    def fit(
        self,
        images: Float[Tensor, "count 1 height width"],
        largest: float,
        generator: torch.Generator | None = None,
        *,
        rounds: int = 6,
        iterations: int = 1500,
    ) -> float:
        """Learn the correction on clean images with noise added to them; takes seconds for hundreds of images.

        Args:
            images: clean images.
            largest: the largest standard deviation of the noise; it is drawn uniformly, half of the time from a
                smaller interval.
            generator: source of the noise.
            rounds: how often each image is used.
            iterations: steps of Adam.

        Returns:
            The root mean square of the logarithm of the ratio of estimate and truth on these images.
        """
        features, truth = [], []
        for number in range(rounds):
            sigma = torch.rand(len(images), generator=generator, device=images.device)
            if number % 2:
                sigma = sigma * torch.rand(len(images), generator=generator, device=images.device)
            sigma = (largest * sigma).clamp(min=largest / 55)
            noise = torch.randn(images.shape, generator=generator, device=images.device)
            features.append(self.features(images + sigma[:, None, None, None] * noise))
            truth.append(sigma.log())
        inputs, outputs = torch.cat(features), torch.cat(truth)
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-2, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)
        loss = inputs.new_zeros(())
        with torch.enable_grad():
            for _ in range(iterations):
                loss = (self._of(inputs).log() - outputs).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        return float(loss.detach().sqrt())

    def config(self) -> dict[str, Any]:
        """The argument."""
        return {"width": self.hidden.out_features}


def _quantiles(values: Tensor, shares: tuple[float, ...]) -> Tensor:
    """Quantiles of each sample, ``(batch, shares)``, of any number of values."""
    ordered = values.flatten(1).sort(1).values
    last = ordered.shape[1] - 1
    return torch.stack([ordered[:, round(share * last)] for share in shares], 1)
