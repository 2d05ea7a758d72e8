"""Tasks on the edges of complete graphs (Section 4.2 and Appendix C of the paper)."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..checks import check_whole
from ..initializers import Initializer, Uniform
from .base import Task


@dataclass(frozen=True)
class GraphTask(Task):
    """A task whose problems are complete graphs, self-loops included, with one number on each edge.

    ``x`` is a torch-geometric ``Batch`` with ``edge_attr (edges, 1)`` and without node features; the edges of a graph
    are ``(0, 0), (0, 1), ...``. Targets are ``(edges, 1)``. Training draws the number of nodes uniformly from 2 to
    ``size``; ``"same"`` problems have ``size`` nodes and ``"larger"`` ones half as many again. The error is the mean
    squared error over the edges of a graph.

    Subclasses draw matrices and solve them, see `draw` and `answer`.

    Args:
        size: number of nodes; 10 in the paper.

    Raises:
        ValueError: if the size is not a whole number of 1 or more.

    Examples:
        >>> import torch
        >>> from energysolve.tasks import GraphTask
        >>> class Doubled(GraphTask):
        ...     def draw(self, random, generator):
        ...         return random
        ...
        ...     def answer(self, edges, inside):
        ...         return 2 * edges
        >>> x, target = Doubled(size=4).sample(3, "same")  # three graphs of 4 nodes, so of 16 edges
        >>> x.num_graphs, target.shape, torch.equal(target, 2 * x.edge_attr)
        (3, torch.Size([48, 1]), True)
    """

    size: int = 10
    init: Initializer = field(init=False, repr=False, compare=False)
    difficulties = ("same", "larger")

    def __post_init__(self):
        check_whole(type(self).__name__, least=1, size=self.size)
        object.__setattr__(self, "init", Uniform((1,)))

    @abstractmethod
    def draw(self, random: Tensor, generator: torch.Generator | None) -> Tensor:
        """Edges ``(batch, n, n)``, given numbers uniform in (0, 1) of that shape."""

    @abstractmethod
    def answer(self, edges: Tensor, inside: Tensor) -> Tensor:
        """Targets ``(batch, n, n)``. Pairs that are not ``inside`` a graph do not count; their edges are zero."""

    def sample(self, batch, difficulty="training", generator=None, device=None):
        """Draw problems with their answers; without a difficulty, those of training, of 2 to ``size`` nodes."""
        nodes = self._sizes(batch, difficulty, generator, device)
        largest = int(nodes.max()) if batch else 0  # waits for the device
        number = torch.arange(largest, device=nodes.device)
        inside = (number < nodes.view(-1, 1, 1)) & (number.unsqueeze(1) < nodes.view(-1, 1, 1))
        random = torch.rand(batch, largest, largest, generator=generator, device=device)
        edges = torch.where(inside, self.draw(random, generator), 0.0)
        target = self.answer(edges, inside)
        return _adapter().complete_graphs(edges, nodes), target[inside].unsqueeze(1)

    def complete(self, graphs: Any) -> Any:
        """The problem that a batch of users' graphs poses: one edge for every ordered pair of nodes.

        Args:
            graphs: a batch with ``edge_attr (edges, 1)``, see `energysolve.user_graphs.to_batch`.

        Raises:
            ValueError: if the task has no such problem.
        """
        return _adapter().all_pairs(graphs)

    def refine(self, x: Any, y: Tensor) -> Any:
        """The next problem to solve, given the answers to one that `complete` or `refine` made; None after the last."""
        return None

    def interpret(self, x: Any, y: Tensor) -> Tensor:
        """The answers to the last problem, for the user."""
        return y

    def exact(self, x: Any) -> Tensor:
        """The right answers ``(edges, 1)`` to problems that `sample` or `complete` made, graph by graph."""
        return _by_graph(x, x.edge_attr, lambda edges: self.answer(edges, torch.ones_like(edges, dtype=torch.bool)))

    def _sizes(self, batch: int, difficulty: str, generator: torch.Generator | None, device: Any) -> Tensor:
        """The number of nodes of each graph."""
        if difficulty == "training":
            low = min(2, self.size)
            return torch.randint(low, self.size + 1, (batch,), generator=generator, device=device)
        self.check_difficulty(difficulty)
        nodes = self.size if difficulty == "same" else self.size * 3 // 2
        return torch.full((batch,), nodes, device=device)

    def error(self, solution, target):
        layout = solution.layout
        if layout is None:
            raise ValueError(
                "The error of a graph is a mean over its edges, and this solution does not say which edges belong to "
                "which graph: take it from minimize, or pass layout=task.layout(x) to Solution.of_answers."
            )
        squares = (solution.y - target).square()
        return layout.sum(squares) / layout.sum(torch.ones_like(squares)).clamp(min=1)

    def split(self, tree):
        return _adapter().split_edges(tree)

    def merge(self, rows):
        return _adapter().merge_edges(rows)


@dataclass(frozen=True)
class EdgeCopy(GraphTask):
    """Repeat the value of every edge, which is uniform in (-1, 1).

    Examples:
        >>> import torch
        >>> from energysolve.tasks import EdgeCopy
        >>> x, target = EdgeCopy(size=4).sample(3, "larger")  # three graphs of 6 nodes, so of 36 edges
        >>> target.shape, torch.equal(target, x.edge_attr)
        (torch.Size([108, 1]), True)
    """

    def draw(self, random, generator):
        return random * 2 - 1

    def answer(self, edges, inside):
        return edges


@dataclass(frozen=True)
class Components(GraphTask):
    """Tell which pairs of nodes are connected: 1 for pairs in one component, a node with itself included, else 0.

    Each directed edge exists with a probability, and has the value 1 then and 0 otherwise. Components are those of the
    undirected graph.

    Args:
        size: number of nodes; 10 in the paper.
        probability: the probability of an edge; 0.05 in the paper.

    Raises:
        ValueError: if the probability is not in [0, 1].

    Examples:
        >>> from energysolve.tasks import Components
        >>> Components(size=3, probability=0.0).sample(1, "same")[1].view(3, 3)  # without edges, each node is alone
        tensor([[1., 0., 0.],
                [0., 1., 0.],
                [0., 0., 1.]])
    """

    probability: float = 0.05

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.probability <= 1:
            raise ValueError(f"Components needs a probability in [0, 1], got {self.probability!r}.")

    def draw(self, random, generator):
        return (random < self.probability).to(random.dtype)

    def answer(self, edges, inside):
        return connected(edges > 0).to(edges.dtype)

    def complete(self, graphs):
        """An edge of any value connects its nodes."""
        graphs = graphs.clone()
        graphs.edge_attr = torch.ones_like(graphs.edge_attr)
        return super().complete(graphs)

    def floors(self, difficulty, x, target, mean_target=None):
        """Also ``"edges"``: 1 for an edge in either direction and for a node with itself, 0 for all other pairs."""
        sources, targets = x["edge_index"]
        exists, nodes = x["edge_attr"].squeeze(1) > 0, len(x["batch"])
        back = torch.isin(targets * nodes + sources, (sources * nodes + targets)[exists])
        answer = (exists | back | (sources == targets)).to(target.dtype).unsqueeze(1)
        return super().floors(difficulty, x, target) | {"edges": self.error_of(answer, x, target)}


@dataclass(frozen=True)
class ShortestPath(GraphTask):
    """The length of the shortest path between every two nodes.

    Edge lengths are ``A + Aᵀ`` with entries of ``A`` uniform in (0, 1), as in the authors' release, or, not symmetric,
    uniform in (0, 1), as in the paper's text. The edge of a node with itself has length 0.

    Args:
        size: number of nodes; 10 in the paper.
        symmetric: whether edges are ``A + Aᵀ``.

    Raises:
        ValueError: if the size is not a whole number of 1 or more.

    Examples:
        >>> from energysolve.tasks import ShortestPath
        >>> x, distances = ShortestPath(size=4).sample(1, "same")
        >>> bool((distances <= x.edge_attr).all()), distances.view(4, 4).diagonal()
        (True, tensor([0., 0., 0., 0.]))
    """

    symmetric: bool = True

    def draw(self, random, generator):
        lengths = random + random.mT if self.symmetric else random
        return lengths * (1 - torch.eye(random.shape[1], device=random.device))

    def answer(self, edges, inside):
        return distances(torch.where(inside, edges.double(), torch.inf)).to(edges.dtype)

    def complete(self, graphs):
        """The problem of the shortest distances alone: lengths beyond a reach, and missing edges, count as the reach.

        Distances below the reach are right then, and `refine` extends it, so that the lengths of a problem are never
        much larger than the distances that it asks for. The first reach is twice the mean length of an edge.

        Raises:
            ValueError: for negative lengths, and if ``symmetric`` for an edge without one of that length back.
        """
        lengths = graphs.edge_attr
        if bool((lengths < 0).any()):
            raise ValueError(f"Lengths of edges must be 0 or more; got {lengths.min().item():g}.")
        layout = self.layout(graphs)
        mean = layout.sum(lengths) / layout.sum(torch.ones_like(lengths)).clamp(min=1)
        x = _adapter().all_pairs(graphs, torch.inf)
        itself = (x.edge_index[0] == x.edge_index[1]).unsqueeze(1)
        x.edge_length = torch.where(itself, 0.0, x.edge_attr)
        if self.symmetric:
            _check_symmetric(x)
        x.edge_settled = itself
        x.edge_connected = _by_graph(x, x.edge_length.isfinite(), reachable)
        return _within(x, torch.where(mean > 0, 2 * mean, 1.0))

    def refine(self, x, y):
        """The problem with a reach half as long again, and with the distances found so far as edges."""
        x = x.clone()
        x.edge_length, x.edge_settled = self._settled(x, y)
        if bool((x.edge_settled | ~x.edge_connected).all()):
            return None
        finite = torch.where(x.edge_length.isfinite(), x.edge_length, 0.0)
        if bool((x.reach > 2 * self.layout(x).sum(finite)).all()):  # no path is that long: the answers are no distances
            return None
        return _within(x, 1.5 * x.reach)

    def interpret(self, x, y):
        """Pairs that no path connects have the distance ``inf``."""
        lengths, settled = self._settled(x, y)
        return torch.where(x.edge_connected, torch.where(settled, lengths, y), torch.inf)

    def exact(self, x):
        """For a user's graph, ``inf`` where there is no path."""
        if "edge_length" not in x:
            return super().exact(x)
        return _by_graph(x, x.edge_length.double(), distances).to(x.edge_attr.dtype)

    def _settled(self, x: Any, y: Tensor) -> tuple[Tensor, Tensor]:
        """The lengths with the distances that are right, those clearly below the reach, and which these are."""
        found = (y < 0.75 * _spread(x, x.reach)) & ~x.edge_settled
        return torch.where(found, y.clamp(min=0), x.edge_length), x.edge_settled | found

    def floors(self, difficulty, x, target, mean_target=None):
        """Also ``"edge"``: the length of the edge itself."""
        return super().floors(difficulty, x, target) | {"edge": self.error_of(x["edge_attr"], x, target)}


def _spread(x: Any, values: Tensor) -> Tensor:
    """The value of each graph on its edges, ``(edges, 1)``."""
    return values[x.batch[x.edge_index[0]]].unsqueeze(1)


def _within(x: Any, reach: Tensor) -> Any:
    """The problem in which no edge is longer than the reach."""
    x.reach = reach
    x.edge_attr = torch.minimum(x.edge_length, _spread(x, reach))
    return x


def _by_graph(x: Any, values: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """A function of the matrix ``(1, n, n)`` of each complete graph, ``(edges, 1)``."""
    nodes = torch.bincount(x.batch, minlength=x.num_graphs)
    parts = values.split(nodes.square().tolist())
    return torch.cat([function(part.view(1, n, n)).view(-1, 1) for n, part in zip(nodes.tolist(), parts, strict=True)])


def _check_symmetric(x: Any) -> None:
    """Raise a ValueError for an edge of a complete graph, in the order of pairs, that is longer in one direction."""
    nodes = torch.bincount(x.batch, minlength=x.num_graphs)
    graph = x.batch[x.edge_index[0]]
    first, start = (nodes.cumsum(0) - nodes)[graph], (nodes.square().cumsum(0) - nodes.square())[graph]
    sources, targets = x.edge_index - first
    back = x.edge_length[start + targets * nodes[graph] + sources]
    if not torch.equal(back, x.edge_length):
        edge = int((back != x.edge_length).nonzero()[0, 0])
        raise ValueError(
            f"Edge ({sources[edge]}, {targets[edge]}) of graph {graph[edge]} is not as long as the edge back: the "
            "graph is directed, and this task is about undirected ones. Add the edges back, or take "
            "ShortestPath(symmetric=False) with an energy trained for it."
        )


def distances(lengths: Tensor) -> Tensor:
    """Lengths of the shortest paths ``(..., n, n)`` from those of the edges, ``inf`` where there is none.

    Floyd and Warshall's algorithm, for all graphs at once.
    """
    found = lengths.clone()
    for k in range(lengths.shape[-1]):
        found = torch.minimum(found, found[..., :, k, None] + found[..., k, None, :])
    return found


def connected(edges: Tensor) -> Tensor:
    """Whether nodes are in one component ``(..., n, n)``, from edges of which one direction is enough."""
    return reachable(edges | edges.mT)


def reachable(edges: Tensor) -> Tensor:
    """Whether there is a path from one node to another ``(..., n, n)``, along directed edges.

    Warshall's algorithm, for all graphs at once.
    """
    found = edges | torch.eye(edges.shape[-1], dtype=torch.bool, device=edges.device)
    for k in range(edges.shape[-1]):
        found = found | (found[..., :, k, None] & found[..., k, None, :])
    return found


def _adapter() -> Any:
    """The graph adapter, imported at its first use, since it needs torch-geometric."""
    try:
        from .. import graph
    except ImportError as error:
        raise ImportError("Graphs need torch-geometric: pip install 'energysolve[graph]'.") from error
    return graph
