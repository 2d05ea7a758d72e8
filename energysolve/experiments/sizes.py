"""Errors and steps against the size of graphs, up to ten times the largest of training; also of sparse graphs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..evaluation.evaluate import CHUNK
from ..evaluation.figures import save
from ..landscape.figures import draw_error_curves
from ..presets import Domain
from ..recorders import Trajectory
from ..seeding import stream
from ..solver import EnergySolver
from .runs import Laboratory, Run

SIZES = {10: 1000, 15: 1000, 20: 300, 30: 100, 60: 20, 100: 10}
"""Numbers of nodes, and the most problems of each."""
_SPARSE = (100, 3)
"""Nodes and number of the sparse graphs."""
_CHUNK_PAIRS = 25_000


def reproduce(laboratory: Laboratory, preset: str, seeds: int) -> list[Path]:
    """Evaluate the runs of the preset at every size, and draw a figure. Returns the paths of the written files."""
    found: dict[str, Any] = {}
    for task, domain in laboratory.graphs().items():
        found[task] = {
            f"seed {seed}": measure_sizes(
                laboratory.model(Run(task, "irem", preset, seed)), domain, laboratory.problems
            )
            for seed in range(seeds)
        }
    result = laboratory.results / "sizes.json"
    laboratory.write(result, {"kind": "sizes", "command": laboratory.command, "preset": preset, "tasks": found})
    return [result, *_draw(laboratory, found)]


def measure_sizes(solver: EnergySolver, domain: Domain, most: int) -> dict[str, Any]:
    """Errors, steps and floors by kind of problem and size. JSON-able."""
    kinds = {"as in training": domain.task, **domain.kinds}
    found: dict[str, Any] = {
        name: {n: _at(solver, make(n), n, min(most, problems)) for n, problems in SIZES.items()}
        for name, make in kinds.items()
    }
    for name, graphs in sparse_graphs(*_SPARSE).items():
        found[name] = {_SPARSE[0]: _on(solver, domain.task(_SPARSE[0]), graphs[: max(1, most // 50)])}
    return found


def sparse_graphs(nodes: int, count: int) -> Mapping[str, list[Any]]:
    """Random sparse weighted graphs of NetworkX, of kinds that training never sees.

    Random geometric graphs in the unit square, with the distances as weights, and Barabási-Albert graphs with weights
    uniform in (0, 1); some are disconnected.
    """
    import networkx as nx

    generator = stream("sparse graphs", 0)
    geometric, attached = [], []
    for seed in range(count):
        graph = nx.random_geometric_graph(nodes, 0.2, seed=seed)
        places = nx.get_node_attributes(graph, "pos")
        for u, v, attributes in graph.edges(data=True):
            (a, b), (c, d) = places[u], places[v]
            attributes["weight"] = ((a - c) ** 2 + (b - d) ** 2) ** 0.5
        geometric.append(graph)
        graph = nx.barabasi_albert_graph(nodes, 3, seed=seed)
        for _, _, attributes in graph.edges(data=True):
            attributes["weight"] = torch.rand((), generator=generator).item()
        attached.append(graph)
    return {"random geometric": geometric, "Barabási-Albert": attached}


@torch.no_grad()
def _at(solver: EnergySolver, task: Any, size: int, problems: int) -> dict[str, Any]:
    """On fresh problems of one size, a few at a time."""
    generator = stream(f"sizes {task!r}", size)
    recording = solver.replace(recorder=Trajectory())
    chunk = max(1, min(CHUNK, _CHUNK_PAIRS // size**2))
    curves, errors, exact, steps, converged, variances, floors = [], [], [], [], [], [], []
    for start in range(0, problems, chunk):
        x, target = task.sample(min(chunk, problems - start), "same", generator)
        solution = recording.minimize(x, generator=generator)
        curves.append(torch.stack([task.error_of(y, x, target) for y in solution.record.y]))
        errors.append(task.error(solution, target))
        exact.append(_exact(solution, target))
        steps.append(solution.steps)
        converged.append(solution.converged)
        variances.append(target.var())
        floors.append({name: each.mean().item() for name, each in task.floors("same", x, target).items()})
    taken = torch.cat(steps).double()
    longest = max(map(len, curves))
    curve = torch.cat([torch.cat([each, each[-1:].expand(longest - len(each), -1)]) for each in curves], 1).mean(1)
    return {
        "problems": problems,
        "error": torch.cat(errors).double().mean().item(),
        "largest error": torch.cat(errors).max().item(),
        "best step's error": curve.double().min().item(),
        "floors": {name: sum(each[name] for each in floors) / len(floors) for name in floors[0]},
        "variance of the answers": torch.stack(variances).mean().item(),
        "exact": torch.cat(exact).double().mean().item(),
        "steps": {"mean": taken.mean().item(), "max": int(taken.max())},
        "converged": torch.cat(converged).double().mean().item(),
    }


def _exact(solution: Any, target: torch.Tensor) -> torch.Tensor:
    """The graphs all of whose answers are within 1/2 of the right ones: right after rounding, for components."""
    wrong = ((solution.y - target).abs() >= 0.5).to(target.dtype)
    return solution.layout.sum(wrong) == 0


def _on(solver: EnergySolver, task: Any, graphs: list[Any]) -> dict[str, Any]:
    """On given graphs, one by one."""
    from ..user_graphs import solve_task, to_batch

    errors, steps, converged, variances, exact = [], [], [], [], []
    for graph in graphs:
        x, y, solution = solve_task(solver, to_batch(graph), task, generator=stream("sparse", 0))
        target = task.exact(x)
        connected = target.isfinite()
        errors.append((y - target)[connected].square().mean().item())
        variances.append(target[connected].var().item())
        exact.append(bool(((y - target)[connected].abs() < 0.5).all()))
        steps.append(int(solution.steps[0]))
        converged.append(bool(solution.converged[0]))
    count = len(graphs)
    return {
        "problems": count,
        "error": sum(errors) / count,
        "largest error": max(errors),
        "steps": {"mean": sum(steps) / count, "max": max(steps)},
        "converged": sum(converged) / count,
        "variance of the answers": sum(variances) / count,
        "exact": sum(exact) / count,
    }


def _draw(laboratory: Laboratory, found: Mapping[str, Any]) -> list[Path]:
    curves, places = {}, {}
    for task, domain in laboratory.graphs().items():
        for kind, sizes in found[task]["seed 0"].items():
            if len(sizes) > 1:
                name = domain.title if kind == "as in training" else f"{domain.title}, {kind}"
                curves[name] = [each["error"] for each in sizes.values()]
                places[name] = list(sizes)
    figure = draw_error_curves(curves, {}, "Error against size", "nodes", "mean squared error", x=places)
    return save(figure, laboratory.results, "sizes")
