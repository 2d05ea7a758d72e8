"""Users' own graphs: from torch-geometric, NetworkX or SciPy to a batch, and answers back in the form of the graphs."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .graph import Batch, Data, all_pairs
from .layout import layout_of
from .solution import Solution

FORMS = "a torch_geometric Data or Batch, a NetworkX graph, a SciPy sparse matrix, or a list of these"


def to_batch(graphs: Any, *, weight: str = "weight", dtype: torch.dtype | None = None) -> Any:
    """One graph, or a list of graphs, as a torch-geometric ``Batch`` with ``edge_attr (edges, 1)``.

    Nodes keep their order: of the rows of a matrix, of ``list(graph)`` for NetworkX. An undirected NetworkX graph gets
    both directions of every edge; a matrix has the edges that it stores, in each direction that it stores.

    Args:
        graphs: a torch-geometric ``Data`` or ``Batch``, a NetworkX graph, a SciPy sparse matrix, or a list of these.
        weight: the attribute of NetworkX edges with their value; 1 for every edge if no edge has it.
        dtype: of the values; by default that of the graph, or torch's.

    Raises:
        TypeError: for graphs of another kind.
        ValueError: if a graph is damaged: node numbers out of range, values that are NaN or not one for each edge, a
            matrix that is not square, an edge twice; the message says which graph and which edge.

    Examples:
        >>> import networkx as nx
        >>> from energysolve.user_graphs import to_batch
        >>> batch = to_batch([nx.path_graph(3), nx.cycle_graph(4)])
        >>> batch.num_graphs, batch.edge_attr.shape  # 2 and 4 undirected edges, in both directions
        (2, torch.Size([12, 1]))
    """
    if isinstance(graphs, Batch):
        return to_batch(graphs.to_data_list(), weight=weight, dtype=dtype)
    if isinstance(graphs, Sequence) and not isinstance(graphs, str):
        if not graphs:
            raise ValueError("There is no graph in the list; expected at least one.")
        made = [_data(graph, weight, f"Graph {i}") for i, graph in enumerate(graphs)]
    else:
        made = [_data(graphs, weight, "The graph")]
    for graph in made if dtype is not None else ():
        graph.edge_attr = graph.edge_attr.to(dtype)  # pyright: ignore[reportOptionalMemberAccess]
    return Batch.from_data_list([*made])


def solve_graphs(solver: Any, graphs: Any, task: Any = None, *, weight: str = "weight", **options: Any) -> Any:
    """Minimize the energy of users' graphs, and return the answers in the form of the graphs, see `answers_like`.

    Args:
        solver: a solver of answers on edges.
        graphs: as for `to_batch`.
        task: a task on graphs, such as ``ShortestPath()``, whose energy is about all pairs of nodes, see `solve_task`.
            None for an energy of the edges that there are.
        weight: as for `to_batch`.
        **options: of ``minimize``.

    Returns:
        ``(answers, solution)``; the answers are a list if ``graphs`` is one.

    Examples:
        >>> import networkx as nx
        >>> from energysolve import EnergySolver
        >>> from energysolve.tasks import ShortestPath
        >>> from energysolve.user_graphs import solve_graphs
        >>> solver = EnergySolver.from_pretrained("shortest-path")
        >>> distances, solution = solve_graphs(solver, nx.path_graph(4), ShortestPath())
        >>> round(distances.edges[0, 3]["answer"], 1), solution.converged
        (3.0, tensor([True]))
    """
    dtype = next((parameter.dtype for parameter in solver.parameters()), None)
    x = to_batch(graphs, weight=weight, dtype=dtype)
    if task is None:
        solution = solver.minimize(x, **options)
        return answers_like(graphs, x, solution.y), solution
    x, y, solution = solve_task(solver, x, task, **options)
    return answers_like(graphs, x, y), solution


def solve_task(solver: Any, graphs: Batch, task: Any, **options: Any) -> tuple[Batch, Tensor, Solution]:
    """The problems that users' graphs pose to a task on all pairs of nodes: a series of solves.

    ``task.complete`` makes the first problem of the graphs, ``task.refine`` each further one, and ``task.interpret``
    reads the answers.

    Returns:
        The last problem, the answers, and the last solution, with the steps and evaluations of all solves.

    Examples:
        >>> import networkx as nx
        >>> from energysolve import EnergySolver
        >>> from energysolve.tasks import Components
        >>> from energysolve.user_graphs import solve_task, to_batch
        >>> solver = EnergySolver.from_pretrained("components")
        >>> x, y, solution = solve_task(solver, to_batch(nx.Graph([(0, 1), (2, 3)])), Components())
        >>> (y.view(4, 4) > 0.5).int()  # which pairs of nodes are connected
        tensor([[1, 1, 0, 0],
                [1, 1, 0, 0],
                [0, 0, 1, 1],
                [0, 0, 1, 1]], dtype=torch.int32)
    """
    x: Any = task.complete(graphs)
    steps: Any = 0
    evaluations: Any = 0
    while True:
        solution: Solution = solver.minimize(x, **options)
        steps, evaluations = steps + solution.steps, evaluations + solution.evaluations
        further = task.refine(x, solution.y)
        if further is None:
            return x, task.interpret(x, solution.y), replace(solution, steps=steps, evaluations=evaluations)
        x = further


def answers_like(graphs: Any, x: Batch, y: Float[Tensor, "edges 1"]) -> Any:
    """Answers on the edges of a batch in the form of the graphs that it was made of.

    A ``Data`` comes back with the edges of ``x`` and the answers as ``y (edges, 1)``; a NetworkX graph as a directed
    graph of the same nodes whose edges have the attribute ``answer``; a matrix as a CSR matrix (an array as an array).
    A list comes back as a list, and so does a ``Batch``.

    Raises:
        ValueError: if ``x`` has another number of graphs, or ``y`` not one answer for each edge.

    Examples:
        >>> from energysolve.user_graphs import answers_like, to_batch
        >>> from scipy.sparse import csr_array
        >>> graph = csr_array([[0.0, 5.0], [7.0, 0.0]])
        >>> x = to_batch(graph)
        >>> answers_like(graph, x, 10 * x.edge_attr).toarray()
        array([[ 0., 50.],
               [70.,  0.]])
    """
    if y.shape != (x["edge_index"].shape[1], 1):
        raise ValueError(
            f"Expected answers of shape ({x['edge_index'].shape[1]}, 1), one for each edge of the batch; "
            f"got {tuple(y.shape)}."
        )
    several = isinstance(graphs, Batch) or (isinstance(graphs, Sequence) and not isinstance(graphs, str))
    originals = graphs.to_data_list() if isinstance(graphs, Batch) else list(graphs) if several else [graphs]
    if len(originals) != x.num_graphs:
        raise ValueError(f"The batch has {x.num_graphs} graphs, and {len(originals)} were given.")
    owner = layout_of(x).index  # pyright: ignore[reportAttributeAccessIssue]
    ptr = torch.cat([x["batch"].new_zeros(1), torch.bincount(x["batch"], minlength=x.num_graphs).cumsum(0)])
    found = []
    for number, original in enumerate(originals):
        rows = owner == number
        found.append(_back(original, x["edge_index"][:, rows] - ptr[number], x["edge_attr"][rows], y[rows]))
    return found if several else found[0]


def _data(graph: Any, weight: str, name: str) -> Data:
    """A graph as ``Data`` with ``edge_index``, ``edge_attr (edges, 1)`` and ``num_nodes`` alone."""
    if isinstance(graph, Data):
        index, values, nodes = _of_data(graph, name)
    elif hasattr(graph, "adj") and callable(getattr(graph, "is_directed", None)):
        index, values, nodes = _of_networkx(graph, weight, name)
    elif hasattr(graph, "tocoo") and hasattr(graph, "shape"):
        index, values, nodes = _of_matrix(graph, name)
    else:
        raise TypeError(f"{name} is a {type(graph).__name__}; expected {FORMS}.")
    if not torch.isfinite(values).all():
        bad = int((~values.isfinite()).nonzero()[0, 0])
        raise ValueError(
            f"{name} has the value {values[bad].item()} on edge {tuple(index[:, bad].tolist())}; expected finite "
            "numbers. Leave out edges that do not exist."
        )
    number = index[0] * nodes + index[1]
    if len(number.unique()) < len(number):
        kinds, counts = number.unique(return_counts=True)
        twice = int(kinds[counts > 1][0])
        raise ValueError(
            f"{name} has edge ({twice // nodes}, {twice % nodes}) {int(counts.max())} times; expected every edge once. "
            "torch_geometric.utils.coalesce merges them."
        )
    return Data(edge_index=index, edge_attr=values, num_nodes=nodes)


def _of_data(graph: Data, name: str) -> tuple[Tensor, Tensor, int]:
    index, nodes = graph.edge_index, graph.num_nodes
    if index is None or index.ndim != 2 or len(index) != 2 or index.dtype != torch.int64:
        got = "none" if index is None else f"{index.dtype} of shape {tuple(index.shape)}"
        raise ValueError(f"{name} needs an edge_index of int64 numbers, shape (2, edges); got {got}.")
    if nodes is None:
        raise ValueError(f"{name} does not say how many nodes it has; set num_nodes.")
    if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < nodes:
        raise ValueError(
            f"{name} has {nodes} nodes, numbered from 0 to {nodes - 1}, and its edge_index holds numbers from "
            f"{int(index.min())} to {int(index.max())}."
        )
    values = graph.edge_attr if graph.edge_attr is not None else graph.to_dict().get("edge_weight")
    if values is None:
        values = torch.ones(index.shape[1], 1, device=index.device)
    if values.shape not in ((index.shape[1],), (index.shape[1], 1)):
        raise ValueError(
            f"{name} has {index.shape[1]} edges, and edge_attr of shape {tuple(values.shape)}; expected one number for "
            f"each edge, shape ({index.shape[1]}, 1)."
        )
    values = values if values.is_floating_point() else values.to(torch.get_default_dtype())
    return index, values.reshape(-1, 1), int(nodes)


def _of_networkx(graph: Any, weight: str, name: str) -> tuple[Tensor, Tensor, int]:
    if graph.is_multigraph():
        raise ValueError(f"{name} is a multigraph; expected an edge at most once: networkx.Graph(...).")
    position = {node: i for i, node in enumerate(graph)}
    edges = list(graph.edges(data=weight))
    values = [value for _, _, value in edges]
    if all(value is None for value in values):
        values = [1.0] * len(edges)
    for (u, v, _), value in zip(edges, values, strict=True):
        if isinstance(value, bool) or not isinstance(value, int | float | np.number):
            raise ValueError(
                f"{name}: edge ({u!r}, {v!r}) has {weight}={value!r}; expected a number on every edge, or on none. "
                "Choose another attribute with weight=."
            )
    pairs = [(position[u], position[v]) for u, v, _ in edges]
    if not graph.is_directed():
        back = [(v, u, value) for (u, v), value in zip(pairs, values, strict=True) if u != v]
        pairs += [(v, u) for v, u, _ in back]
        values += [value for _, _, value in back]
    index = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T.contiguous()
    return index, torch.tensor(values, dtype=torch.get_default_dtype()).reshape(-1, 1), len(position)


def _of_matrix(matrix: Any, name: str) -> tuple[Tensor, Tensor, int]:
    if len(matrix.shape) != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"{name} has shape {tuple(matrix.shape)}; expected a square matrix, a row for each node.")
    entries = matrix.tocoo()
    index = torch.from_numpy(np.stack([entries.row, entries.col]).astype(np.int64))
    dtype = torch.float64 if entries.data.dtype == np.float64 else torch.get_default_dtype()
    return index, torch.from_numpy(np.asarray(entries.data)).to(dtype).reshape(-1, 1), matrix.shape[0]


def _back(original: Any, index: Tensor, values: Tensor, y: Tensor) -> Any:
    """The answers of one graph in its form."""
    if isinstance(original, Data):
        made = original.clone()
        made.edge_index, made.edge_attr, made.y = index, values, y
        return made
    sources, targets = index.tolist()
    numbers = y.squeeze(1).tolist()
    if hasattr(original, "adj"):
        made = original.to_directed().__class__()
        made.graph.update(original.graph)
        made.add_nodes_from(original.nodes(data=True))
        names = list(original)
        made.add_edges_from(
            (names[i], names[j], {"answer": value}) for i, j, value in zip(sources, targets, numbers, strict=True)
        )
        return made
    from scipy import sparse  # the matrix is of SciPy, so it is there

    kind = sparse.csr_array if isinstance(original, sparse.sparray) else sparse.csr_matrix
    return kind((y.squeeze(1).cpu().numpy(), (sources, targets)), shape=tuple(original.shape))  # pyright: ignore


__all__ = ["FORMS", "all_pairs", "answers_like", "solve_graphs", "solve_task", "to_batch"]
