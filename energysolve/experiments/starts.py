"""Where training starts: the initial weights of the paper's network, and the initial answers.

The network is the paper's whatever the start. ``docs/experiments/continuous.md`` tells why these, and what they bring.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..energies.mlp import MLPEnergy
from ..initializers import Initializer, Symmetric
from ..tasks import Inverse, Task

Start = Callable[[MLPEnergy, Task, float], Initializer]
"""Sets the weights of an energy for a task and a step size, in place; returns what draws the initial answers."""

_CURVATURE = 0.5
"""Of the initial energy times the step size: what a step takes away of the distance to the minimum."""
_NOISE = 0.3
"""Of the hidden layers, as a share of torch's initial weights, and of the last, as one of its own."""
_SWISH = 7 / 32
"""The second derivative of three swish functions, one after the other, at zero."""
_SPREAD = 1.3
"""Of what a probe finds in problems: standard deviation."""


def as_in_paper(energy: MLPEnergy, task: Task, step_size: float) -> Initializer:
    """Torch's initial weights, and the initial answers of the task."""
    return task.init


def probes(energy: MLPEnergy, task: Task, step_size: float) -> Initializer:
    """For symmetric matrices: each first unit looks at a problem and an answer along one direction ``u``.

    Its weights are ``u uᵀ`` for problems, scaled so that they reach the curved part of the activation, and for answers
    the nearest to ``± u uᵀ`` of which all answers get the same curvature. Units come in pairs of either sign: what a
    pair has in common depends on the problem alone, so nothing of it is lost at the minimum. Initial answers are small
    and symmetric, as all that follow them then are.

    Raises:
        ValueError: if answers to the task are no symmetric matrices.
    """
    if not isinstance(task, Inverse):
        raise ValueError(f"The start 'probes' is for symmetric matrices, that is, for the inverse; got {task!r}.")
    generator = _generator()
    size, pairs = task.size, -(-energy.width // 2)
    u = nn.functional.normalize(torch.randn(pairs, size, 1, generator=generator), dim=1)
    of_x = (u @ u.mT).flatten(1)
    of_y = _nearest_isometry(of_x)
    of_x, of_y = (weights[: energy.width] for weights in (torch.cat([of_x, of_x]), torch.cat([of_y, -of_y])))
    with torch.no_grad():
        energy.from_x.weight.copy_(of_x)
        energy.from_x.bias.zero_()
        found = energy.encode(task.sample(1000, generator=generator)[0])
        gain = _SPREAD / found.std(0).mean()
        energy.from_x.weight.mul_(gain)
        energy.from_x.bias.uniform_(-0.5, 0.5).sub_(gain * found.mean(0))
        _make_bowl(energy, of_y, step_size)
    return Symmetric((size, size), -0.2, 0.2)


def _nearest_isometry(weights: Tensor) -> Tensor:
    """The nearest of those that stretch by one whatever the given ones do not map to nothing."""
    left, stretches, right = torch.linalg.svd(weights.double(), full_matrices=False)
    kept = stretches > 1e-6 * stretches[0]
    return (left[:, kept] @ right[kept]).float()


def _make_bowl(energy: MLPEnergy, of_y: Tensor, step_size: float) -> None:
    """Convex in the answer, with the curvature that a step of descent undoes `_CURVATURE` of the distance.

    The layers above the first pass on what they get, but for a little noise, and the last one adds it up.
    """
    energy.from_y.weight.copy_(of_y)
    for layer in energy.hidden:
        assert isinstance(layer, nn.Linear)
        layer.weight.mul_(_NOISE).add_(torch.eye(energy.width))
        layer.bias.zero_()
    rank = int(torch.linalg.matrix_rank(of_y))
    curvature = _SWISH * of_y.square().sum() / rank * step_size * energy.scale
    energy.head.weight.uniform_(1 - _NOISE, 1 + _NOISE).mul_(_CURVATURE / curvature)


def _generator() -> torch.Generator:
    """Goes on from torch's own, which is seeded for the initial weights."""
    return torch.Generator().manual_seed(int(torch.randint(2**31, ())))


STARTS: dict[str, Start] = {"paper": as_in_paper, "probes": probes}
