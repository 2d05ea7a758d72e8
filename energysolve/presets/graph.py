"""Edge copy, connected components and shortest paths: tasks on the edges of graphs."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..baselines import (
    Baseline,
    GraphFeedforward,
    GraphIterativeFeedforward,
    GraphPonderNet,
    GraphRecurrent,
    GraphUnrolledFeedforward,
)
from ..energies.graph import GINEEnergy, TripleEnergy
from ..halting import GradientNorm
from ..initializers import EdgeValues, Uniform
from ..optimizers import SGD, FixedPoint
from ..solver import EnergySolver
from ..tasks.graph import Components, EdgeCopy, GraphTask, ShortestPath
from ..training import OneCycle, TrainingConfig
from ..training.equilibrium import EquilibriumSteps
from .domain import Domain, FileJob
from .network import SOLVER, at_test_time, paper, tuned
from .preset import Preset, Settings

_TRIPLES: Settings = {
    "width": 32,
    "messages": 16,
    "bounded": False,
    "steps": 5,
    "tracked": 3,
    "step_size": 0.5,
    "consistency": 10.0,
    "test_from_edges": True,
    "test_window": 3,
    "test_tolerance": 1e-4,
    "test_max_steps": 300,
}


def _equilibrium(task: GraphTask, settings: Settings) -> EquilibriumSteps:
    energy = TripleEnergy(settings["width"], settings["messages"], settings["bounded"])
    options = {name: settings[name] for name in ("steps", "tracked", "step_size", "consistency")}
    return EquilibriumSteps(energy, Uniform((1,)), **options)


def _minimized(model: EquilibriumSteps, settings: Settings) -> EnergySolver:
    return EnergySolver(
        model.energy,
        FixedPoint(memory=0, step_size=settings["step_size"], window=settings["test_window"]),
        # Trained from random answers, so that others than the right one are no fixed points; from the edges, which
        # distances and components are reached from in one direction, the last few of them are avoided, too.
        init=EdgeValues() if settings["test_from_edges"] else Uniform((1,)),
        halting=GradientNorm(settings["test_tolerance"]),
        max_steps=settings["test_max_steps"],
        compact=True,
    )


def _best(iterations: int, lr: float = 1e-2, **settings: Any) -> Preset:
    training = TrainingConfig(batch_size=64, lr=lr, schedule=OneCycle(), replay=10_000)
    return Preset(_equilibrium, iterations, training, {**_TRIPLES, **settings}, in_use=_minimized, stream="train best")


def _network(task: GraphTask, settings: Settings) -> EnergySolver:
    energy = GINEEnergy(settings["width"], settings["layers"], settings["energy_scale"])
    return EnergySolver(energy, SGD(settings["step_size"]), init=Uniform((1,)))


def _at_test_time(solver: EnergySolver, settings: Settings) -> EnergySolver:
    return at_test_time(solver, settings).replace(compact=True)  # a few graphs take many steps


_TEST: dict[str, Any] = {"batch_size": 64, "test_step_size": 50.0}
_TUNING: Settings = {"iterations": 2000}
_NETWORK: Settings = {**SOLVER, "width": 128, "layers": 3, "energy_scale": 1.0}


def _task_of(kind: Callable[..., GraphTask], bounded: bool) -> Callable[[EnergySolver], GraphTask]:
    def task_of(solver: EnergySolver) -> GraphTask:
        energy = solver.energy
        if not isinstance(energy, GINEEnergy) and not (isinstance(energy, TripleEnergy) and energy.bounded == bounded):
            answers = "in (0, 1)" if bounded else "of any size"
            raise ValueError(
                f"the model is no energy of answers {answers} on the edges of graphs: no GINEEnergy, and no "
                f"TripleEnergy with bounded={bounded}"
            )
        return kind()

    return task_of


def _file_solver(kind: Callable[..., GraphTask], title: str) -> Callable[..., tuple[str, list[Path]]]:
    def solve_file(solver: EnergySolver, job: FileJob) -> tuple[str, list[Path]]:
        # Imported on demand: torch-geometric, NetworkX and matplotlib take seconds to import.
        from ..evaluation.figures import save
        from ..evaluation.graph_figures import draw_graph_solve
        from ..streaming.graphs import solve_graph_file

        found = solve_graph_file(solver, kind(), job.input, job.output, job.generator)
        figure = draw_graph_solve(found.graph, found.x, found.y, found.solution, f"{title}: {job.input.name}")
        apart = int((~found.y.isfinite()).sum())
        said = f"{found.x.num_nodes} nodes, {found.y.numel():,} pairs: {found.solution!r}"
        return said + (f"\n{apart:,} pairs without a path: inf" if apart else ""), save(
            figure, job.output.parent, job.output.stem
        )

    return solve_file


_BASELINES: Mapping[str, type[Baseline]] = {
    "feedforward": GraphFeedforward,
    "recurrent": GraphRecurrent,
    "programmatic": GraphPonderNet,
    "iterative": GraphIterativeFeedforward,
    "unrolled": GraphUnrolledFeedforward,
}


def _errors(feedforward: Any, recurrent: Any, programmatic: Any, iterative: Any, irem: Any) -> Mapping[str, Any]:
    """The errors of the paper's Table 1, each for the same and for the larger size."""
    found = {"feedforward": feedforward, "recurrent": recurrent, "programmatic": programmatic}
    found |= {"iterative": iterative, "unrolled": iterative, "irem": irem}
    return {name: {"same": same, "larger": larger} for name, (same, larger) in found.items()}


def _domain(
    name: str,
    title: str,
    kind: Callable[..., GraphTask],
    best: Preset,
    errors: Mapping[str, Any],
    kinds: Any = None,
    *,
    tuning: Settings = _TUNING,
) -> Domain:
    return Domain(
        name=name,
        title=title,
        task=kind,
        size=10,
        task_of=_task_of(kind, bounded=best.settings["bounded"]),
        presets={
            "paper": replace(paper(_network, _NETWORK, **_TEST), in_use=_at_test_time),
            "tuned": replace(tuned(_network, _NETWORK, **_TEST, **tuning), in_use=_at_test_time),
            "best": best,
        },
        paper=errors,
        kinds=kinds or {},
        baselines=_BASELINES,
        solve_file=_file_solver(kind, title),
        harder="larger",
        section="graphs",
    )


EDGE_COPY = _domain(
    "edge-copy",
    "Edge copy",
    EdgeCopy,
    # The answer is linear in the problem: steps of size 1 arrive at once, and wide networks are learned more exactly.
    _best(2000, width=128, messages=1, steps=2, tracked=2, step_size=1.0, test_from_edges=False, lr=5e-3),
    _errors((0.3016, 0.3124), (0.3015, 0.3113), (0.3053, 0.4409), (0.6163, 0.6498), (0.0019, 0.0019)),
    # Minima are learned exactly at low rates only.
    tuning={"iterations": 40_000, "lr": 2e-4},
)
COMPONENTS = _domain(
    "components",
    "Connected components",
    Components,
    # From the edges, connections spread along chains. The energy rises while ever more of them spread at once, and
    # steps that had to lower it would end in between.
    _best(3000, bounded=True, test_window=None),
    _errors((0.1796, 0.3460), (0.1794, 0.2766), (0.2338, 3.1381), (0.4908, 1.2064), (0.1424, 0.2171)),
    {"edges with probability 1/n": lambda size: Components(size, 1 / size)},
)
SHORTEST_PATH = _domain(
    "shortest-path",
    "Shortest path",
    ShortestPath,
    _best(8000),
    _errors((0.1233, 1.4089), (0.1259, 0.1083), (0.1375, 0.1290), (0.4588, 0.7688), (0.0274, 0.0464)),
)
