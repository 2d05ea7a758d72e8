"""The baselines on graphs (Tables 7 to 9 of the paper): GINEConv layers, then both nodes of an edge give its answer."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ..checks import check_whole
from ..layout import Layout, layout_of
from ..solution import Solution, Status
from .base import AnySize
from .ponder import halting_distribution, log_geometric


class GINELayer(nn.Module):
    """``f(h_i + sum_j relu(h_j + V (W e_ji)))`` with linear ``f``, ``V`` and ``W``; torch-geometric's ``GINEConv``.

    Args:
        inputs: features of a node before the layer.
        width: channels of edges, and of nodes after the layer.
        values: numbers on an edge.
    """

    def __init__(self, inputs: int, width: int, values: int):
        super().__init__()
        self.edges, self.project = nn.Linear(values, width), nn.Linear(width, inputs)
        self.nodes = nn.Linear(inputs, width)

    def forward(
        self, features: Float[Tensor, "nodes inputs"], index: Tensor, values: Float[Tensor, "edges values"]
    ) -> Float[Tensor, "nodes width"]:
        """New features of the nodes."""
        # Two linear maps one after the other are one of a few numbers.
        weight = self.project.weight @ self.edges.weight
        constant = F.linear(self.edges.bias, self.project.weight, self.project.bias)
        messages = torch.relu(features.index_select(0, index[0]) + F.linear(values, weight, constant))
        return self.nodes(features + torch.zeros_like(features).index_add(0, index[1], messages))


class GraphBaseline(AnySize):
    """A baseline whose problems are batches of graphs with ``edge_attr (edges, 1)``, and answers ``(edges, 1)``.

    Subclasses implement `loss` and `answers`; their weights serve graphs of any size.

    Args:
        width: channels; 128 in the paper.
        train_steps: number of steps in training, and the default at test time.

    Raises:
        ValueError: for a size that is not a whole number of 1 or more.

    Examples:
        >>> from energysolve.baselines import GraphBaseline, GraphRecurrent
        >>> from energysolve.tasks import EdgeCopy
        >>> x, target = EdgeCopy(size=4).sample(3, "same")  # three complete graphs of 16 edges
        >>> model = GraphRecurrent(width=8)
        >>> solution = model.solve(x, max_steps=2)
        >>> isinstance(model, GraphBaseline), solution.y.shape, solution.steps
        (True, torch.Size([48, 1]), tensor([2, 2, 2]))
    """

    def __init__(self, *, width: int = 128, train_steps: int = 5):
        super().__init__(1, 1, train_steps=train_steps)
        check_whole(type(self).__name__, least=1, width=width)
        self.width = width
        self.head = nn.Linear(2 * width, 1)

    @torch.no_grad()
    def solve(self, x: Any, max_steps: int | None = None, *, generator: torch.Generator | None = None) -> Solution:
        """As `Baseline.solve`, for a batch of graphs."""
        steps = self.default_steps if max_steps is None else max_steps
        check_whole("solve", least=1, max_steps=steps)
        y = next(islice(self.answers(x, generator), steps - 1, None))
        return self._solved(layout_of(x), y, torch.full((x.num_graphs,), steps, device=y.device), steps)

    def _solved(self, layout: Layout, y: Tensor, taken: Tensor, steps: int) -> Solution:
        status = torch.where(taken < steps, int(Status.CONVERGED), int(Status.MAX_STEPS))
        status = torch.where(layout.sum((~y.isfinite()).to(y.dtype)) == 0, status, int(Status.NONFINITE))
        return replace(Solution.of_answers(y, steps=taken, layout=layout), status=status)

    def _layers(self, values: int, count: int = 3) -> nn.ModuleList:
        """Layers for nodes that have one feature, zero, at first."""
        return nn.ModuleList(GINELayer(self.width if k else 1, self.width, values) for k in range(count))

    def _read(self, x: Any, features: Tensor) -> Tensor:
        """Answers from the features of the two nodes of each edge."""
        return self.head(torch.cat([features[x["edge_index"][0]], features[x["edge_index"][1]]], 1))


def squares(x: Any, y: Tensor, target: Tensor) -> Float[Tensor, " batch"]:
    """The mean squared error of each graph; a ValueError unless the targets are ``(edges, 1)``."""
    if target.shape != y.shape:
        raise ValueError(f"Expected targets of shape {tuple(y.shape)}, one for each edge; got {tuple(target.shape)}.")
    layout = layout_of(x)
    return layout.sum((y - target).square()) / layout.sum(torch.ones_like(y)).clamp(min=1)


def _nodes(x: Any) -> Tensor:
    """The features of the nodes at first."""
    return x["edge_attr"].new_zeros(len(x["batch"]), 1)


def _through(layers: nn.ModuleList, x: Any, values: Tensor) -> Tensor:
    features = _nodes(x)
    for layer in layers:
        features = torch.relu(layer(features, x["edge_index"], values))
    return features


class GraphFeedforward(GraphBaseline):
    """Three GINEConv layers and a linear layer, trained on the mean squared error (Table 7). It takes a single step.

    Args:
        width: channels; 128 in the paper.

    Examples:
        >>> from energysolve.baselines import GraphFeedforward
        >>> from energysolve.tasks import EdgeCopy
        >>> x, target = EdgeCopy(size=4).sample(3, "same")  # three complete graphs of 16 edges
        >>> solution = GraphFeedforward(width=8).solve(x)
        >>> solution.y.shape, solution.steps
        (torch.Size([48, 1]), tensor([1, 1, 1]))
    """

    def __init__(self, *, width: int = 128):
        super().__init__(width=width, train_steps=1)
        self.layers = self._layers(1)

    def loss(self, x: Any, target: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return squares(x, self(x), target).mean()

    def answers(self, x: Any, generator: torch.Generator | None) -> Iterator[Tensor]:
        y = self(x)
        while True:
            yield y

    def forward(self, x: Any) -> Tensor:
        """The answers ``(edges, 1)``."""
        return self._read(x, _through(self.layers, x, x["edge_attr"]))

    def _solved(self, layout, y, taken, steps):
        return super()._solved(layout, y, taken.clamp(max=1), 1)


class GraphRecurrent(GraphBaseline):
    """GINEConv, an LSTM on the nodes that sees its output at every step, GINEConv and a linear layer (Table 8).

    The loss is the mean squared error of the answer after ``train_steps`` steps, differentiated through all of them.

    Args:
        width: channels, and units of the LSTM; 128 in the paper.
        train_steps: number of steps in training, and the default at test time.

    Examples:
        >>> from energysolve.baselines import GraphRecurrent
        >>> from energysolve.tasks import EdgeCopy
        >>> x, target = EdgeCopy(size=4).sample(3, "same")  # three complete graphs of 16 edges
        >>> [y.shape for y in GraphRecurrent(width=8).iterates(x, steps=2)]
        [torch.Size([48, 1]), torch.Size([48, 1])]
    """

    def __init__(self, *, width: int = 128, train_steps: int = 5):
        super().__init__(width=width, train_steps=train_steps)
        self.encoder, self.decoder = self._layers(1, 2)
        self.cell = nn.LSTMCell(width, width)

    def loss(self, x: Any, target: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return squares(x, next(islice(self.answers(x, generator), self.train_steps - 1, None)), target).mean()

    def answers(self, x: Any, generator: torch.Generator | None) -> Iterator[Tensor]:
        index, values = x["edge_index"], x["edge_attr"]
        seen = torch.relu(self.encoder(_nodes(x), index, values))
        state = self.cell(seen)
        while True:
            yield self._read(x, torch.relu(self.decoder(state[0], index, values)))
            state = self.cell(seen, state)


class GraphIterativeFeedforward(GraphBaseline):
    """The network of Table 7, trained to denoise answers, as `IterativeFeedforward`.

    Args:
        width: channels; 128 in the paper.
        levels: number of noise levels, and the default number of steps at test time.

    Examples:
        >>> from energysolve.baselines import GraphIterativeFeedforward
        >>> from energysolve.tasks import EdgeCopy
        >>> x, target = EdgeCopy(size=4).sample(3, "same")  # three complete graphs of 16 edges
        >>> solution = GraphIterativeFeedforward(width=8, levels=4).solve(x)
        >>> solution.y.shape, solution.steps  # one step for each level
        (torch.Size([48, 1]), tensor([4, 4, 4]))
    """

    def __init__(self, *, width: int = 128, levels: int = 5):
        check_whole("GraphIterativeFeedforward", least=1, levels=levels)
        super().__init__(width=width, train_steps=levels)
        self.levels = levels
        self.layers = self._layers(3)

    def loss(self, x: Any, target: Tensor, generator: torch.Generator | None = None) -> Tensor:
        level = torch.randint(1, self.levels + 1, (x.num_graphs,), generator=generator, device=target.device)
        share = layout_of(x).expand(level.to(target.dtype) / self.levels, target)
        noise = torch.randn(target.shape, generator=generator, device=target.device, dtype=target.dtype)
        return squares(x, self(x, (1 - share).sqrt() * target + share.sqrt() * noise, share), target).mean()

    def answers(self, x: Any, generator: torch.Generator | None) -> Iterator[Tensor]:
        like = x["edge_attr"]
        y = torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)
        level = self.levels
        while True:
            y = self(x, y, torch.full_like(y, level / self.levels))
            yield y
            level = max(level - 1, 1)

    def forward(self, x: Any, y: Tensor, share: Tensor) -> Tensor:
        """One step from the answers ``y``; ``share (edges, 1)`` is the noise level as a fraction of the highest."""
        return self._read(x, _through(self.layers, x, torch.cat([x["edge_attr"], y, share], 1)))


class GraphUnrolledFeedforward(GraphBaseline):
    """The iteration ``y <- y + f(x, y)`` of the network of Table 7, trained on its last answer, with replay.

    Args:
        width: channels; 128 in the paper.
        train_steps: number of steps in training.
        test_steps: default number of steps at test time.

    Examples:
        >>> from energysolve.baselines import GraphUnrolledFeedforward
        >>> from energysolve.tasks import EdgeCopy
        >>> x, target = EdgeCopy(size=4).sample(3, "same")  # three complete graphs of 16 edges
        >>> solution = GraphUnrolledFeedforward(width=8, test_steps=6).solve(x)
        >>> solution.y.shape, solution.steps
        (torch.Size([48, 1]), tensor([6, 6, 6]))
    """

    def __init__(self, *, width: int = 128, train_steps: int = 5, test_steps: int = 10):
        check_whole("GraphUnrolledFeedforward", least=1, test_steps=test_steps)
        super().__init__(width=width, train_steps=train_steps)
        self.test_steps = test_steps
        self.layers = self._layers(2)

    @property
    def default_steps(self):
        return self.test_steps

    def loss(self, x: Any, target: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.loss_from(x, target, self.initial(x, generator))[0]

    def initial(self, x: Any, generator: torch.Generator | None = None) -> Tensor:
        """Initial answers, uniform in (-1, 1)."""
        like = x["edge_attr"]
        return torch.rand(like.shape, generator=generator, device=like.device, dtype=like.dtype) * 2 - 1

    def loss_from(self, x: Any, target: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The training loss of steps that start at the answers ``y``, and the last answers."""
        last = next(islice(self._steps(x, y), self.train_steps - 1, None))
        return squares(x, last, target).mean(), last.detach()

    def answers(self, x: Any, generator: torch.Generator | None) -> Iterator[Tensor]:
        return self._steps(x, self.initial(x, generator))

    def _steps(self, x: Any, y: Tensor) -> Iterator[Tensor]:
        while True:
            y = y + self._read(x, _through(self.layers, x, torch.cat([x["edge_attr"], y], 1)))
            yield y


class GraphPonderNet(GraphBaseline):
    """Three GINEConv layers with an output head and a halting head (Table 9), as `PonderNet`.

    A graph halts as a whole: its halting head reads the mean of its nodes.

    Args:
        width: channels; 128 in the paper.
        train_steps: number of steps in training, and the default maximum at test time.
        beta: weight of the divergence from the prior.
        prior: halting probability at each step under the prior; 0.8 in the paper.

    Examples:
        >>> from energysolve.baselines import GraphPonderNet
        >>> from energysolve.tasks import EdgeCopy
        >>> x, target = EdgeCopy(size=4).sample(3, "same")  # three complete graphs of 16 edges
        >>> solution = GraphPonderNet(width=8).solve(x, max_steps=20)
        >>> solution.y.shape, bool((solution.steps <= 20).all())  # each graph halts at random
        (torch.Size([48, 1]), True)
    """

    def __init__(self, *, width: int = 128, train_steps: int = 5, beta: float = 0.01, prior: float = 0.8):
        super().__init__(width=width, train_steps=train_steps)
        if not 0 < prior < 1:
            raise ValueError(f"GraphPonderNet needs a prior in (0, 1), got {prior!r}.")
        self.beta, self.prior = beta, prior
        self.layers = self._layers(2)
        self.halt = nn.Linear(width, 1)

    def loss(self, x: Any, target: Tensor, generator: torch.Generator | None = None) -> Tensor:
        steps = list(islice(self._steps(x), self.train_steps))
        log_p = halting_distribution(torch.stack([logit for _, logit in steps], 1))
        errors = torch.stack([squares(x, y, target) for y, _ in steps], 1)
        p = log_p.exp()
        divergence = (p * (log_p - log_geometric(self.prior, self.train_steps, log_p))).sum(1)
        return ((p * errors).sum(1) + self.beta * divergence).mean()

    def answers(self, x: Any, generator: torch.Generator | None) -> Iterator[Tensor]:
        return (y for y, _ in self._halting(x, generator))

    @torch.no_grad()
    def solve(self, x: Any, max_steps: int | None = None, *, generator: torch.Generator | None = None) -> Solution:
        steps = self.default_steps if max_steps is None else max_steps
        check_whole("solve", least=1, max_steps=steps)
        y, taken = next(islice(self._halting(x, generator), steps - 1, None))
        return self._solved(layout_of(x), y, taken, steps)

    def _steps(self, x: Any) -> Iterator[tuple[Tensor, Tensor]]:
        """The answers of steps 1, 2, 3, ... regardless of halting, and the logits of halting, ``(graphs,)``."""
        y = torch.zeros_like(x["edge_attr"])
        sizes = torch.bincount(x["batch"], minlength=x.num_graphs).clamp(min=1).unsqueeze(1)
        while True:
            features = _through(self.layers, x, torch.cat([x["edge_attr"], y], 1))
            y = self._read(x, features)
            mean = features.new_zeros(x.num_graphs, self.width).index_add(0, x["batch"], features) / sizes
            yield y, self.halt(mean).squeeze(1)

    def _halting(self, x: Any, generator: torch.Generator | None) -> Iterator[tuple[Tensor, Tensor]]:
        """After each step: the answers, which a halted graph keeps, and the steps taken."""
        layout = layout_of(x)
        y = torch.zeros_like(x["edge_attr"])
        taken = torch.zeros(layout.batch, dtype=torch.int64, device=y.device)
        running = torch.ones(layout.batch, dtype=torch.bool, device=y.device)
        for new, logit in self._steps(x):
            y, taken = layout.where(running, new, y), taken + running
            running = running & (torch.rand(layout.batch, generator=generator, device=y.device) >= logit.sigmoid())
            yield y, taken
