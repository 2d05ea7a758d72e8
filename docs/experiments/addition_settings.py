"""Step size and tolerance of the shipped addition energy at test time, on development problems.

    python docs/experiments/addition_settings.py    # writes docs/results/addition-settings.json

The problems have their own random stream, which neither training nor ``energysolve solve`` uses.
"""

import json
from pathlib import Path

from energysolve import SGD, Dense, EnergyChange, EnergySolver
from energysolve.provenance import environment
from energysolve.seeding import stream
from energysolve.tasks import Addition

RESULT = Path(__file__).parents[1] / "results" / "addition-settings.json"
PROBLEMS, SEED = 250, 0


def main() -> None:
    """Solve the same problems with all settings, and write the result file."""
    task, solver = Addition(), EnergySolver.from_pretrained("addition-mlp")
    problems = {}
    for difficulty in task.difficulties:
        generator = stream(f"develop addition {difficulty}", SEED)
        x, target = task.sample(PROBLEMS, difficulty, generator)
        problems[difficulty] = x, target, task.init(x, Dense(PROBLEMS), generator)
    rows = []
    for step_size in (10.0, 20.0, 30.0, 60.0, 100.0):
        for atol in (1e-3, 1e-4, 1e-5, 1e-6):
            row = {"step_size": step_size, "atol": atol}
            for difficulty, (x, target, y) in problems.items():
                halting = EnergyChange(atol=atol).patience(2)
                solution = solver.replace(optimizer=SGD(step_size), halting=halting, max_steps=300).minimize(x, y)
                row[difficulty] = {
                    "error": task.error(solution, target).mean().item(),
                    "steps": solution.steps.double().mean().item(),
                    "converged": solution.converged.double().mean().item(),
                }
            rows.append(row)
    result = {
        "kind": "settings",
        "command": "python docs/experiments/addition_settings.py",
        "seed": SEED,
        "problems": PROBLEMS,
        "rows": rows,
    }
    RESULT.write_text(json.dumps(result | environment(), indent=2) + "\n")


if __name__ == "__main__":
    main()
