"""Figures of graphs and of the answers on all pairs of their nodes. Importing this module imports matplotlib."""

from typing import Any

import networkx as nx
import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .figures import COLORS, STYLE

_SHOWN = 3
"""Iterates whose answers are shown."""


def draw_graph_solve(graph: Any, x: Any, y: Any, solution: Any, title: str) -> Figure:
    """A graph, its answers after some of the steps as matrices, and its energy against the steps.

    Args:
        graph: a NetworkX graph or a SciPy matrix.
        x: the problem, a batch of one complete graph in the order of pairs.
        y: the final answers, as the task reads them; those that are not finite are left white.
        solution: a solve of one graph, recorded by `Trajectory`.
        title: the title of the figure.
    """
    nodes = int(x["num_nodes"])
    path = solution.record
    last = len(path.y) - 1
    chosen = sorted({0, *np.linspace(0, last, _SHOWN).round().astype(int).tolist()})
    iterates = [path.y[k].reshape(nodes, nodes).cpu().numpy() for k in chosen]
    final = y.reshape(nodes, nodes).cpu().numpy()
    iterates[-1] = np.where(np.isfinite(final), final, np.nan)
    low, high = np.nanmin(iterates[-1]), np.nanmax(iterates[-1])
    with rc_context(STYLE):
        figure = Figure(figsize=(3.4 * (len(chosen) + 2), 3.6), layout="constrained")
        axes = figure.subplots(1, len(chosen) + 2)
        figure.suptitle(title, fontsize=12)
        _draw_graph(axes[0], graph)
        for each, step, answers in zip(axes[1:-1], chosen, iterates, strict=True):
            each.imshow(answers, vmin=low, vmax=high, cmap="viridis")
            each.set(title=f"answers after {step} steps", xlabel="to node", ylabel="from node")
        figure.colorbar(axes[-2].images[0], ax=axes[-2], shrink=0.8)
        energies = [max(float(energy[0]), np.finfo(np.float32).tiny) for energy in path.energy[: last + 1]]
        axes[-1].plot(energies, color=COLORS[0], linewidth=2)
        axes[-1].set(yscale="log", xlabel="steps", ylabel="energy", title="Energy against steps")
        axes[-1].grid(axis="y", linewidth=0.4, alpha=0.5)
    return figure


def _draw_graph(axes: Axes, graph: Any) -> None:
    if not isinstance(graph, nx.Graph):
        graph = nx.from_scipy_sparse_array(graph, create_using=nx.DiGraph)
    places = nx.spring_layout(graph, seed=0)
    for u, v in graph.edges:
        axes.plot(*zip(places[u], places[v], strict=True), color="0.75", linewidth=0.8, zorder=1)
    axes.scatter(*np.array([places[node] for node in graph]).T, s=40, color=COLORS[0], zorder=2)
    for node in graph if len(graph) <= 40 else ():
        axes.annotate(
            str(node), (places[node][0], places[node][1]), fontsize=6, xytext=(3, 3), textcoords="offset points"
        )
    axes.set(title=f"{len(graph)} nodes, {graph.number_of_edges()} edges")
    axes.axis("off")
