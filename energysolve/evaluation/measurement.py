"""What is measured of a trained model: errors at the end and after every step, composition, and trivial answers."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..baselines import Baseline
from ..composition import compose
from ..halting import Never
from ..presets.catalog import TASKS
from ..recorders import Path, Trajectory
from ..seeding import stream
from ..solution import Status
from ..solver import EnergySolver
from ..tasks import Addition, Task
from .floors import answer_error, floors

PROBLEMS = 1000
STEPS = 50
"""Ten times the steps of training: how far the errors by step go."""
OPERATIONS = 10
"""The most additions composed."""
_CHUNK = 250


def measure(model: EnergySolver | Baseline, task: str, seed: int, problems: int) -> dict[str, Any]:
    """Solve fresh problems of every difficulty once, as JSON.

    ``error`` is that of the answers that the model itself stops at, ``error_by_step`` that after 0, 1, 2, ... steps
    without halting (for baselines from 1 on), ``floors`` those of trivial answers to the same problems, and
    ``composition``, for addition, that of 1, 2, ... additions in a row. A PonderNet
    halts by chance wherever it is asked.

    Args:
        model: on the CPU.
        task: one of the catalog's.
        seed: of the problems, which no training and no choice of settings has seen.
        problems: of each difficulty.
    """
    source = TASKS[task].task_of(model) if isinstance(model, EnergySolver) else _task_of(model, task)
    with torch.no_grad():
        found: dict[str, Any] = {
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "problems": problems,
            "difficulties": {
                difficulty: _difficulty(model, source, task, difficulty, seed, problems)
                for difficulty in source.difficulties
            },
        }
        if isinstance(source, Addition):
            found["composition"] = composition(model, source, seed, problems)
    return found


def _difficulty(model: Any, task: Task, name: str, difficulty: str, seed: int, problems: int) -> dict[str, Any]:
    generator = stream(f"measure {name} {difficulty}", seed)
    x, target = task.sample(problems, difficulty, generator)
    ends, curves, steps, status = [], [], [], []
    for some, wanted in zip(x.split(_CHUNK), target.split(_CHUNK), strict=True):
        solution = model.solve(some, generator=generator)
        ends.append(task.error(solution, wanted))
        steps.append(solution.steps)
        status.append(solution.status)
        answers = answers_by_step(model, some, STEPS, generator)
        curves.append(torch.stack([answer_error(task, y, wanted) for y in answers]))
    trivial = floors(task, difficulty, x, target, stream(f"floors {name} {difficulty}", seed))
    taken = torch.cat(steps).double()
    ended = torch.cat(status)
    return {
        "error": torch.cat(ends).double().mean().item(),
        "standard_error": (torch.cat(ends).double().std() / problems**0.5).item(),
        "converged": (ended == Status.CONVERGED).double().mean().item(),
        "nonfinite": int((ended == Status.NONFINITE).sum()),
        "steps": {"mean": taken.mean().item(), "min": int(taken.min()), "max": int(taken.max())},
        "error_by_step": torch.cat(curves, 1).double().mean(1).tolist(),
        "floors": {kind: each.double().mean().item() for kind, each in trivial.items()},
    }


def answers_by_step(model: Any, x: Tensor, steps: int, generator: torch.Generator | None = None) -> Sequence[Tensor]:
    """The answers after 0, 1, ..., ``steps`` steps, without halting; those of a baseline begin after the first."""
    if isinstance(model, Baseline):
        return model.iterates(x, steps, generator=generator)
    path = (
        model.replace(halting=Never(), recorder=Trajectory(), max_steps=steps).minimize(x, generator=generator).record
    )
    assert isinstance(path, Path)
    return path.y


def composition(model: Any, task: Addition, seed: int, problems: int) -> list[float]:
    """Mean squared error of 1, 2, ..., `OPERATIONS` additions in a row (Section 4.4 of the paper)."""
    generator = stream("measure composition", seed)
    operands = torch.rand(problems, OPERATIONS + 1, task.size, generator=generator) * 2 - 1
    sums = operands.cumsum(1)
    answers = compose(model, operands, generator=generator).solutions
    return [(each.y - sums[:, k + 1]).square().double().mean().item() for k, each in enumerate(answers)]


def _task_of(model: nn.Module, name: str) -> Task:
    shape = model.y_shape
    return TASKS[name].make_task(int(shape[0]))  # pyright: ignore
