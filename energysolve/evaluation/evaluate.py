"""How well and how fast a solver answers a task: fresh problems, one solve of each, no use of the targets to stop."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..recorders import Path, Trajectory
from ..solution import Solution, Status
from ..solver import EnergySolver
from ..tasks import Completion, Task
from ..trees import tree_map
from .floors import copy

_CHUNK = 250
"""Problems solved together: trajectories keep every iterate, and the answers do not depend on the batch."""


@dataclass(frozen=True)
class Evaluation:
    """What a solver did on fresh problems of one difficulty.

    Attributes:
        difficulty: of the problems.
        problems: how many.
        error: mean error of the answers, where the solver's own criterion halted each.
        error_by_step: mean error after 0, 1, 2, ... steps; answers that have halted stay as they are.
        steps: the steps that each problem took.
        converged: the share of problems whose criterion fired.
        nonfinite: how many problems met a NaN or an infinity.
        zero_error: mean error of answering zero, on the same problems.
        copy_error: for completion, that of giving back what is seen.
    """

    difficulty: str
    problems: int
    error: float
    error_by_step: list[float]
    steps: list[int]
    converged: float
    nonfinite: int
    zero_error: float
    copy_error: float | None = None

    def statistics(self) -> dict[str, float]:
        """Mean, median, least and most steps."""
        steps = torch.tensor(self.steps, dtype=torch.float64)
        median = steps.quantile(0.5)
        return {"mean": steps.mean().item(), "median": median.item(), "min": min(self.steps), "max": max(self.steps)}

    def summary(self) -> dict[str, Any]:
        """The numbers without the curves, JSON-able; an error that is not finite is None."""
        return {
            "problems": self.problems,
            "error": _number(self.error),
            "zero_error": _number(self.zero_error),
            **({} if self.copy_error is None else {"copy_error": _number(self.copy_error)}),
            "converged": self.converged,
            "nonfinite": self.nonfinite,
            "steps": self.statistics(),
        }

    def to_json(self) -> dict[str, Any]:
        """The summary with the error after each step, and how many problems took how many steps."""
        counts = {str(step): self.steps.count(step) for step in sorted(set(self.steps))}
        return self.summary() | {"error_by_step": list(map(_number, self.error_by_step)), "steps_counts": counts}


def evaluate(
    solver: EnergySolver, task: Task, difficulty: str, problems: int, generator: torch.Generator
) -> Evaluation:
    """Solve ``problems`` fresh problems once each, at the solver's own halting.

    Args:
        solver: on the CPU; initial answers are its own or the task's.
        task: the source of problems and the judge of answers.
        difficulty: one of the task's.
        problems: how many, 1 or more.
        generator: source of randomness.
    """
    x, target = task.sample(problems, difficulty, generator)
    solver = solver.suited(task).replace(recorder=Trajectory())
    errors, steps, status, zero = [], [], [], []
    rows = task.split((x, target))
    for start in range(0, problems, _CHUNK):
        chunk_x, chunk_target = task.merge(tree_map(lambda leaf: leaf[start : start + _CHUNK], rows))  # noqa: B023
        with torch.no_grad():
            solution = solver.minimize(chunk_x, generator=generator)
        errors.append(torch.stack([task.error(iterate, chunk_target) for iterate in _iterates(solution)]))
        nothing = replace(solution, y=tree_map(torch.zeros_like, solution.y))
        zero.append(task.error(nothing, chunk_target))
        steps.append(solution.steps)
        status.append(solution.status)
    by_step = _joined(errors).double().mean(1).tolist()
    ended = torch.cat(status)
    return Evaluation(
        difficulty=difficulty,
        problems=problems,
        error=by_step[-1],
        error_by_step=by_step,
        steps=torch.cat(steps).tolist(),
        converged=(ended == Status.CONVERGED).double().mean().item(),
        nonfinite=int((ended == Status.NONFINITE).sum()),
        zero_error=torch.cat(zero).double().mean().item(),
        copy_error=copy(task, x, target).double().mean().item() if isinstance(task, Completion) else None,
    )


def step_edges(evaluations: Sequence[Evaluation], bins: int) -> list[int]:
    """Edges of at most ``bins`` bins of equal whole width that hold the steps of all the evaluations."""
    low = min(min(evaluation.steps) for evaluation in evaluations)
    high = max(max(evaluation.steps) for evaluation in evaluations)
    width = -(-(high - low + 1) // bins)
    return [*range(low, high + 1, width), low + width * -(-(high - low + 1) // width)]


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None  # JSON knows no NaN and no infinity


def _iterates(solution: Solution) -> Iterator[Solution]:
    path = solution.record
    assert isinstance(path, Path)
    for y, z, energy in zip(path.y, path.z, path.energy, strict=True):
        yield replace(solution, y=y, z=z, energy=energy)


def _joined(errors: list[Tensor]) -> Tensor:
    """Errors (steps, problems) of several solves side by side; a solve that ended earlier repeats its last row."""
    longest = max(map(len, errors))
    return torch.cat([torch.cat([rows, rows[-1:].expand(longest - len(rows), -1)]) for rows in errors], dim=1)
