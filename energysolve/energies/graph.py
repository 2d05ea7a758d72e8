"""Energies of answers on the edges of graphs."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ..checks import MOST_LAYERS, check_whole
from ..energy import Energy, LeastSquares
from ..layout import Layout, layout_of
from .messages import MANY, sum_of_messages


class Pairs(NamedTuple):
    """Complete graphs as all ordered pairs ``(i, j)`` of the nodes of each, one graph after the other, row by row.

    Attributes:
        layout: which edges belong to which graph.
        order: ``(edges,)``, the edge of each pair; None where the edges are in the order of the pairs.
        place: ``(edges,)``, the inverse of ``order``.
        mirrored: ``(edges,)``, the pair ``(j, i)`` of each pair ``(i, j)``.
        diagonal: ``(edges, 1)``, whether a pair is a node with itself.
        groups: for each number of nodes, that number and the first pair of every graph that has it.
        values: ``(edges, 2)``, the values of the edges ``(i, j)`` and ``(j, i)``.
        scale: ``(edges, 1)``, the mean absolute value of the edges of the graph.
    """

    layout: Layout
    order: Tensor | None
    place: Tensor | None
    mirrored: Tensor
    diagonal: Tensor
    groups: tuple[tuple[int, Tensor], ...]
    values: Tensor
    scale: Tensor


def pairs_of(graphs: Any) -> Pairs:
    """A batch of complete graphs, self-loops included, as pairs. Waits for the device.

    Raises:
        ValueError: if a graph lacks an edge, has one twice, or ``edge_attr`` is not one number for each edge.
    """
    index, owner, values = graphs["edge_index"], graphs["batch"], _edge_values(graphs)
    nodes = torch.bincount(owner, minlength=graphs.num_graphs)
    first = nodes.cumsum(0) - nodes
    start = nodes.square().cumsum(0) - nodes.square()
    graph = owner[index[0]]
    size = nodes[graph]
    row, column = index[0] - first[graph], index[1] - first[graph]
    number = start[graph] + row * size + column
    order = number.argsort(stable=True)
    expected = torch.arange(int(nodes.square().sum()), device=number.device)
    if number.shape != expected.shape or not torch.equal(number[order], expected):
        raise ValueError(
            f"The energy is about all ordered pairs of nodes, a node with itself included: expected {len(expected)} "
            f"edges for graphs of {nodes.tolist()[:5]}{'...' if len(nodes) > 5 else ''} nodes, each once, got "
            f"{index.shape[1]}. energysolve.graph.all_pairs turns any graph into one with all pairs."
        )
    sizes = nodes.unique().tolist()
    groups = tuple((n, start[nodes == n]) for n in sizes if n)
    layout = layout_of(graphs)
    mean = layout.sum(values.abs()) / nodes.square().clamp(min=1)
    sorted_already = torch.equal(order, expected)
    if not sorted_already:
        graph, size, row, column, values = (each[order] for each in (graph, size, row, column, values))
    mirrored = start[graph] + column * size + row
    return Pairs(
        layout,
        None if sorted_already else order,
        None if sorted_already else number,
        mirrored,
        (row == column).unsqueeze(1),
        groups,
        torch.cat([values, values[mirrored]], 1),
        mean[graph].unsqueeze(1),
    )


class TripleEnergy(LeastSquares):
    """``E = 1/2 |y - m(x, y)|^2`` over all ordered pairs of nodes, with messages over triples ``(i, k, j)``.

    The features of a pair are those of its edge, of the edge back and of its answer, ``h_ij = relu(W (x_ij, x_ji,
    y_ij))``. The message to a pair is the largest over all nodes ``k``, feature by feature: ``u_ij = max_k (A h_ik + B
    h_kj)``. A small network maps both to a proposal, ``m_ij = f(h_ij, u_ij)``. All is learned; nothing depends on the
    number of nodes, and relabelling the nodes relabels the answers.

    There are no constants, except on pairs of a node with itself, and there they grow with the edges: answers scale
    with the problem, ``m(s x, s y) = s m(x, y)`` for ``s > 0``. With ``bounded``, a sigmoid maps proposals to (0, 1).

    ``x`` is a batch of complete graphs with ``edge_attr (edges, 1)`` (`energysolve.graph.all_pairs`), ``y`` is
    ``(edges, 1)``. A step takes time ``O(n^3)`` for ``n`` nodes, and memory ``O(n^2)``.

    Args:
        width: features of a pair.
        messages: features of a message.
        bounded: whether answers lie in (0, 1).

    Raises:
        ValueError: for a size that is not a whole number of 1 or more; from a solve, for graphs that are not complete.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver, FixedPoint, Uniform
        >>> from energysolve.energies import TripleEnergy
        >>> from energysolve.tasks import ShortestPath
        >>> x, _ = ShortestPath(size=5).sample(3, "same")  # three complete graphs of 25 edges
        >>> energy = TripleEnergy(width=8, messages=4)
        >>> energy(x, torch.rand(75, 1)).shape
        torch.Size([3])
        >>> EnergySolver(energy, FixedPoint(), init=Uniform((1,)), max_steps=5).minimize(x).y.shape
        torch.Size([75, 1])
    """

    def __init__(self, width: int = 32, messages: int = 16, bounded: bool = False):
        super().__init__(None, layout_of)
        check_whole("TripleEnergy", least=1, width=width, messages=messages)
        self.width, self.messages, self.bounded = width, messages, bool(bounded)
        self.from_x = nn.Linear(2, width, bias=False)
        self.from_y = nn.Linear(1, width, bias=False)
        self.on_diagonal = nn.Parameter(torch.zeros(width))
        self.left = nn.Linear(width, messages, bias=False)
        self.right = nn.Linear(width, messages, bias=False)
        self.hidden = nn.Linear(width + messages, width, bias=False)
        self.hidden_on_diagonal = nn.Parameter(torch.zeros(width))
        self.out = nn.Linear(width, 1, bias=False)

    def encode(self, x: Any) -> tuple[Pairs, Tensor, Tensor]:
        """The pairs, what the features of each owe to the problem, and what the hidden units do."""
        pairs = pairs_of(x)
        unit = torch.where(pairs.diagonal, 1.0 if self.bounded else pairs.scale, 0.0)
        return pairs, self.from_x(pairs.values) + unit * self.on_diagonal, unit * self.hidden_on_diagonal

    def residuals(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, context: tuple[Pairs, Tensor, Tensor], y: Float[Tensor, "edges 1"]
    ) -> Float[Tensor, "edges 1"]:
        pairs, of_x, of_diagonal = context
        answers = y if pairs.order is None else y[pairs.order]
        features = torch.relu(of_x + self.from_y(answers))
        left, right = self.left(features), self.right(features)
        towards, onwards = _winners(left.detach(), right.detach(), pairs.groups)
        messages = left.gather(0, towards) + right.gather(0, onwards)
        proposals = self.out(torch.relu(self.hidden(torch.cat([features, messages], 1)) + of_diagonal))
        if self.bounded:
            proposals = torch.sigmoid(proposals)
        residuals = answers - proposals
        return residuals if pairs.place is None else residuals[pairs.place]

    def evaluate(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, context: tuple[Pairs, Tensor, Tensor], y: Float[Tensor, "edges 1"]
    ) -> Float[Tensor, " batch"]:
        return context[0].layout.sum(self.residuals(context, y).square()) / 2

    def config(self) -> dict[str, Any]:
        return {"width": self.width, "messages": self.messages, "bounded": self.bounded}


class Edges(NamedTuple):
    """Encoded graphs.

    Attributes:
        ends: two tensors ``(edges,)``, the nodes at which edges begin and end.
        values: ``(edges, 1)``, the values of the edges.
        graph: ``(nodes,)``, the graph of each node.
        graphs: number of graphs.
        known: for each layer ``(edges, channels)``, what its messages owe to the problem; None for many edges, whose
            messages are computed in chunks.
        share: ``(nodes, 1)``, the weight of a message in the mean; None where messages are summed.
    """

    ends: tuple[Tensor, Tensor]
    values: Tensor
    graph: Tensor
    graphs: int
    known: list[Tensor] | None
    share: Tensor | None


class GINEEnergy(Energy):
    """The paper's energy for graphs (Table 6): three GINEConv layers, then the maximum over nodes and linear layers.

    The value of an edge and its answer are mapped linearly to half of the channels each. A layer maps the features of
    the nodes to ``f(h_i + sum_j relu(h_j + W e_ji))``, the sum over the edges that end in ``i`` (Hu et al., 2020; the
    operator is torch-geometric's ``GINEConv``). Nodes have one feature at first, zero, so that the first layer sees
    edges through a projection to one number. Swish activations follow the layers.

    ``x`` is a batch of graphs with ``edge_attr (edges, 1)``, complete or not, and ``y`` is ``(edges, 1)``. Time and
    memory of a step are proportional to the number of edges.

    Args:
        width: channels of the hidden layers; 128 in the paper.
        layers: number of GINEConv layers; 3 in the paper.
        scale: constant factor of the energy.
        aggregation: ``"sum"`` of the messages to a node, the paper's, or their ``"mean"``, which stays in the range
            that training knows when graphs grow.

    Raises:
        ValueError: for a size that is not a whole number of 1 or more, or an unknown aggregation.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver, Zeros
        >>> from energysolve.energies import GINEEnergy
        >>> from energysolve.user_graphs import to_batch
        >>> from torch_geometric.data import Data
        >>> ring = Data(edge_index=torch.tensor([[0, 1, 2], [1, 2, 0]]), edge_attr=torch.rand(3, 1), num_nodes=3)
        >>> x = to_batch([ring, ring])
        >>> GINEEnergy(width=8)(x, torch.rand(6, 1)).shape  # one energy per graph, one answer per edge
        torch.Size([2])
        >>> EnergySolver(GINEEnergy(width=8), init=Zeros((1,)), max_steps=5).minimize(x).y.shape
        torch.Size([6, 1])
    """

    def __init__(self, width: int = 128, layers: int = 3, scale: float = 1.0, aggregation: str = "sum"):
        super().__init__()
        check_whole("GINEEnergy", least=2, width=width)
        check_whole("GINEEnergy", least=1, most=MOST_LAYERS, layers=layers)
        if aggregation not in ("sum", "mean"):
            raise ValueError(f"GINEEnergy expects aggregation to be 'sum' or 'mean', got {aggregation!r}.")
        self.aggregation = aggregation
        self.width, self.layers, self.scale = width, layers, float(scale)
        self.of_edge = nn.Linear(1, width // 2)
        self.of_answer = nn.Linear(1, width - width // 2)
        sizes = [1, *[width] * (layers - 1)]
        self.edges = nn.ModuleList(nn.Linear(width, size) for size in sizes)
        self.nodes = nn.ModuleList(nn.Linear(size, width) for size in sizes)
        self.hidden = nn.Linear(width, width)
        self.head = nn.Linear(width, 1)

    def encode(self, x: Any) -> Edges:
        """Where edges begin and end, their values, the graph of each node, and what each layer sees of ``x``.

        Raises:
            ValueError: if ``edge_attr`` is not one number for each edge.
        """
        index, values = x["edge_index"], _edge_values(x)
        many = len(values) > MANY and not torch.compiler.is_compiling()
        known = None if many else [values * of_x + constant for of_x, _, constant in self._edge_maps()]
        share = None
        if self.aggregation == "mean":
            arriving = torch.bincount(index[1], minlength=len(x["batch"]))
            share = arriving.clamp(min=1).to(values.dtype).reciprocal().unsqueeze(1)
        return Edges((index[0], index[1]), values, x["batch"], x.num_graphs, known, share)

    def evaluate(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, context: Edges, y: Float[Tensor, "edges 1"]
    ) -> Float[Tensor, " batch"]:
        ends, graph, count = context.ends, context.graph, context.graphs
        features = y.new_zeros(len(graph), 1)
        for layer, (map_nodes, (of_x, of_y, constant)) in enumerate(zip(self.nodes, self._edge_maps(), strict=True)):
            if context.known is None:
                given, slopes = torch.cat([context.values, y], 1), torch.stack([of_x, of_y])
                gathered = sum_of_messages(ends, features, given, slopes, constant)
            else:
                # In place: time goes into fresh memory.
                messages = torch.addcmul(context.known[layer], y, of_y)
                messages = messages.add_(features.index_select(0, ends[0])).relu_()
                gathered = features.new_zeros(len(graph), len(of_y)).index_add(0, ends[1], messages)
            features = F.silu(map_nodes(features + (gathered if context.share is None else gathered * context.share)))
        owner = graph.unsqueeze(1).expand_as(features)
        start = features.new_zeros(count, self.width)
        pooled = start.scatter_reduce(0, owner, features, "amax", include_self=False)
        return self.head(F.silu(self.hidden(pooled))).squeeze(1) * self.scale

    def config(self) -> dict[str, Any]:
        return {"width": self.width, "layers": self.layers, "scale": self.scale, "aggregation": self.aggregation}

    def _edge_maps(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """What each layer adds to a message for the value of an edge, for its answer, and for neither: rows."""
        half, maps = self.width // 2, []
        layers: list[nn.Linear] = list(self.edges)  # pyright: ignore  (a ModuleList is not generic)
        for layer in layers:  # the two linear maps one after the other are one linear map of two numbers
            of_edge, of_answer = layer.weight[:, :half], layer.weight[:, half:]
            constant = of_edge @ self.of_edge.bias + of_answer @ self.of_answer.bias + layer.bias
            maps.append(((of_edge @ self.of_edge.weight)[:, 0], (of_answer @ self.of_answer.weight)[:, 0], constant))
        return maps


def _edge_values(graphs: Any) -> Tensor:
    """``edge_attr`` of a batch, checked to be ``(edges, 1)``."""
    edges, values = graphs["edge_index"].shape[1], graphs.to_dict().get("edge_attr")
    if values is None or values.shape != (edges, 1) or not values.is_floating_point():
        got = "none" if values is None else f"{values.dtype} of shape {tuple(values.shape)}"
        raise ValueError(
            f"The energy needs edge_attr with one floating-point number for each of the {edges} edges, shape "
            f"({edges}, 1); got {got}."
        )
    return values


@torch.no_grad()
def _winners(left: Tensor, right: Tensor, groups: tuple[tuple[int, Tensor], ...]) -> tuple[Tensor, Tensor]:
    """For each pair ``(i, j)`` and feature, the pairs ``(i, k)`` and ``(k, j)`` with the largest sum over ``k``."""
    towards, onwards = (torch.empty(left.shape, dtype=torch.int64, device=left.device) for _ in range(2))
    for nodes, starts in groups:
        rows = starts.unsqueeze(1) + torch.arange(nodes * nodes, device=left.device)
        shape = (len(starts), nodes, nodes, left.shape[1])
        k = _best(left[rows].view(shape), right[rows].view(shape))
        first = starts.view(-1, 1, 1, 1)
        numbers = torch.arange(nodes, device=left.device)
        towards[rows] = (first + numbers.view(-1, 1, 1) * nodes + k).view(*rows.shape, -1)
        onwards[rows] = (first + k * nodes + numbers.view(-1, 1)).view(*rows.shape, -1)
    return towards, onwards


def _best(left: Tensor, right: Tensor) -> Tensor:
    """The node ``k`` of the largest ``left[i, k] + right[k, j]``, for graphs ``(graphs, nodes, nodes, features)``."""
    best = left[:, :, 0, None] + right[:, 0, None]
    winner = torch.zeros_like(best, dtype=torch.int64)
    for k in range(1, left.shape[1]):
        sums = left[:, :, k, None] + right[:, k, None]
        better = sums > best
        best = torch.maximum(best, sums)
        winner.masked_fill_(better, k)
    return winner
