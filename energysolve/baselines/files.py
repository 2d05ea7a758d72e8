"""A trained baseline as a folder: ``model.safetensors`` and ``config.json``."""

import hashlib
import json
from pathlib import Path

import safetensors.torch
import torch

from ..files import sketched, unshared, write_atomic, write_json
from ..pretrained.files import CONFIG, WEIGHTS
from .base import Baseline
from .feedforward import Feedforward
from .graph import (
    GraphFeedforward,
    GraphIterativeFeedforward,
    GraphPonderNet,
    GraphRecurrent,
    GraphUnrolledFeedforward,
)
from .image import DnCNN
from .iterative import IterativeFeedforward
from .ponder import PonderNet
from .recurrent import Recurrent
from .unrolled import UnrolledFeedforward

_KINDS: dict[str, type[Baseline]] = {
    kind.__name__: kind
    for kind in (
        *(Feedforward, Recurrent, PonderNet, IterativeFeedforward, UnrolledFeedforward),
        DnCNN,
        *(GraphFeedforward, GraphRecurrent, GraphPonderNet, GraphIterativeFeedforward, GraphUnrolledFeedforward),
    )
}


def save(model: Baseline, folder: str | Path) -> None:
    """Save the weights and the constructor's arguments of a baseline.

    Args:
        model: one of the library's baselines.
        folder: created if it does not exist; each file in it is replaced atomically.

    Raises:
        TypeError: if the model is not one of the library's baselines.

    Examples:
        >>> import torch
        >>> from energysolve import baselines
        >>> model = baselines.Feedforward(x_dim=8, y_shape=(4,), width=16)
        >>> baselines.save(model, "feedforward")
        >>> x = torch.rand(5, 8)
        >>> torch.equal(baselines.load("feedforward").solve(x).y, model.solve(x).y)
        True
    """
    folder = Path(folder)
    name = type(model).__name__
    if _KINDS.get(name) is not type(model):
        raise TypeError(f"{name} cannot be saved; the baselines that can are: {', '.join(_KINDS)}.")
    weights = safetensors.torch.save(unshared(model.state_dict()))
    config = {"class": name, "config": model.config(), "sha256": hashlib.sha256(weights).hexdigest()}
    folder.mkdir(parents=True, exist_ok=True)
    # The weights first: a folder counts as complete once it has its configuration.
    write_atomic(folder / WEIGHTS, weights)
    write_json(folder / CONFIG, config)


def load(folder: str | Path) -> Baseline:
    """Load a baseline that `save` wrote, in evaluation mode, on the CPU.

    Raises:
        FileNotFoundError: if the folder contains none.
        ValueError: if the files are damaged, do not belong together, or describe no baseline.

    Examples:
        >>> from energysolve import baselines
        >>> baselines.save(baselines.Recurrent(x_dim=8, y_shape=(4,), width=16), "recurrent")
        >>> baselines.load("recurrent")
        Recurrent(
          x_dim=8, y_shape=[4], width=16, train_steps=5
          ...
        )
    """
    folder = Path(folder)
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        kind, arguments, checksum = _KINDS[config["class"]], config["config"], config["sha256"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} does not describe a baseline ({error!r}).") from error
    weights = (folder / WEIGHTS).read_bytes()
    if hashlib.sha256(weights).hexdigest() != checksum:
        raise ValueError(f"{folder / WEIGHTS} was truncated or altered: its checksum is not that in {CONFIG}.")
    try:
        tensors = safetensors.torch.load(weights)
        sketched(kind, arguments).load_state_dict(tensors, assign=True)  # damaged arguments may ask for all memory
        with torch.random.fork_rng(devices=[]):  # the overwritten initialization leaves the user's random state alone
            model = kind(**arguments)
        model.load_state_dict(tensors, assign=True)  # in the dtype of the file
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{path} and {WEIGHTS} do not describe a {kind.__name__} together: {error}") from error
    return model.eval()
