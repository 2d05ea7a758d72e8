"""What the tables ask of a trained model: errors, errors by step, floors, and the domain's own measures."""

from typing import Any

from ..baselines import Baseline
from ..evaluation.evaluate import Performance, evaluate, finite
from ..evaluation.floors import mean_target
from ..presets import Domain
from ..seeding import stream
from ..solver import EnergySolver

PROBLEMS = 1000
STEPS = 50
"""Ten times the steps of training: how far the errors by step go."""


def measure(
    model: EnergySolver | Baseline, domain: Domain, seed: int, problems: int, device: str = "cpu"
) -> dict[str, Any]:
    """Solve fresh problems of every difficulty once. The result is JSON-able.

    ``error`` is that of the answers at which the model itself stops; ``error_by_step`` that after 0, 1, 2, ... steps
    without halting (for baselines from 1 on); ``floors`` those of trivial answers to the same problems; the domain's
    `measures` follow under their own names. A PonderNet halts by chance wherever it is asked.

    Args:
        model: on the device.
        domain: whose problems it answers.
        seed: of the problems, which no training and no choice of settings has seen.
        problems: of each difficulty.
        device: where to draw and solve the problems.
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
        difficulties[difficulty] = _as_json(found)
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "problems": problems,
        "difficulties": difficulties,
        **{name: function(model, task, seed, problems) for name, function in domain.measures.items()},
    }


def _as_json(found: Performance) -> dict[str, Any]:
    steps = found.statistics()
    return {
        "error": finite(found.error),
        "standard_error": finite(found.standard_error),
        "converged": found.converged,
        "nonfinite": found.nonfinite,
        "steps": {name: steps[name] for name in ("mean", "min", "max")},
        "error_by_step": list(map(finite, found.error_by_step)),
        "floors": found.floors,
    }
