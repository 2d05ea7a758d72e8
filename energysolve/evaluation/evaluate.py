"""Errors and numbers of steps of a model on fresh problems. Each is solved once; targets never decide when to stop."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..halting import Never
from ..ragged import rows_count, rows_select
from ..recorders import Path, Trajectory
from ..solution import Solution, Status
from ..solver import EnergySolver
from ..tasks import Task

CHUNK = 250
"""Problems solved together, which bounds the memory that trajectories take; answers do not depend on it."""


@dataclass(frozen=True)
class Performance:
    """The performance of a model on fresh problems of one difficulty.

    Attributes:
        difficulty: difficulty of the problems.
        problems: number of problems.
        error: mean error of the answers at which the model itself stopped.
        standard_error: standard error of that mean.
        steps: number of steps of each problem.
        converged: fraction of problems for which the criterion fired.
        nonfinite: number of problems that met a NaN or an infinity.
        energy_before: mean energy at the initial answers; NaN for models without an energy.
        energy_after: mean energy at the answers.
        floors: mean errors of trivial answers to the same problems, by name.
        error_by_step: mean error after each step, see `evaluate`.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver
        >>> from energysolve.evaluation.evaluate import evaluate
        >>> from energysolve.tasks import Inverse
        >>> solver = EnergySolver.from_pretrained("inverse")
        >>> found = evaluate(solver, Inverse(), "same", 4, torch.Generator().manual_seed(0))  # a `Performance`
        >>> found.problems, found.converged, len(found.steps), found.error < found.floors["predict zero"]
        (4, 1.0, 4, True)
    """

    difficulty: str
    problems: int
    error: float
    standard_error: float
    steps: list[int]
    converged: float
    nonfinite: int
    energy_before: float = math.nan
    energy_after: float = math.nan
    floors: dict[str, float] = field(default_factory=dict)
    error_by_step: list[float] = field(default_factory=list)

    def statistics(self) -> dict[str, float]:
        """Mean, median, minimum and maximum of the steps."""
        steps = torch.tensor(self.steps, dtype=torch.float64)
        median = steps.quantile(0.5)
        return {"mean": steps.mean().item(), "median": median.item(), "min": min(self.steps), "max": max(self.steps)}

    def summary(self) -> dict[str, Any]:
        """The numbers without the curve, JSON-able; errors that are not finite become None."""
        return {
            "problems": self.problems,
            "error": finite(self.error),
            "floors": {name: finite(error) for name, error in self.floors.items()},
            "converged": self.converged,
            "nonfinite": self.nonfinite,
            "steps": self.statistics(),
        }

    def to_json(self) -> dict[str, Any]:
        """The summary with the error after each step and the counts of problems by number of steps, JSON-able."""
        counts = {str(step): self.steps.count(step) for step in sorted(set(self.steps))}
        return self.summary() | {"error_by_step": list(map(finite, self.error_by_step)), "steps_counts": counts}


def evaluate(
    model: Any,
    task: Task,
    difficulty: str,
    problems: int,
    generator: torch.Generator,
    *,
    curve: bool = True,
    curve_steps: int | None = None,
    mean_target: Callable[[str], Tensor] | None = None,
    chunk: int = CHUNK,
) -> Performance:
    """Solve fresh problems once each, at the model's own halting.

    Args:
        model: an `EnergySolver`, with initial answers of its own or the task's, or a baseline.
        task: the source of problems, which also defines the error.
        difficulty: one of the task's difficulties.
        problems: number of problems, 1 or more.
        generator: source of randomness, on the device of the model.
        curve: whether to measure the error after every step.
        curve_steps: number of steps to take without halting for the curve (a baseline's begins after its first step).
            By default the curve is that of the solves themselves, in which halted answers stay constant.
        mean_target: see `Task.floors`.
        chunk: number of problems solved together.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver
        >>> from energysolve.evaluation.evaluate import evaluate
        >>> from energysolve.tasks import Addition
        >>> solver = EnergySolver.from_pretrained("addition")
        >>> found = evaluate(solver, Addition(), "harder", 10, torch.Generator().manual_seed(0))
        >>> found.error < 1e-4, found.error_by_step[0] > 1
        (True, True)
    """
    x, target = task.sample(problems, difficulty, generator, generator.device)
    if isinstance(model, EnergySolver):
        model = model.suited(task)
    own_curve = curve and curve_steps is None and isinstance(model, EnergySolver)
    solver = model.replace(recorder=Trajectory()) if own_curve else model
    rows = task.split((x, target, None, None))
    errors, curves, steps, status, before, after = [], [], [], [], [], []
    with torch.no_grad():
        for start in range(0, rows_count(rows), chunk):
            some, wanted, *_ = task.merge(rows_select(rows, slice(start, start + chunk)))
            energy, solution = _solved(solver, some, generator)
            errors.append(task.error(solution, wanted))
            steps.append(solution.steps)
            status.append(solution.status)
            before.append(energy)
            after.append(solution.energy)
            if own_curve:
                curves.append(torch.stack([task.error(iterate, wanted) for iterate in _iterates(solution)]))
            elif curve and curve_steps is not None:
                answers = answers_by_step(model, some, curve_steps, generator)
                curves.append(torch.stack([task.error_of(y, some, wanted) for y in answers]))
        floors = task.floors(difficulty, x, target, mean_target)
    error, ended = torch.cat(errors).double(), torch.cat(status)
    return Performance(
        difficulty=difficulty,
        problems=problems,
        error=error.mean().item(),
        standard_error=(error.std() / problems**0.5).item() if problems > 1 else math.nan,
        steps=torch.cat(steps).tolist(),
        converged=(ended == Status.CONVERGED).double().mean().item(),
        nonfinite=int((ended == Status.NONFINITE).sum()),
        energy_before=torch.cat(before).double().mean().item(),
        energy_after=torch.cat(after).double().mean().item(),
        floors={name: each.double().mean().item() for name, each in floors.items()},
        error_by_step=_joined(curves).double().mean(1).tolist() if curves else [],
    )


def answers_by_step(model: Any, x: Any, steps: int, generator: torch.Generator | None = None) -> Sequence[Any]:
    """The answers after 0, 1, ..., ``steps`` steps, without halting; for a baseline, after 1, ..., ``steps``.

    Examples:
        >>> import torch
        >>> from energysolve import SGD, EnergySolver, Zeros
        >>> from energysolve.evaluation.evaluate import answers_by_step
        >>> solver = EnergySolver(lambda x, y: (y - x).square().sum(-1) / 2, SGD(0.5), init=Zeros((1,)))
        >>> [y.item() for y in answers_by_step(solver, torch.ones(1, 1), steps=3)]
        [0.0, 0.5, 0.75, 0.875]
    """
    if not isinstance(model, EnergySolver):
        return model.iterates(x, steps, generator=generator)
    running = model.replace(halting=Never(), recorder=Trajectory(), max_steps=steps)
    path = running.minimize(x, generator=generator).record
    assert isinstance(path, Path)
    return path.y


def step_edges(performances: Sequence[Performance], bins: int) -> list[int]:
    """Edges of at most ``bins`` bins of the same integer width that cover the steps of all problems."""
    low = min(min(each.steps) for each in performances)
    high = max(max(each.steps) for each in performances)
    width = -(-(high - low + 1) // bins)
    return [*range(low, high + 1, width), low + width * -(-(high - low + 1) // width)]


def _solved(model: Any, x: Any, generator: torch.Generator) -> tuple[Tensor, Solution]:
    """The energies at the initial answers, and the solution."""
    if not isinstance(model, EnergySolver):
        solution = model.solve(x, generator=generator)
        return solution.energy, solution
    start = model.minimize(x, max_steps=0, generator=generator)
    return start.energy, model.minimize(x, start.y, start.z)


def finite(value: float) -> float | None:
    """The number, or None for NaN and infinities, which JSON cannot represent."""
    return value if math.isfinite(value) else None


def _iterates(solution: Solution) -> Iterator[Solution]:
    path = solution.record
    assert isinstance(path, Path)
    for y, z, energy in zip(path.y, path.z, path.energy, strict=True):
        yield replace(solution, y=y, z=z, energy=energy)


def _joined(errors: list[Tensor]) -> Tensor:
    """Errors (steps, problems) of several solves, concatenated; the last row of shorter solves is repeated."""
    longest = max(map(len, errors))
    return torch.cat([torch.cat([rows, rows[-1:].expand(longest - len(rows), -1)]) for rows in errors], dim=1)
