"""Validation: the error of an energy on problems that it is not trained on."""

from dataclasses import dataclass
from typing import Any

import torch

from ..checks import check_whole
from ..evaluation.evaluate import evaluate
from ..solver import EnergySolver
from ..tasks.base import Task
from .callbacks import Validated


@dataclass(frozen=True)
class Validation:
    """When and how to validate.

    Args:
        solver: the solver of test time, with its halting criterion and step size; its energy is replaced.
        every: the number of iterations between validations.
        problems: the number of problems of each difficulty; every validation solves the same ones.
        early_stopping: stop after this many validations in a row without a lower error at the first difficulty, and
            restore the weights with the lowest error; None to train to the end.
        seed: determines the problems and their initial answers.

    Raises:
        ValueError: if a number is not a whole number of 1 or more.

    Examples:
        >>> from energysolve import SGD, EnergyChange, EnergySolver, Trainer
        >>> from energysolve.energies import SharedQuadratic
        >>> from energysolve.tasks import Addition
        >>> from energysolve.training import Validation, make_accelerator
        >>> solver = EnergySolver(SharedQuadratic(size=3), SGD(0.5)).suited(Addition(3))
        >>> tested = solver.replace(halting=EnergyChange(rtol=1e-4).patience(2), max_steps=50)
        >>> settings = {"validation": Validation(tested, every=10, problems=16, early_stopping=3), "lr": 0.1}
        >>> trainer = Trainer(solver, Addition(3), **settings, accelerator=make_accelerator(cpu=True))
        >>> trainer.fit(30)
        >>> trainer.best[0] in (10, 20, 30)  # the iteration with the lowest error
        True
    """

    solver: EnergySolver
    every: int = 500
    problems: int = 256
    early_stopping: int | None = None
    seed: int = 0

    def __post_init__(self):
        check_whole("Validation", least=1, every=self.every, problems=self.problems)
        if self.early_stopping is not None:
            check_whole("Validation", least=1, early_stopping=self.early_stopping)

    def run(self, iteration: int, energy: Any, task: Task, device: torch.device) -> Validated:
        """Solve the validation problems with ``energy``, with a generator of their own."""
        solver, generator = self.solver.replace(energy=energy), torch.Generator(device).manual_seed(self.seed)
        found = [
            evaluate(solver, task, difficulty, self.problems, generator, curve=False, chunk=self.problems)
            for difficulty in task.difficulties
        ]
        return Validated(
            iteration,
            error={each.difficulty: each.error for each in found},
            energy_before={each.difficulty: each.energy_before for each in found},
            energy_after={each.difficulty: each.energy_after for each in found},
            steps={each.difficulty: each.statistics()["mean"] for each in found},
        )
