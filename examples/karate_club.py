# %% [markdown]
"""
# Distances in a real network, by a learned energy

How far are the members of a karate club from each other (Zachary, 1977)? The shipped
energy of shortest paths has learned from random graphs of 2 to 10 nodes; the club has
34 members. Its energy tells whether the answer can be trusted. Needs the extra `graph`.
"""

# %%
import networkx as nx
import numpy as np
from matplotlib import pyplot as plt

from energysolve import EnergySolver
from energysolve.tasks import ShortestPath
from energysolve.user_graphs import solve_graphs

# %% [markdown]
# ## The network
#
# Edges carry the number of interactions of two members. Two who meet often are close,
# so an edge is as long as the inverse of that number.

# %%
graph = nx.karate_club_graph()
for _, _, edge in graph.edges(data=True):
    edge["length"] = 1 / edge["weight"]

# %% [markdown]
# ## The solve
#
# `solve_graphs` makes the problem, one edge for each pair of members, and returns a
# graph with an answer for each pair.

# %%
solver = EnergySolver.from_pretrained("shortest-path")
distances, solution = solve_graphs(solver, graph, ShortestPath(), weight="length")
print(solution)

# %% [markdown]
# An energy near zero says that the answers are consistent with each other: each
# distance is the least sum over ways through a third member. Dijkstra's algorithm
# agrees:

# %%
right = dict(nx.all_pairs_dijkstra_path_length(graph, weight="length"))
pairs = [(u, v) for u in graph for v in graph if u < v]
found = np.array([distances.edges[u, v]["answer"] for u, v in pairs])
exact = np.array([right[u][v] for u, v in pairs])
print(f"{len(pairs)} distances, largest error {np.abs(found - exact).max():.3f}")

# %%
figure, (top, bottom) = plt.subplots(
    2, 1, figsize=(6, 8), height_ratios=(3, 2), layout="constrained"
)
places = nx.spring_layout(graph, seed=3)
member = 0
colors = [distances.edges[member, v]["answer"] for v in graph]
nx.draw_networkx_edges(graph, places, ax=top, alpha=0.3)
shown = nx.draw_networkx_nodes(
    graph, places, node_color=colors, node_size=120, cmap="viridis_r", ax=top
)
nx.draw_networkx_labels(graph, places, {member: "0"}, font_color="white", ax=top)
figure.colorbar(shown, ax=top, label="distance from member 0")
top.axis("off")
bottom.plot(exact, found, ".", markersize=3)
bottom.plot([0, exact.max()], [0, exact.max()], color="black", linewidth=0.6)
bottom.set(xlabel="Dijkstra", ylabel="learned energy")
plt.show()

# %% [markdown]
# On larger sparse graphs the learned energy is less exact: [Graphs](../docs/graphs.md)
# has the conventions and the measurements, and the energies of components and of your
# own.
