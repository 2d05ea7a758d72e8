# %% [markdown]
"""
# Heat on social networks, against the direct solution

Temperatures on the nodes of three networks of different sizes, smoothed in one batch by
one implicit step of the heat equation. SciPy solves the same linear systems directly.
Needs the extra `graph`.
"""

# %%
import networkx as nx
import numpy as np
import torch
from matplotlib import pyplot as plt
from scipy.sparse import eye_array
from scipy.sparse.csgraph import laplacian
from scipy.sparse.linalg import spsolve

from energysolve import EnergySolver, FromInput, GradientNorm
from energysolve.graph import node_layout
from energysolve.layout import layout_of
from energysolve.user_graphs import to_batch

# %% [markdown]
# ## The energy
#
# One implicit step of the heat equation `du/dt = -L u`, of length `t` from the
# temperatures `x` on the nodes, is the minimum of a sum over nodes and one over edges:
#
#     1/2 sum_i (y_i - x_i)^2 + t/2 sum_(i,j) w_ij (y_i - y_j)^2
#
# A layout sums each to one number for each graph. In a batch each edge is listed in
# both directions, so the second sum is halved once more.

# %%
TIME = 2.0


def energy(x, y):
    source, target = x.edge_index
    differences = x.edge_attr * (y[source] - y[target]).square()
    near = node_layout(x).sum((y - x.temperature).square())
    return near / 2 + TIME / 4 * layout_of(x).sum(differences)


# %% [markdown]
# ## The solve
#
# `to_batch` takes NetworkX graphs. Each graph is a sample, and halts on its own.

# %%
graphs = {
    "karate club": nx.karate_club_graph(),
    "Les Misérables": nx.les_miserables_graph(),
    "Florentine families": nx.florentine_families_graph(),
}
x = to_batch(list(graphs.values()))
x.edge_attr = x.edge_attr.double()
generator = torch.Generator().manual_seed(0)
x.temperature = torch.randn(x.num_nodes, 1, generator=generator, dtype=torch.float64)

solver = EnergySolver(
    energy,
    init=FromInput(lambda x: x.temperature),
    layout=node_layout,
    halting=GradientNorm(1e-9),
    max_steps=300,
)
solution = solver.minimize(x)
print(solution)

# %% [markdown]
# ## The direct solution
#
# SciPy solves `(I + t L) y = x`, one graph at a time.

# %%
largest = {}
for number, (name, graph) in enumerate(graphs.items()):
    nodes = x.batch == number
    matrix = laplacian(nx.to_scipy_sparse_array(graph, dtype=float).tocsc())
    system = eye_array(len(graph)) + TIME * matrix  # pyright: ignore[reportOperatorIssue]
    direct = spsolve(system, x.temperature[nodes, 0].numpy())
    largest[name] = np.abs(solution.y[nodes, 0].numpy() - direct).max()
    print(f"{name}: {solution.steps[number]} steps, {largest[name]:.1e} apart")

# %%
graph, nodes = graphs["karate club"], x.batch == 0
places = nx.spring_layout(graph, seed=3)


def draw(axis, title, values):
    nx.draw_networkx_edges(graph, places, ax=axis, alpha=0.3)
    axis.set_title(title)
    axis.axis("off")
    return nx.draw_networkx_nodes(
        graph,
        places,
        node_color=values[nodes, 0].numpy(),
        node_size=80,
        cmap="coolwarm",
        vmin=-2,
        vmax=2,
        ax=axis,
    )


figure, (top, bottom) = plt.subplots(2, 1, figsize=(6, 8), layout="constrained")
draw(top, "temperatures", x.temperature)
shown = draw(bottom, "after a step of the heat equation", solution.y)
figure.colorbar(shown, ax=(top, bottom), shrink=0.5)
plt.show()

# %% [markdown]
# More on graphs, and on answers on edges: [Graphs](../docs/graphs.md).
