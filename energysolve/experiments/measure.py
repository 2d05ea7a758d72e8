"""The measurements of a trained model for the tables: errors, errors by step, floors, and the domain's measures."""

from typing import Any

from ..baselines import Baseline
from ..evaluation.evaluate import evaluate, finite
from ..evaluation.floors import mean_target
from ..presets import Domain
from ..seeding import stream
from ..solver import EnergySolver

PROBLEMS = 1000
STEPS = 50
"""Number of steps of the errors by step: ten times that of training."""


def measure(
    model: EnergySolver | Baseline, domain: Domain, seed: int, problems: int, device: str = "cpu"
) -> dict[str, Any]:
    """Solve fresh problems of every difficulty once. The result is JSON-able.

    ``error`` is the error of the answers at which the model itself stops; ``error_by_step`` the errors after 0, 1, 2,
    ... steps without halting (for baselines from 1 on; a PonderNet still halts at random); ``floors`` the errors of
    trivial answers to the same problems. The domain's ``measures`` follow by name.

    Args:
        model: a model on the device.
        domain: the domain of the problems.
        seed: seed of the problems, which differ from those of training and of choosing settings.
        problems: number of problems per difficulty.
        device: the device on which to draw and solve problems.
    """
    task = domain.task_for(model)
    difficulties = {}
    for difficulty in task.difficulties:
        means = stream(f"floors {domain.name} {difficulty}", seed, device)
        found = evaluate(
            model,
            task,
            difficulty,
            problems,
            stream(f"measure {domain.name} {difficulty}", seed, device),
            curve_steps=STEPS,
            mean_target=lambda of, generator=means: mean_target(task, of, generator),
        )
        steps = found.statistics()
        difficulties[difficulty] = {
            "error": finite(found.error),
            "standard_error": finite(found.standard_error),
            "converged": found.converged,
            "nonfinite": found.nonfinite,
            "steps": {name: steps[name] for name in ("mean", "min", "max")},
            "error_by_step": list(map(finite, found.error_by_step)),
            "floors": found.floors,
        }
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "problems": problems,
        "difficulties": difficulties,
        **{name: function(model, task, seed, problems) for name, function in domain.measures.items()},
    }
