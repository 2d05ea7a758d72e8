"""Initial weights of the paper's network, and initial answers: where training starts.

The architecture is the same for every start. ``docs/experiments/continuous.md`` explains the choice and its effect.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..energies.mlp import MLPEnergy
from ..initializers import Initializer, Symmetric
from ..tasks import Inverse, Task

Start = Callable[[MLPEnergy, Task, float], Initializer]
"""Sets the weights of an energy in place, for a task and a step size; returns the initializer of the answers."""

_CURVATURE = 0.5
"""Curvature of the initial energy times the step size: the part of the distance to the minimum that a step removes."""
_NOISE = 0.3
"""Noise in the hidden layers, relative to torch's initial weights, and in the last layer, relative to its weights."""
_SWISH = 7 / 32
"""The second derivative at zero of three composed swish functions."""
_SPREAD = 1.8
"""Standard deviation of a probe's response over problems."""


def as_in_paper(energy: MLPEnergy, task: Task, step_size: float) -> Initializer:
    """Torch's initial weights and the task's initial answers."""
    return task.init


def probes(energy: MLPEnergy, task: Task, step_size: float) -> Initializer:
    """For symmetric matrices: each unit of the first layer probes the problem along a random direction ``u``.

    Its weights for the problem are ``u uᵀ``, scaled to reach the curved part of the activation. Its weights for the
    answer are close to ``± u uᵀ`` with random signs: the nearest weights that give all answers the same curvature and
    whose columns are orthogonal to those for the problem. No change of the answer can then compensate a change of the
    problem, so the minimum keeps all information about the problem. Initial answers are small and symmetric; the
    iterates stay symmetric.

    Raises:
        ValueError: if answers to the task are not symmetric matrices, or the energy is too narrow to distinguish all
            problems and all answers.
    """
    if not isinstance(task, Inverse):
        raise ValueError(f"The start 'probes' is for symmetric matrices, that is, for the inverse; got {task!r}.")
    size, width = task.size, energy.width
    if width < size * (size + 1):
        raise ValueError(
            f"The start 'probes' needs a width of {size * (size + 1)} or more for matrices of size {size}, twice the "
            f"entries of a symmetric matrix; got {width}. Widen the energy or use the start 'paper'."
        )
    # Seeded from torch's generator, which is seeded for the initial weights.
    generator = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
    u = nn.functional.normalize(torch.randn(width, size, 1, generator=generator), dim=1)
    of_x = (u @ u.mT).flatten(1)
    signs = torch.randint(0, 2, (width, 1), generator=generator) * 2.0 - 1
    of_y = _nearest_isometry(of_x * signs, orthogonal_to=of_x)
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
    """The partial isometry nearest to weights ``(units, entries)`` projected off the columns of ``orthogonal_to``."""
    others, values, _ = torch.linalg.svd(orthogonal_to.double(), full_matrices=False)
    others = others[:, values > 1e-6 * values[0]]
    projected = weights.double() - others @ (others.mT @ weights.double())
    left, values, right = torch.linalg.svd(projected, full_matrices=False)
    kept = values > 1e-6 * values[0]
    return (left[:, kept] @ right[kept]).float()


def _make_bowl(energy: MLPEnergy, of_y: Tensor, step_size: float) -> None:
    """Make the energy convex in the answer, with `_CURVATURE` as its curvature times the step size.

    The layers above the first are identities with a little noise, and the last one sums.
    """
    energy.from_y.weight.copy_(of_y)
    for layer in energy.hidden:
        assert isinstance(layer, nn.Linear)
        layer.weight.mul_(_NOISE).add_(torch.eye(energy.width))
        layer.bias.zero_()
    rank = int(torch.linalg.matrix_rank(of_y))
    curvature = _SWISH * of_y.square().sum() / rank * step_size * energy.scale
    energy.head.weight.uniform_(1 - _NOISE, 1 + _NOISE).mul_(_CURVATURE / curvature)


STARTS: dict[str, Start] = {"paper": as_in_paper, "probes": probes}
