"""Batches of graphs (torch-geometric) as problems, with answers on the edges; graphs can be stored and joined."""

import warnings
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from .layout import Layout, Segment, default_layout, default_selection
from .ragged import Ragged, rows_select
from .trees import tree_map

with warnings.catch_warnings():  # it scripts functions while it is imported, which torch deprecates
    warnings.simplefilter("ignore", DeprecationWarning)
    from torch_geometric.data import Batch, Data, HeteroData
    from torch_geometric.data.data import BaseData

_GRAPH = Data(num_nodes=1)
"""Any graph, for torch-geometric's rules: the axis along which an attribute is concatenated, and whether its values are
node numbers, which continue from graph to graph."""


@default_layout.register
def edge_layout(x: Batch) -> Layout:
    """One row of ``y`` for each edge, in the order of ``edge_index``; each graph is a sample.

    Raises:
        ValueError: if the batch has no ``edge_index`` or several, or no ``batch``.

    Examples:
        >>> from energysolve.graph import edge_layout
        >>> from energysolve.tasks import EdgeCopy
        >>> x, _ = EdgeCopy(size=3).sample(2, "same")
        >>> layout = edge_layout(x)
        >>> layout.batch, layout.rows  # two graphs of nine edges
        (2, 18)
    """
    if isinstance(x, HeteroData):
        raise ValueError(
            f"x is a batch of HeteroData with the kinds of edges {x.edge_types}, so the rows of its answers are "
            "unknown. Give the solver layout= and select=, functions for such an x, or convert the graphs by "
            "graph.to_homogeneous() before Batch.from_data_list(graphs)."
        )
    missing = [name for name in ("edge_index", "batch") if getattr(x, name, None) is None]
    if missing:
        raise ValueError(
            f"x is a batch of graphs without {' and '.join(missing)}, but answers belong to the edges unless "
            "the solver says otherwise. Give each graph an edge_index of shape (2, edges), 0 edges included, and "
            "join them by Batch.from_data_list(graphs); for answers on the nodes, give the solver "
            "energysolve.graph.node_layout as its layout."
        )
    sources = x["edge_index"][0]
    return Segment(x["batch"][sources], x.num_graphs, "edges")


@default_layout.register
def refuse_single_graphs(x: BaseData) -> Layout:
    """Raise a ValueError: what is not a batch has no number of samples."""
    raise ValueError(
        f"x is a single {type(x).__name__}, not a batch of graphs. Pass "
        "torch_geometric.data.Batch.from_data_list([x]), with one graph or several."
    )


def split_graphs(batch: Batch) -> dict[str, Any]:
    """A batch of graphs as a rows tree, each graph with the attributes that it has alone.

    The graphs have one kind of nodes and edges and an ``edge_index``, and are sorted. Every attribute becomes a
    `Ragged` with one row per edge, node or graph. Which of the three follows from torch-geometric's record of the batch
    or, in a batch not made by ``Batch.from_data_list``, from the size of the attribute (if several fit, names with
    "edge" belong to edges, others to nodes). Node numbers start at 0 in each graph. Waits for the device.

    Raises:
        ValueError: if the batch is not of that kind, or an attribute is not a dense tensor or has an unexpected size.
    """
    # In the order of assignment, unlike batch.keys(): the first tensor of a problem determines its dtype.
    names = list(batch.stores[0].keys())  # pyright: ignore
    if batch.__class__.__bases__[-1] is not Data or not {"batch", "edge_index"} <= set(names):
        raise ValueError(
            f"Expected a Batch of torch_geometric.data.Data with batch and edge_index, got a {type(batch).__name__} "
            f"with {names}."
        )
    nodes = _sizes(batch["batch"], batch.num_graphs, "nodes")
    edges = _sizes(batch["batch"][batch["edge_index"][0]], batch.num_graphs, "edges")
    starts = nodes.cumsum(0) - nodes
    attributes: dict[str, Any] = {}
    for name in names:
        if name == "num_nodes":
            attributes[name] = nodes
        elif name not in ("batch", "ptr"):
            lengths = edges if name == "edge_index" else _lengths(batch, name, nodes, edges)
            values = batch[name].movedim(_axis(name), 0).contiguous()  # contiguous rows are faster to select
            attributes[name] = _shifted(name, Ragged(values, lengths), -starts)
    return {"nodes": nodes, "attributes": attributes}


def merge_graphs(rows: dict[str, Any]) -> Batch:
    """The inverse of `split_graphs`: the batch that ``Batch.from_data_list`` would make of the graphs."""
    nodes: Tensor = rows["nodes"]
    starts = nodes.cumsum(0) - nodes
    merged, slices, increments = Batch(), {}, {}
    for name, leaf in rows["attributes"].items():
        if name == "num_nodes":
            # torch-geometric keeps these as numbers; graphs without node attributes need them.
            merged._store._num_nodes = leaf.tolist()
            merged[name] = sum(merged._store._num_nodes)
            continue
        merged[name] = _shifted(name, leaf, starts).values.movedim(0, _axis(name)).contiguous()
        slices[name] = _cumulated(leaf.lengths)
        increments[name] = starts if _numbers_nodes(name) else torch.zeros_like(starts)
    merged["batch"] = torch.repeat_interleave(torch.arange(len(nodes), device=nodes.device), nodes)
    merged["ptr"] = _cumulated(nodes)
    merged._num_graphs, merged._slice_dict, merged._inc_dict = len(nodes), slices, increments
    return merged


def select_graphs(batch: Batch, samples: Int[Tensor, " selected"] | slice) -> Batch:
    """The batch of the graphs with these indices, in this order.

    Examples:
        >>> import torch
        >>> from energysolve.graph import complete_graphs, select_graphs
        >>> x = complete_graphs(torch.arange(3.0).view(3, 1, 1), nodes=torch.tensor([1, 1, 1]))
        >>> select_graphs(x, torch.tensor([2, 0])).edge_attr.flatten()
        tensor([2., 0.])
    """
    return merge_graphs(rows_select(split_graphs(batch), samples))


def split_edges(tree: tuple[Any, ...]) -> tuple[Any, ...]:
    """A batch of graphs, followed by trees of tensors ``(edges, ...)``, as a rows tree; the ``split`` of a graph task.

    Raises:
        ValueError: if a tensor does not have one row per edge, or the batch cannot be split.
    """
    graphs = split_graphs(tree[0])
    lengths = graphs["attributes"]["edge_index"].lengths
    edges = tree[0]["edge_index"].shape[1]

    def split(leaf: Any) -> Ragged:
        if not isinstance(leaf, Tensor) or leaf.ndim == 0 or len(leaf) != edges:
            got = tuple(leaf.shape) if isinstance(leaf, Tensor) else f"a {type(leaf).__name__}"
            raise ValueError(f"Expected tensors with one row for each of the {edges} edges of the batch, got {got}.")
        return Ragged(leaf, lengths)

    return (graphs, *(tree_map(split, part) for part in tree[1:]))


def merge_edges(rows: tuple[Any, ...]) -> tuple[Any, ...]:
    """The inverse of `split_edges`."""
    return (merge_graphs(rows[0]), *(tree_map(lambda leaf: leaf.values, part) for part in rows[1:]))


def _sizes(owner: Tensor, graphs: int, what: str) -> Tensor:
    """The number of entries of each graph in ``owner``."""
    if bool((owner.diff() < 0).any()):
        raise ValueError(f"The {what} of the batch must be sorted by graph, those of the first graph first.")
    bounds = torch.searchsorted(owner.contiguous(), torch.arange(graphs + 1, device=owner.device))
    return bounds.diff()


def _lengths(batch: Batch, name: str, nodes: Tensor, edges: Tensor) -> Tensor:
    """The number of rows of each graph in an attribute."""
    value = batch[name]
    if not isinstance(value, Tensor) or value.ndim == 0 or value.layout != torch.strided or "batch" in name:
        raise ValueError(
            f"Attribute {name!r} of the batch cannot be split by graph: expected a dense tensor, and a name without "
            f"'batch' (torch-geometric renumbers such attributes), got a {type(value).__name__}. Remove it from the "
            "graphs."
        )
    size = value.shape[_axis(name)]
    slices = getattr(batch, "_slice_dict", {}).get(name)
    if slices is not None and int(slices[-1]) == size:
        return slices.diff().to(nodes.device)
    sizes = {"edge": batch["edge_index"].shape[1], "node": len(batch["batch"]), "graph": len(nodes)}
    fitting = [kind for kind, count in sizes.items() if count == size]
    if not fitting:
        raise ValueError(f"Attribute {name!r} of the batch has {size} rows, expected one for each of one of {sizes}.")
    if "edge" in fitting and ("edge" in name or len(fitting) == 1):
        return edges
    return nodes if "node" in fitting else torch.ones_like(nodes)


def _axis(name: str) -> int:
    return _GRAPH.__cat_dim__(name, None)


def _numbers_nodes(name: str) -> bool:
    return bool(_GRAPH.__inc__(name, None))


def _shifted(name: str, leaf: Ragged, starts: Tensor) -> Ragged:
    """The attribute with ``starts`` added per graph if its values are node numbers."""
    if not _numbers_nodes(name):
        return leaf
    added = torch.repeat_interleave(starts, leaf.lengths, output_size=len(leaf.values))
    return Ragged(leaf.values + added.view(-1, *[1] * (leaf.values.ndim - 1)), leaf.lengths)


def _cumulated(sizes: Tensor) -> Tensor:
    return torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])


@default_selection.register
def graph_selection(x: Batch, samples: Tensor, layout: Layout) -> Batch:
    """`select_graphs`, whatever the layout of the answers."""
    return select_graphs(x, samples)


def complete_graphs(edges: Shaped[Tensor, "batch n n"], nodes: Int[Tensor, " batch"]) -> Batch:
    """Complete graphs, self-loops included, from matrices: ``edge_attr`` of edge ``(i, j)`` is ``edges[graph, i, j]``.

    Args:
        edges: one matrix for each graph, of which the first ``nodes`` rows and columns count.
        nodes: the number of nodes of each graph.

    Examples:
        >>> import torch
        >>> from energysolve.graph import complete_graphs
        >>> x = complete_graphs(torch.arange(8.0).view(2, 2, 2), nodes=torch.tensor([2, 1]))
        >>> x.num_graphs, x.edge_attr.flatten()  # of the second graph, one node counts
        (2, tensor([0., 1., 2., 3., 4.]))
    """
    number = torch.arange(edges.shape[1], device=edges.device)
    inside = (number < nodes.view(-1, 1, 1)) & (number.unsqueeze(1) < nodes.view(-1, 1, 1))
    return _complete(nodes, edges[inside])


def all_pairs(batch: Batch, missing: float | Float[Tensor, " batch"] = 0.0) -> Batch:
    """The graphs with an edge for every ordered pair of nodes, a node with itself included, row by row.

    Attributes other than ``edge_attr`` are left out.

    Args:
        batch: graphs with ``edge_attr (edges, 1)``, each edge at most once.
        missing: the value of the new edges, one for all graphs or one for each.

    Examples:
        >>> import torch
        >>> from energysolve.user_graphs import all_pairs, to_batch
        >>> from torch_geometric.data import Data
        >>> graph = Data(edge_index=torch.tensor([[0, 1], [1, 2]]), edge_attr=torch.tensor([[5.0], [7.0]]), num_nodes=3)
        >>> all_pairs(to_batch(graph), missing=torch.inf).edge_attr.view(3, 3)
        tensor([[inf, 5., inf],
                [inf, inf, 7.],
                [inf, inf, inf]])
    """
    nodes = torch.bincount(batch["batch"], minlength=batch.num_graphs)
    start = nodes.square().cumsum(0) - nodes.square()
    graph = batch["batch"][batch["edge_index"][0]]
    row, column = batch["edge_index"] - (nodes.cumsum(0) - nodes)[graph]
    values = torch.as_tensor(missing, dtype=batch["edge_attr"].dtype, device=graph.device).expand(len(nodes))
    values = torch.repeat_interleave(values, nodes.square())
    return _complete(nodes, values.index_put((start[graph] + row * nodes[graph] + column,), batch["edge_attr"][:, 0]))


def _complete(nodes: Tensor, values: Tensor) -> Batch:
    """Complete graphs with these values on their edges, in the order of `all_pairs`."""
    lengths = nodes.square()
    owner = torch.repeat_interleave(torch.arange(len(nodes), device=nodes.device), lengths, output_size=len(values))
    number = torch.arange(len(values), device=values.device) - (lengths.cumsum(0) - lengths)[owner]
    size = nodes[owner]
    attributes = {
        "edge_index": Ragged(torch.stack([number.div(size, rounding_mode="floor"), number % size], 1), lengths),
        "edge_attr": Ragged(values.unsqueeze(1), lengths),
        "num_nodes": nodes,
    }
    return merge_graphs({"nodes": nodes, "attributes": attributes})


def node_layout(x: Batch) -> Layout:
    """One row of ``y`` for each node, for answers on nodes: ``EnergySolver(energy, layout=node_layout)``.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver, Zeros
        >>> from energysolve.graph import node_layout
        >>> from energysolve.tasks import EdgeCopy
        >>> def energy(x, y):  # one answer on each node, nearest to the number of the graph's nodes
        ...     return node_layout(x).sum((y - 3).square())
        >>> x, _ = EdgeCopy(size=3).sample(2, "same")
        >>> EnergySolver(energy, init=Zeros((1,)), layout=node_layout).minimize(x).y.flatten().round(decimals=3)
        tensor([3., 3., 3., 3., 3., 3.])
    """
    return Segment(x["batch"], x.num_graphs, "nodes")
