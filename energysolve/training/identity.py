"""What makes a training run the run that it is: the task, the parts of the solver, the initial weights and the seed."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..files import tensors_digest
from ..pretrained.serialization import to_config

_ENTRIES = 1 << 20
"""The most entries of a tensor that are compared."""


def described(part: Any) -> str:
    """A part of a run in words, equal in every process that builds the same part.

    Values that a run may change, such as lists, and parts that have no fixed text are left out.
    """
    fields = {name: _plain(value) for name, value in getattr(part, "__dict__", {}).items() if not name.startswith("_")}
    shown = ", ".join(f"{name}={text}" for name, text in fields.items() if text is not None)
    return f"{_name(part)}({shown})"


def start_of(model: nn.Module, generator: torch.Generator) -> dict[str, str]:
    """Digests of the weights and of the random state that a run starts from."""
    return {"weights": weights_digest(model.state_dict()), "random numbers": random_digest(generator.get_state())}


def weights_digest(state: Mapping[str, Any]) -> str:
    """A digest of weights by name."""
    return tensors_digest({name: value for name, value in state.items() if isinstance(value, Tensor)})


def random_digest(state: Tensor) -> str:
    """A digest of the state of a generator."""
    return tensors_digest({"generator": state})


def _plain(value: Any) -> str | None:
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    if isinstance(value, tuple):
        items = [_plain(item) for item in value]
        return None if None in items else f"({', '.join(map(str, items))})"
    if isinstance(value, Tensor):
        digest = tensors_digest({"": value.detach().flatten()[:_ENTRIES]})[:12]
        return f"<{value.dtype} of shape {tuple(value.shape)}, {digest}>"
    try:
        return re.sub(r"'type': ", "", str(to_config(value)))
    except TypeError:
        return _name(value) if callable(value) else None


def _name(part: Any) -> str:
    """The name of a function, or of the class of anything else."""
    return getattr(part, "__qualname__", type(part).__qualname__)
