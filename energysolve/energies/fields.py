"""Energies of images: fields of experts, which scale with the image and its noise.

Filters and potentials follow Roth and Black (fields of experts, 2005) and Goujon, Neumayer and Unser (weakly convex
ridge regularizers, 2023), with potentials of several filters at once as in divisive normalization.
"""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ..checks import check_nonnegative, check_whole
from ..energy import Energy, Normalized
from ..images.problems import noisy_images
from .noise import NoiseLevel
from .potentials import sum_of_potentials

_BLOCK = 4
"""Filters are evaluated on blocks of this many pixels a side as channels: convolutions of one channel are slow."""


class Noisy(NamedTuple):
    """Encoded images.

    Attributes:
        image: ``(batch, 1, height, width)``, in units of the noise.
        unit: ``(batch,)``, the standard deviation of the noise.
        filters: the filters, from blocks to blocks of pixels.
        mixing: ``(groups, filters)``.
        weights: ``(groups, 1)``, half those of the potentials.
        near: ``(groups, 1)``, their derivatives by ``q`` near zero.
        ends: ``(groups, 1)``, where they become constant.
        inside: ``(16, 1, blocks)``, which pixels of the blocks lie within the image; None if all do.
    """

    image: Tensor
    unit: Tensor
    filters: Tensor
    mixing: Tensor
    weights: Tensor
    near: Tensor
    ends: Tensor
    inside: Tensor | None


class FieldsEnergy(Energy):
    """The energy of a denoised image: ``E(x, y) = 1/2 |y - x|^2 + s^2 sum_p sum_k phi_k(q_k(p))``.

    ``s`` is the standard deviation of the noise and ``q_k(p) = sum_c V_kc (w_c * y)(p)^2 / s^2`` pools the squared
    responses of learned filters ``w_c`` of zero mean at pixel ``p`` with learned positive weights. The potentials are
    ``phi = a (H(r) - b H(r / b))`` of ``r = sqrt(q)``, with the Huber function ``H`` and learned ``a > 0``, ``b > 1``:
    quadratic up to 1, then less and less steep, and constant from ``b`` on. So noise is removed and edges stay.

    - The energy scales: ``E(a x, a y) = a^2 E(x, y)`` if ``s`` scales too, so answers to noise that was never trained
      on are those to less noise on a fainter image.
    - A constant that is added to the image is added to the answer.
    - Flips and quarter turns of the image turn the answer: filters come in fours that are the flips and transposes of
      one another, and potentials treat the four alike. Each filter is even or odd under a half turn.
    - The energy is weakly convex: the negative curvature of the potentials, by the largest frequency response of the
      filters, is a learned multiple of the curvature 1 of ``1/2 |y - x|^2``, at most ``convexity``. With a bound below
      1 the energy is convex on an unbounded image, and a descent from any start finds its minimum; at the border, where
      the image is mirrored, this is not guaranteed. With a larger bound more noise is removed, and the minimum that is
      found depends on the start: begin from the noisy image (`FromInput`).

    Problems are noisy images ``(batch, 1, height, width)`` or a tuple of these and the standard deviations of their
    noise, ``(batch,)``; without them the noise is estimated by ``noise``. Answers have the shape of the images, and the
    images of a batch have one size, of any height and width.

    Args:
        filters: number of filters, a multiple of 4, at most 10,000.
        size: rows and columns of a filter: 5, 9, 13, ..., 101, which fill whole blocks of pixels.
        groups: number of potentials, a multiple of 4, at most 10,000.
        convexity: bound on the negative curvature, 0 or more.

    Raises:
        ValueError: if an argument is out of range; from a solve, for problems of another shape.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver, FromInput
        >>> from energysolve.energies import FieldsEnergy
        >>> solver = EnergySolver(FieldsEnergy(filters=4, size=5, groups=4), init=FromInput())
        >>> image = torch.full((1, 1, 20, 24), 0.5)
        >>> noisy, sigma = image + 0.1 * torch.randn(image.shape), torch.tensor([0.1])
        >>> clean = solver.minimize((noisy, sigma)).y
        >>> bool((clean - image).square().mean() < (noisy - image).square().mean())
        True
    """

    _even: Tensor
    _odd: Tensor

    def __init__(self, filters: int = 32, size: int = 9, groups: int = 32, convexity: float = 0.99):
        super().__init__()
        check_whole("FieldsEnergy", least=4, most=10_000, filters=filters, groups=groups)
        check_whole("FieldsEnergy", least=5, most=101, size=size)
        check_nonnegative("FieldsEnergy", convexity=convexity)
        for name, value, of in (("filters", filters, 4), ("groups", groups, 4), ("size", size - 1, _BLOCK)):
            if value % of:
                what = "5, 9, 13, ..." if name == "size" else "a multiple of 4"
                raise ValueError(f"FieldsEnergy needs {name} that is {what}, got {locals()[name]}.")
        self.size, self.convexity = size, float(convexity)
        even, odd = _atoms(size)
        self.register_buffer("_even", even, persistent=False)
        self.register_buffer("_odd", odd, persistent=False)
        own = filters // 4
        starts = _oriented((own + 1) // 2, size, 0.0), _oriented(own // 2, size, math.pi / 2)
        self.even, self.odd = (
            nn.Parameter(torch.einsum("fij,bij->fb", start, basis) * 0.7 + 0.01 * torch.randn(len(start), len(basis)))
            for start, basis in zip(starts, (even, odd), strict=True)
        )
        self.mixing = nn.Parameter(_mixing(groups // 4, own) + 0.01 * torch.randn(groups // 4, own, 4))
        self.log_weights = nn.Parameter(torch.full((groups // 4,), math.log(0.3)))
        self.log_widths = nn.Parameter(torch.full((groups // 4,), math.log(8.0)))
        self.log_curvature = nn.Parameter(torch.tensor(math.log(0.99)))
        self.noise = NoiseLevel()

    def filters(self) -> Float[Tensor, "filters size size"]:
        """The filters, in fours of one filter, its mirror image, and the transposes of both."""
        even, odd = torch.einsum("fb,bij->fij", self.even, self._even), torch.einsum("fb,bij->fij", self.odd, self._odd)
        own = torch.cat([even, odd])
        return torch.stack([own, own.flip(2), own.mT, own.mT.flip(2)], 1).flatten(0, 1)

    def pooling(self) -> Float[Tensor, "groups filters"]:
        """The weights ``V`` of the squared responses."""
        own = self.mixing.exp()
        # Members of a four are numbered so that flips and transposition exchange a and b by an exclusive or.
        rows = [torch.stack([own[:, :, a ^ b] for b in range(4)], 2).flatten(1) for a in range(4)]
        return torch.stack(rows, 1).flatten(0, 1)

    def potentials(self) -> tuple[Float[Tensor, " groups"], Float[Tensor, " groups"]]:
        """The weights ``a`` of the potentials, from their shares and their curvature together, and their ends ``b``."""
        weights, ends = self.log_weights.exp().repeat_interleave(4), 1 + self.log_widths.exp().repeat_interleave(4)
        side = 4 * self.size
        response = torch.fft.rfft2(self.filters(), s=(side, side)).abs().square()
        peak = torch.einsum("c,cij->ij", (weights / ends) @ self.pooling(), response).amax()
        return weights * (self.log_curvature.exp().clamp(max=self.convexity) / peak), ends

    def noise_level(self, images: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, " batch"]:
        """The estimated standard deviation of the noise of each image."""
        return self.noise(images)

    def normalized(self, x: Any) -> Normalized:
        """Images in units of their noise."""
        image, sigma = self._split(x)
        return Normalized((image / _over(sigma), torch.ones_like(sigma)), sigma, sigma.square())

    def encode(self, x: Any) -> Noisy:
        image, sigma = self._split(x)
        height, width = image.shape[-2:]
        inside = None
        if height % _BLOCK or width % _BLOCK:
            inside = image.new_ones(1, 1, height, width)
            inside = F.pixel_unshuffle(F.pad(inside, (0, -width % _BLOCK, 0, -height % _BLOCK)), _BLOCK)
            inside = inside.reshape(_BLOCK**2, 1, -1)
        expanded = _on_blocks(self.filters())
        weights, ends = (each[:, None] for each in self.potentials())
        near = (1 - 1 / ends) * weights / 2
        return Noisy(image / _over(sigma), sigma, expanded, self.pooling(), weights / 2, near, ends, inside)

    def evaluate(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, context: Noisy, y: Float[Tensor, "batch 1 height width"]
    ) -> Float[Tensor, " batch"]:
        if y.shape != context.image.shape:
            raise ValueError(f"expected answers {tuple(context.image.shape)} like the images, got {tuple(y.shape)}.")
        y = y / _over(context.unit)
        potentials = sum_of_potentials(_in_blocks(y, self.size), *context[2:])
        energy = (y - context.image).square().flatten(1).sum(1) / 2 + potentials
        return energy * context.unit.square()

    def config(self) -> dict[str, Any]:
        """The arguments."""
        return {
            "filters": 4 * (len(self.even) + len(self.odd)),
            "size": self.size,
            "groups": 4 * len(self.mixing),
            "convexity": self.convexity,
        }

    def _split(self, x: Any) -> tuple[Tensor, Tensor]:
        """The images and the standard deviations of their noise, above zero."""
        image = noisy_images(x)
        sigma = x[1] if isinstance(x, tuple) else self.noise_level(image)
        # An image without noise stays as it is, to rounding: the noise is at least a tiny share of its values.
        least = 1e-6 * image.detach().abs().flatten(1).amax(1)
        return image, torch.maximum(sigma, least.clamp(min=torch.finfo(image.dtype).tiny ** 0.25))


def _over(value: Tensor) -> Tensor:
    return value[:, None, None, None]


def _atoms(size: int) -> tuple[Tensor, Tensor]:
    """The cosine atoms of a filter without the constant: those even under a half turn, and those odd."""
    place = torch.arange(size)
    cosines = torch.cos(math.pi * (2 * place[None] + 1) * place[:, None] / (2 * size))
    cosines = cosines / cosines.norm(dim=1, keepdim=True)
    atoms = torch.einsum("ai,bj->abij", cosines, cosines)
    even = [n for n in range(1, size * size) if (n // size + n % size) % 2 == 0]
    odd = [n for n in range(1, size * size) if (n // size + n % size) % 2 == 1]
    return atoms.flatten(0, 1)[even], atoms.flatten(0, 1)[odd]


def _oriented(count: int, size: int, phase: float) -> Tensor:
    """Windowed waves of several lengths and directions, of norm 1: filters to start from."""
    place = torch.arange(size) - (size - 1) / 2
    rows, columns = place[:, None], place[None]
    waves = []
    for i in range(count):
        direction = math.pi / 8 * (i % 2) + math.pi / 16 * (i // 2 % 2)
        share = i / max(count - 1, 1)
        frequency = math.pi * (0.9 * (1 - share) + 3 / size * share)
        window = torch.exp(-(rows**2 + columns**2) / (2 * (0.6 * math.pi / frequency) ** 2))
        wave = window * torch.cos(frequency * (columns * math.cos(direction) + rows * math.sin(direction)) + phase)
        wave = wave - wave.mean()
        waves.append(wave / wave.norm())
    return torch.stack(waves) if waves else place.new_zeros(0, size, size)


def _mixing(groups: int, own: int) -> Tensor:
    """Logarithms of pooling weights that give each group filters of neighbouring wave lengths, even and odd."""
    mixing = torch.full((groups, own, 4), -5.0)
    even = (own + 1) // 2
    for first, count in ((0, even), (even, own - even)):
        for i in range(count):
            mixing[i * groups // count, first + i, 0] = 0.0
    return mixing


def _on_blocks(filters: Tensor) -> Tensor:
    """Filters as a convolution from the pixels of blocks to those of blocks, channel ``pixel * filters + filter``."""
    count, size, _ = filters.shape
    blocks = (size + _BLOCK - 1) // _BLOCK
    rest = _BLOCK * blocks - size
    shifted = [
        F.pad(filters, (j, rest - j, i, rest - i)).reshape(count, blocks, _BLOCK, blocks, _BLOCK)
        for i in range(_BLOCK)
        for j in range(_BLOCK)
    ]
    return torch.stack(shifted).permute(0, 1, 3, 5, 2, 4).reshape(_BLOCK**2 * count, _BLOCK**2, blocks, blocks)


def _in_blocks(y: Tensor, size: int) -> Tensor:
    """The mirrored images with the pixels of blocks as channels, as far as filters of a size reach."""
    reach = size // 2
    padded = _mirrored(_mirrored(y, reach, 2), reach, 3)
    around = (size + _BLOCK - 1) // _BLOCK - 1
    fill = [_BLOCK * (-(-side // _BLOCK) + around) - side - 2 * reach for side in y.shape[-2:]]
    return F.pixel_unshuffle(F.pad(padded, (0, fill[1], 0, fill[0])), _BLOCK)


def _mirrored(y: Tensor, reach: int, axis: int) -> Tensor:
    """Images mirrored at their first and last pixels, as often as the reach needs."""
    side = y.shape[axis]
    if side > reach:
        return F.pad(y, (0, 0, reach, reach) if axis == 2 else (reach, reach, 0, 0), mode="reflect")
    period = max(2 * side - 2, 1)
    place = torch.arange(-reach, side + reach, device=y.device) % period
    return y.index_select(axis, torch.minimum(place, (period - place) % max(period, 1)) if side > 1 else place * 0)
