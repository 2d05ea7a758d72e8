"""Figure 5: the energy of candidate answers against their distance from the right answer."""

from pathlib import Path

from ..evaluation.figures import save
from ..landscape import energy_by_distance
from ..landscape.figures import draw_energy_by_distance
from ..seeding import stream
from .runs import Laboratory

_PROBLEMS = 20


def reproduce(laboratory: Laboratory, preset: str, seeds: int) -> list[Path]:
    """Draw a figure per task and save the rank correlations. Returns the paths of the written files."""
    paths, found = [], {}
    for task, domain in laboratory.continuous().items():
        path, target = laboratory.fresh_descent(task, preset, "figure5", _PROBLEMS)
        energies = energy_by_distance(path, target, generator=stream(f"figure5 candidates {task}", 0))
        title = f"{domain.title}: energy against distance to the solution"
        paths += save(draw_energy_by_distance(energies, title), laboratory.results, f"figure5-{task}")
        each = energies.rank_correlation_by_problem
        found[task] = {
            "problems": _PROBLEMS,
            "candidates": len(energies.distance),
            "rank_correlation": energies.rank_correlation,
            "rank_correlation_by_problem": {"mean": each.mean().item(), "min": each.min().item()},
        }
    result = laboratory.results / "figure5.json"
    laboratory.write(result, {"kind": "figure5", "command": laboratory.command, "preset": preset, "tasks": found})
    return [*paths, result]
