"""Optimizers and tolerances of the shipped energies at test time, on development problems.

    python docs/experiments/solvers.py    # writes docs/results/solvers.json

The problems have their own random stream, which neither training nor ``energysolve solve`` uses. All settings solve the
same problems from the same initial answers, on one core.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from energysolve import LBFGS, SGD, EnergyChange, EnergySolver, GradientNorm, Momentum
from energysolve.provenance import environment
from energysolve.seeding import stream
from energysolve.tasks import Addition, Completion, Inverse, Task

RESULT = Path(__file__).parents[1] / "results" / "solvers.json"
PROBLEMS, SEED, ROUNDS = 250, 0, 3
RELATIVE = tuple(EnergyChange(rtol=rtol).patience(2) for rtol in (1e-4, 1e-5, 1e-6))
TASKS: dict[str, tuple[Task, list[dict[str, Any]]]] = {
    "addition-mlp": (
        Addition(),
        [
            {"optimizer": SGD(20.0), "halting": EnergyChange(atol=1e-5).patience(2), "max_steps": 300},
            *({"optimizer": LBFGS(), "halting": each} for each in (*RELATIVE, GradientNorm(rtol=1e-3))),
        ],
    ),
    "addition": (
        Addition(),
        [
            {"optimizer": SGD(0.5), "halting": GradientNorm(1e-4)},
            *({"optimizer": LBFGS(), "halting": GradientNorm(tol)} for tol in (1e-3, 1e-4)),
        ],
    ),
    "completion": (
        Completion(),
        [
            {"optimizer": Momentum(0.05), "halting": GradientNorm(1e-2)},
            *({"optimizer": LBFGS(), "halting": each} for each in RELATIVE),
            *({"optimizer": LBFGS(), "halting": GradientNorm(tol)} for tol in (1e-1, 3e-2, 1e-2)),
        ],
    ),
    "inverse": (
        Inverse(),
        [
            {"optimizer": SGD(1.0), "halting": GradientNorm(1e-4)},
            *({"optimizer": LBFGS(), "halting": GradientNorm(tol)} for tol in (1e-2, 1e-3, 1e-4)),
        ],
    ),
}
"""The task of each energy, and the settings to compare; the first are the fixed steps that it was shipped with."""


def measured(name: str, task: Task, difficulty: str, settings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Errors, energies, evaluations and seconds of each of the settings."""
    shipped = EnergySolver.from_pretrained(name)
    x, target = task.sample(PROBLEMS, difficulty, stream(f"develop {name} {difficulty}", SEED))
    rows = []
    for changes in settings:
        solver, seconds = shipped.replace(**changes), []
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            solution = solver.minimize(x, generator=torch.Generator().manual_seed(SEED))
            seconds.append(time.perf_counter() - begun)
        assert solution.evaluations is not None
        rows.append(
            {
                "energy function": name,
                "difficulty": difficulty,
                "optimizer": repr(solver.optimizer),
                "halting": repr(solver.halting),
                "error": task.error(solution, target).double().mean().item(),
                "energy": solution.energy.double().mean().item(),
                "evaluations": solution.evaluations.double().mean().item(),
                "converged": solution.converged.double().mean().item(),
                "seconds": min(seconds),
            }
        )
    return rows


def main(tasks: Mapping[str, tuple[Task, list[dict[str, Any]]]] = TASKS) -> None:
    """Solve the same problems with all settings, and write the result file."""
    torch.set_num_threads(1)
    rows = [
        row
        for name, (task, settings) in tasks.items()
        for difficulty in task.difficulties
        for row in measured(name, task, difficulty, settings)
    ]
    result = {"kind": "solvers", "command": "python docs/experiments/solvers.py", "seed": SEED, "problems": PROBLEMS}
    RESULT.write_text(json.dumps(result | {"rows": rows} | environment(), indent=2) + "\n")


if __name__ == "__main__":
    main()
