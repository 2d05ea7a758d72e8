"""Domains: everything that the commands, evaluations and experiments ask of one task."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ..baselines import Baseline
from ..solver import EnergySolver
from ..tasks import Task
from .methods import BASELINES, baseline_preset
from .preset import Preset


def same_size(solver: EnergySolver, problem_shape: tuple[int, ...]) -> EnergySolver:
    """The solver as it is."""
    return solver


@dataclass(frozen=True)
class Domain:
    """A task with everything that the commands, evaluations and experiments ask of it.

    Attributes:
        name: on the command line, and in the names of result files.
        title: for headings.
        task: the task at a size.
        size: the default size, the paper's.
        task_of: the task that a solver was made for; a ValueError if its energy is none of this domain.
        presets: by name, in the order of the columns of results.
        energies: classes of energies that saved solvers of the domain may have, besides the library's own.
        at_size: a solver for problems of another shape, see `energysolve.presets.at_size`.
        paper: mean errors that the paper reports, by method and difficulty.
        limit: the name of the bound on every method, where it is not zero and `energysolve.experiments.limits` computes
            it.
        measures: what is measured of a model besides its errors, by name: functions of a model, the task, a seed and
            a number of problems.
    """

    name: str
    title: str
    task: Callable[[int], Task]
    size: int
    task_of: Callable[[EnergySolver], Task]
    presets: Mapping[str, Preset]
    energies: tuple[type[nn.Module], ...] = ()
    at_size: Callable[[EnergySolver, tuple[int, ...]], EnergySolver] = same_size
    paper: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    limit: str | None = None
    measures: Mapping[str, Callable[[Any, Any, int, int], Any]] = field(default_factory=dict)

    def preset(self, name: str, method: str = "irem") -> Preset:
        """The preset of a name, for the energy model or for one of the baselines.

        Raises:
            ValueError: if there is no such preset or method; the message lists those that exist.
        """
        if name not in self.presets:
            raise ValueError(f"{self.title} has no preset {name!r}; its presets are: {', '.join(self.presets)}.")
        if method == "irem":
            return self.presets[name]
        if method not in BASELINES:
            raise ValueError(f"There is no method {method!r}; the methods are: irem, {', '.join(BASELINES)}.")
        return baseline_preset(self.presets[name], BASELINES[method])

    def task_at(self, preset: Preset) -> Task:
        """The task at the size of a preset."""
        return self.task(preset.size or self.size)

    def task_for(self, model: EnergySolver | Baseline) -> Task:
        """The task that a trained model answers."""
        return self.task_of(model) if isinstance(model, EnergySolver) else self.task(model.y_shape[0])

    @property
    def paper_irem(self) -> Mapping[str, float]:
        """The errors that the paper reports for its energy model, by difficulty."""
        return self.paper.get("irem", {})
