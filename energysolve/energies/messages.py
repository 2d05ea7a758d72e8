"""Sums of messages along edges, for graphs whose messages do not fit into the processor's cache."""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

MANY = 16_384
"""With more edges, messages are summed in chunks: allocating memory for all of them would take most of a step."""
CHUNK = 4096
"""Edges in a chunk; their messages fit into the processor's cache."""


def sum_of_messages(
    ends: tuple[Int[Tensor, " edges"], Int[Tensor, " edges"]],
    features: Float[Tensor, "nodes _"],
    given: Float[Tensor, "edges inputs"],
    slopes: Float[Tensor, "inputs channels"],
    constant: Float[Tensor, " channels"],
) -> Float[Tensor, "nodes channels"]:
    """``sum_e relu(h_source + g_e S + c)`` over the edges ``e`` that end in each node, in chunks.

    Nothing as large as ``(edges, channels)`` is ever held: the derivative computes the messages once more. It can be
    differentiated itself, which takes the memory that this function avoids.

    Args:
        ends: the nodes at which edges begin, and those at which they end.
        features: the features ``h`` of the nodes, one for each channel or one for all.
        given: the values ``g`` of the edges.
        slopes: the matrix ``S``.
        constant: the row ``c``.
    """
    return _Sum.apply(*ends, features, given, slopes, constant)  # pyright: ignore


def messages_at_once(
    ends: tuple[Tensor, Tensor], features: Tensor, given: Tensor, slopes: Tensor, constant: Tensor
) -> Tensor:
    """`sum_of_messages` with all messages in memory."""
    messages = given[:, :1] * slopes[0] + constant
    for column in range(1, len(slopes)):
        messages = torch.addcmul(messages, given[:, column : column + 1], slopes[column])
    messages = (messages + features.index_select(0, ends[0])).relu()
    return features.new_zeros(len(features), slopes.shape[1]).index_add(0, ends[1], messages)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(
        sources: Tensor, targets: Tensor, features: Tensor, given: Tensor, slopes: Tensor, constant: Tensor
    ) -> Tensor:
        gathered = features.new_zeros(len(features), slopes.shape[1])
        for chunk, messages in _chunks(sources, features, given, slopes, constant):
            gathered.index_add_(0, targets[chunk], messages)
        return gathered

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        sources, targets, *inputs = ctx.saved_tensors
        if not torch.is_grad_enabled():
            return None, None, *_gradients(sources, targets, *inputs, gradient)  # pyright: ignore[reportCallIssue]
        # This derivative is to be differentiated in turn.
        needed = ctx.needs_input_grad[2:]
        wanted = [each for each, used in zip(inputs, needed, strict=True) if used]
        answer = messages_at_once((sources, targets), *inputs)
        found = iter(torch.autograd.grad(answer, wanted, gradient, create_graph=True))
        return None, None, *(next(found) if used else None for used in needed)


def _gradients(
    sources: Tensor,
    targets: Tensor,
    features: Tensor,
    given: Tensor,
    slopes: Tensor,
    constant: Tensor,
    gradient: Tensor,
) -> tuple[Tensor, ...]:
    """Those of features, values, slopes and constant."""
    of_features, of_given, of_slopes, of_constant = map(torch.zeros_like, (features, given, slopes, constant))
    for chunk, messages in _chunks(sources, features, given, slopes, constant):
        # Where a message is zero or NaN, its derivative is zero, as torch's relu has it.
        each = gradient.index_select(0, targets[chunk]).mul_(messages > 0)
        of_features.index_add_(0, sources[chunk], each if features.shape[1] > 1 else each.sum(1, keepdim=True))
        of_given[chunk] = each @ slopes.mT
        of_slopes.addmm_(given[chunk].mT, each)
        of_constant.add_(each.sum(0))
    return of_features, of_given, of_slopes, of_constant


def _chunks(
    sources: Tensor, features: Tensor, given: Tensor, slopes: Tensor, constant: Tensor
) -> Iterator[tuple[slice, Tensor]]:
    """Slices of the edges and their messages ``(chunk, channels)``.

    Computed entry by entry: a product of matrices rounds differently for other numbers of edges, which would turn
    messages near zero on or off.
    """
    for first in range(0, len(given), CHUNK):
        chunk = slice(first, first + CHUNK)
        messages = (given[chunk, :1] * slopes[0]).add_(constant)
        for column in range(1, len(slopes)):
            messages.addcmul_(given[chunk, column : column + 1], slopes[column])
        yield chunk, messages.add_(features.index_select(0, sources[chunk])).relu_()
