"""Buffers of a model, by name: kept, restored and copied, even where a batch makes or resizes them."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def kept_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the buffers."""
    return {name: buffer.clone() for name, buffer in model.named_buffers()}


@torch.no_grad()
def restore_buffers(model: nn.Module, before: Mapping[str, Tensor], good: Tensor) -> None:
    """Give the buffers the values ``before`` unless ``good``, a boolean on the device, which the host does not read."""
    for name, now in list(model.named_buffers()):
        then = before.get(name)
        if _alike(now, then):
            now.copy_(torch.where(good, now, then))  # pyright: ignore
        elif not good:
            _assign(model, name, then)


@torch.no_grad()
def copy_buffers(model: nn.Module, source: nn.Module) -> None:
    """Give the buffers of ``model`` the values of those of ``source``."""
    own = dict(model.named_buffers())
    for name, value in source.named_buffers():
        then = own.get(name)
        if _alike(value, then):
            then.copy_(value)  # pyright: ignore
        else:
            _assign(model, name, value.clone())


def _alike(a: Tensor, b: Tensor | None) -> bool:
    return b is not None and a.shape == b.shape and a.dtype == b.dtype


def _assign(model: nn.Module, name: str, value: Tensor | None) -> None:
    owner, _, own = name.rpartition(".")
    setattr(model.get_submodule(owner), own, value)
