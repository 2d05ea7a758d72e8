"""Training of minima: the answers of a solver, differentiated by the implicit function theorem."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import check_nonnegative
from ..solver import EnergySolver
from ..trees import tree_leaves


class MinimumLoss(nn.Module):
    """The squared error of the minima that a solver finds, as a model to train.

    Where an energy scales with its problems (see `Energy.normalized`), errors scale too, and those to large problems
    would decide. The loss divides the squared error of each sample by its unit to the power of ``power``.

    Args:
        solver: a solver whose ``differentiation`` reaches the energy's parameters.
        power: power of the units, 0 or more; 0 for the plain squared error, 2 for that in the units themselves.
        pose: ``pose(x, target)``, the problems to solve, where training knows more than the problems of the task say;
            by default ``x``.

    Raises:
        ValueError: if ``power`` is negative.

    Examples:
        >>> from energysolve import EnergySolver, GradientNorm, Implicit
        >>> from energysolve.energies import SharedQuadratic
        >>> from energysolve.tasks import Addition
        >>> from energysolve.training import MinimumLoss, SupervisedTrainer, make_accelerator
        >>> solver = EnergySolver(SharedQuadratic(size=3), halting=GradientNorm(1e-2), differentiation=Implicit())
        >>> model = MinimumLoss(solver.suited(Addition(3)))
        >>> settings = {"batch_size": 8, "lr": 0.2, "accelerator": make_accelerator(cpu=True)}
        >>> losses = []
        >>> SupervisedTrainer(model, Addition(3), **settings).fit(15, lambda progress: losses.append(progress.loss))
        >>> losses[-1] < losses[0] / 10
        True
    """

    def __init__(self, solver: EnergySolver, power: float = 0.0, pose: Callable[[Any, Any], Any] | None = None):
        super().__init__()
        check_nonnegative("MinimumLoss", power=power)
        self.solver, self.power, self._pose = solver, float(power), pose

    @property
    def energy(self) -> Any:
        """The energy that is trained."""
        return self.solver.energy

    def loss(self, x: Any, target: Any, generator: torch.Generator | None = None) -> Tensor:
        """The mean over the samples of the mean squared error of each."""
        x = x if self._pose is None else self._pose(x, target)
        solution = self.solver.minimize(x, generator=generator)
        pairs = zip(tree_leaves(solution.y), tree_leaves(target), strict=True)
        errors = torch.stack([(y - right).square().flatten(1).mean(1) for y, right in pairs]).mean(0)
        normalized = self.energy.normalized(x) if self.power else None
        return (errors if normalized is None else errors / normalized.unit**self.power).mean()

    def config(self) -> dict[str, Any]:
        """The settings, as plain JSON."""
        energy = {"class": type(self.energy).__name__, "config": self.energy.config()}
        return {"energy": energy, "power": self.power}
