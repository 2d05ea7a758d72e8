"""Training of fixed points: the steps ``y - s (y - m(x, y))`` that `FixedPoint` proposes, differentiated directly."""

from typing import Any

import torch
from torch import Tensor, nn

from ..checks import check_nonnegative, check_whole
from ..energy import LeastSquares
from ..initializers import Initializer
from ..layout import layout_of


class EquilibriumSteps(nn.Module):
    """The plain steps of `FixedPoint` on a `LeastSquares` energy ``1/2 |y - m(x, y)|^2``, as a model to train.

    The loss is the mean squared error of the answers after ``steps`` steps, differentiated through the last ``tracked``
    of them, and ``consistency`` times the mean squared residual at the right answer, whose energy is then zero. A step
    needs one forward pass, where a step along the gradient of the energy needs a backward pass too, and training that
    descent a second one. Train it with `SupervisedTrainer` and a replay buffer, and minimize ``energy``
    with `FixedPoint` afterwards.

    Args:
        energy: a `LeastSquares` energy whose residuals have the shape of the answers.
        init: initial answers.
        steps: steps of a batch.
        tracked: steps through which gradients pass.
        step_size: the size ``s`` of a step, above 0 and at most 1.
        consistency: weight of the residual at the right answer, 0 or more.

    Raises:
        TypeError: for an energy of another kind.
        ValueError: for an argument out of range.

    Examples:
        >>> from energysolve import Uniform
        >>> from energysolve.energies import TripleEnergy
        >>> from energysolve.tasks import ShortestPath
        >>> from energysolve.training import EquilibriumSteps, SupervisedTrainer, make_accelerator
        >>> model = EquilibriumSteps(TripleEnergy(width=8, messages=4), Uniform((1,)))
        >>> settings = {"batch_size": 8, "replay": 100, "lr": 1e-2, "accelerator": make_accelerator(cpu=True)}
        >>> trainer = SupervisedTrainer(model, ShortestPath(size=4), **settings)
        >>> losses = []
        >>> trainer.fit(40, lambda progress: losses.append(progress.loss))
        >>> sum(losses[-5:]) < sum(losses[:5])
        True
    """

    def __init__(
        self,
        energy: Any,
        init: Initializer,
        *,
        steps: int = 5,
        tracked: int = 3,
        step_size: float = 0.5,
        consistency: float = 0.0,
    ):
        super().__init__()
        check_whole("EquilibriumSteps", least=1, steps=steps, tracked=tracked)
        check_nonnegative("EquilibriumSteps", consistency=consistency)
        if not isinstance(energy, LeastSquares):
            raise TypeError(f"EquilibriumSteps needs a LeastSquares energy, got {energy!r}.")
        if not 0 < step_size <= 1:
            raise ValueError(f"EquilibriumSteps needs a step_size in (0, 1], got {step_size!r}.")
        self.energy, self.init = energy, init
        self.steps, self.tracked, self.step_size = steps, min(tracked, steps), step_size
        self.consistency = float(consistency)

    def initial(self, x: Any, generator: torch.Generator | None = None) -> Tensor:
        """Initial answers to ``x``."""
        return self.init(x, layout_of(x), generator)

    def loss(self, x: Any, target: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The mean squared error of the answers, from new initial answers."""
        return self.loss_from(x, target, self.initial(x, generator))[0]

    def loss_from(self, x: Any, target: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The mean squared error of the answers that steps from ``y`` lead to, and the answers, detached."""
        context = self.energy.encode(x)
        with torch.no_grad():
            for _ in range(self.steps - self.tracked):
                y = y - self.step_size * self.energy.residuals(context, y)
        for _ in range(self.tracked):
            y = y - self.step_size * self.energy.residuals(context, y)
        loss = (y - target).square().mean()
        if self.consistency:
            loss = loss + self.consistency * self.energy.residuals(context, target).square().mean()
        return loss, y.detach()

    def config(self) -> dict[str, Any]:
        """The settings, as plain JSON."""
        energy = {"class": type(self.energy).__name__, "config": self.energy.config()}
        settings = {name: getattr(self, name) for name in ("steps", "tracked", "step_size", "consistency")}
        return {"energy": energy, **settings}
