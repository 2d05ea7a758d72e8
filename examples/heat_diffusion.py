"""Heat on a graph: Laplacian smoothing as energy minimization, against the direct solution.

One implicit step of the heat equation ``du/dt = -L u``, of length ``t`` from noisy temperatures ``x`` on the nodes, is
the minimum of ``1/2 sum_i (y_i - x_i)^2 + t/2 sum_(i,j) w_ij (y_i - y_j)^2``, a sum over nodes and one over edges.
Several graphs of different sizes are solved in one batch; each halts on its own. SciPy solves ``(I + t L) y = x``.

    python heat_diffusion.py
"""

import networkx as nx
import numpy as np
import torch
from scipy.sparse import eye_array
from scipy.sparse.csgraph import laplacian
from scipy.sparse.linalg import spsolve

from energysolve import EnergySolver, FromInput, GradientNorm
from energysolve.graph import node_layout
from energysolve.layout import layout_of
from energysolve.user_graphs import to_batch

TIME = 2.0


def energy(x, y):
    """Distance from the temperatures, and differences along the edges (of which each has two directions)."""
    source, target = x.edge_index
    differences = x.edge_attr * (y[source] - y[target]).square()
    return node_layout(x).sum((y - x.temperature).square()) / 2 + TIME / 4 * layout_of(x).sum(differences)


solver = EnergySolver(
    energy,
    init=FromInput(lambda x: x.temperature),
    layout=node_layout,
    halting=GradientNorm(1e-9),
    max_steps=300,
)


def main():
    names = ("karate club", "Les Misérables", "Florentine families")
    graphs = [nx.karate_club_graph(), nx.les_miserables_graph(), nx.florentine_families_graph()]
    x = to_batch(graphs)
    x.edge_attr = x.edge_attr.double()
    generator = torch.Generator().manual_seed(0)
    x.temperature = torch.randn(x.num_nodes, 1, generator=generator, dtype=torch.float64)
    solution = solver.minimize(x)
    print(solution)
    for number, (name, graph) in enumerate(zip(names, graphs, strict=True)):
        nodes = x.batch == number
        matrix = laplacian(nx.to_scipy_sparse_array(graph, dtype=float).tocsc())
        system = eye_array(len(graph)) + TIME * matrix  # pyright: ignore[reportOperatorIssue]
        direct = spsolve(system, x.temperature[nodes, 0].numpy())
        error = np.abs(solution.y[nodes, 0].numpy() - direct).max()
        print(f"{name}: {len(graph)} nodes, {solution.steps[number]} steps, largest difference {error:.1e}")


if __name__ == "__main__":
    main()
