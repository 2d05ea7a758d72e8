"""Sums of the potentials of a field of experts, for images whose filter responses do not fit into the cache."""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

CHUNK = 2048
"""Blocks of pixels whose responses are computed at once on a processor: with memory for those of all blocks of a large
image, an evaluation takes 1.5 times as long."""


def sum_of_potentials(
    image: Float[Tensor, "batch pixels height width"],
    filters: Float[Tensor, "responses pixels size size"],
    mixing: Float[Tensor, "groups filters"],
    weights: Float[Tensor, "groups 1"],
    near: Float[Tensor, "groups 1"],
    ends: Float[Tensor, "groups 1"],
    inside: Float[Tensor, "pixels 1 blocks"] | None,
) -> Float[Tensor, " batch"]:
    """The potentials of all filters at all pixels of each image.

    Large images on a processor are taken a few rows at a time, their gradient along with their value, so that nothing
    as large as all responses is ever held. Second derivatives, and derivatives by the parameters, take that memory.

    Args:
        image: blocks of pixels as channels, with those beyond the border that the filters reach.
        filters: the filters, from blocks to the responses at all pixels of a block.
        mixing: the weights of the squared responses.
        weights: half the weights of the potentials.
        near: the derivatives of the potentials by the weighted sum of squares, near zero.
        ends: where the potentials become constant.
        inside: which pixels of the blocks are in the image; None if all are.
    """
    parts = filters, mixing, weights, near, ends, inside
    rows, columns = _blocks(image, filters)
    learned = any(part is not None and part.requires_grad for part in parts)
    if learned or rows * columns <= CHUNK or image.device.type != "cpu" or torch.compiler.is_compiling():
        return potentials_at_once(image, *parts)
    sloped = torch.is_grad_enabled() and image.requires_grad
    return _Sum.apply(sloped, image, *parts)[0]  # pyright: ignore


def potentials_at_once(
    image: Tensor,
    filters: Tensor,
    mixing: Tensor,
    weights: Tensor,
    near: Tensor,
    ends: Tensor,
    inside: Tensor | None,
) -> Tensor:
    """`sum_of_potentials` with all responses in memory."""
    pixels = image.shape[1]
    responses = F.conv2d(image, filters).flatten(2).unflatten(1, (pixels, -1))
    # Potentials are constant from b on; below, H(r) - b H(r / b) = (1 - 1 / b) q / 2 - max(r - 1, 0)^2 / 2.
    pooled = torch.minimum(mixing @ responses.square(), ends.square())
    beyond = pooled.clamp(min=1).sqrt() - 1  # in this order, for a finite derivative at 0
    potential = near * pooled - weights * beyond.square()
    return (potential if inside is None else potential * inside).flatten(1).sum(1)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(
        sloped: bool,
        image: Tensor,
        filters: Tensor,
        mixing: Tensor,
        weights: Tensor,
        near: Tensor,
        ends: Tensor,
        inside: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        totals = image.new_zeros(len(image))
        slopes = torch.zeros_like(image) if sloped else image.new_empty(0)
        for sample, seen, blocks in _chunks(image, filters):
            part = image[sample : sample + 1, :, seen]
            responses = F.conv2d(part, filters)
            each = responses.flatten(2).unflatten(1, (image.shape[1], -1))
            pooled = torch.minimum(mixing @ each.square(), ends.square())
            root = pooled.clamp(min=1).sqrt_()
            potential = (near * pooled).sub_(weights * (root - 1).square_())
            of_pooled = (near - weights * (1 - 1 / root)).mul_(pooled < ends.square()) if sloped else None
            if inside is not None:
                potential.mul_(inside[:, :, blocks])
            totals[sample] += potential.sum()
            if of_pooled is not None:
                if inside is not None:
                    of_pooled.mul_(inside[:, :, blocks])
                of_responses = (mixing.mT @ of_pooled).mul_(each).mul_(2)
                slopes[sample : sample + 1, :, seen] += F.conv_transpose2d(of_responses.view_as(responses), filters)
        return totals, slopes

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        _, slopes = output
        ctx.mark_non_differentiable(slopes)
        ctx.save_for_backward(*inputs[1:], slopes)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Any) -> tuple[Tensor | None, ...]:  # pyright: ignore
        image, *parts, slopes = ctx.saved_tensors
        if not torch.is_grad_enabled():
            return None, gradient[:, None, None, None] * slopes, *[None] * len(parts)
        # This derivative is to be differentiated in turn.
        answer = potentials_at_once(image, *parts)  # pyright: ignore[reportCallIssue]
        (found,) = torch.autograd.grad(answer, image, gradient, create_graph=True)
        return None, found, *[None] * len(parts)


def _blocks(image: Tensor, filters: Tensor) -> tuple[int, int]:
    """The rows and columns of blocks at which there are responses."""
    return image.shape[2] - filters.shape[2] + 1, image.shape[3] - filters.shape[3] + 1


def _chunks(image: Tensor, filters: Tensor) -> Iterator[tuple[int, slice, slice]]:
    """Each image and, a few rows at a time, the rows of blocks that responses depend on and the blocks they are at."""
    rows, columns = _blocks(image, filters)
    taken = max(1, CHUNK // columns)
    for sample in range(len(image)):
        for first in range(0, rows, taken):
            last = min(first + taken, rows)
            yield sample, slice(first, last + filters.shape[2] - 1), slice(first * columns, last * columns)
