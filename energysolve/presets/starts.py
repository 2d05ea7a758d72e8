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
_SPREAD = 1.8
"""Of what a probe finds in problems: standard deviation."""


def as_in_paper(energy: MLPEnergy, task: Task, step_size: float) -> Initializer:
    """Torch's initial weights, and the initial answers of the task."""
    return task.init


def probes(energy: MLPEnergy, task: Task, step_size: float) -> Initializer:
    """For symmetric matrices: each first unit looks at a problem along a direction ``u`` of its own.

    Its weights are ``u uᵀ`` for problems, scaled so that they reach the curved part of the activation. For answers they
    are near to ``± u uᵀ``, of random sign: the nearest of those that give all answers the same curvature and whose
    columns are orthogonal to the former's, so that no change of the answer can stand for a change of the problem, and
    nothing of the problem is lost at the minimum. Initial answers are small and symmetric, as all that follow them then
    are.

    Raises:
        ValueError: if answers to the task are no symmetric matrices, or the energy is too narrow to tell all problems
            and all answers apart.
    """
    if not isinstance(task, Inverse):
        raise ValueError(f"The start 'probes' is for symmetric matrices, that is, for the inverse; got {task!r}.")
    size, width = task.size, energy.width
    if width < size * (size + 1):
        raise ValueError(
            f"The start 'probes' needs a width of {size * (size + 1)} or more for matrices of size {size}, twice the "
            f"entries of a symmetric matrix; got {width}. Widen the energy or take the start 'paper'."
        )
    generator = _generator()
    u = nn.functional.normalize(torch.randn(width, size, 1, generator=generator), dim=1)
    of_x = (u @ u.mT).flatten(1)
    of_y = _nearest_isometry(of_x * _signs(width, generator), orthogonal_to=of_x)
    with torch.no_grad():
        energy.from_x.weight.copy_(of_x)
        energy.from_x.bias.zero_()
        found = energy.encode(task.sample(1000, generator=generator)[0])
        gain = _SPREAD / found.std(0).mean()
        energy.from_x.weight.mul_(gain)
        energy.from_x.bias.uniform_(-0.5, 0.5).sub_(gain * found.mean(0))
        _make_bowl(energy, of_y, step_size)
    return Symmetric((size, size), -0.2, 0.2)


def _nearest_isometry(weights: Tensor, *, orthogonal_to: Tensor) -> Tensor:
    """The nearest to some weights, of shape ``(units, entries)``, in what the columns of others leave.

    It stretches by one whatever the weights, so projected, do not map to nothing.
    """
    others, stretches, _ = torch.linalg.svd(orthogonal_to.double(), full_matrices=False)
    others = others[:, _nonzero(stretches)]
    left_over = weights.double() - others @ (others.mT @ weights.double())
    left, stretches, right = torch.linalg.svd(left_over, full_matrices=False)
    kept = _nonzero(stretches)
    return (left[:, kept] @ right[kept]).float()


def _nonzero(stretches: Tensor) -> Tensor:
    return stretches > 1e-6 * stretches[0]


def _signs(count: int, generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2, (count, 1), generator=generator) * 2.0 - 1


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
