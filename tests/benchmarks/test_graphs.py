"""Training and steps on graphs: against a plain reference, and how their cost grows. Writes ``docs/results``."""

import random
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from energysolve import SGD, EnergySolver, FixedPoint, Never, Uniform
from energysolve.benchmarks.memory import peak_bytes
from energysolve.benchmarks.timing import paired
from energysolve.energies import GINEEnergy, TripleEnergy
from energysolve.files import write_json
from energysolve.presets import DOMAINS
from energysolve.provenance import environment
from energysolve.tasks import ShortestPath

data = pytest.importorskip("torch_geometric.data")
nn = pytest.importorskip("torch_geometric.nn")

RESULTS = Path(__file__).parents[2] / "docs" / "results"
EDGES = (100, 1_000, 10_000, 100_000, 1_000_000)


class PlainEnergy(torch.nn.Module):
    """The paper's energy with torch-geometric's layers, as one would write it."""

    def __init__(self):
        super().__init__()
        self.of_edge, self.of_answer = torch.nn.Linear(1, 64), torch.nn.Linear(1, 64)
        self.first = nn.GINEConv(torch.nn.Linear(1, 128), edge_dim=128)
        self.second = nn.GINEConv(torch.nn.Linear(128, 128), edge_dim=128)
        self.third = nn.GINEConv(torch.nn.Linear(128, 128), edge_dim=128)
        self.hidden, self.head = torch.nn.Linear(128, 128), torch.nn.Linear(128, 1)

    def forward(self, batch, y):
        edges = torch.cat([self.of_edge(batch.edge_attr), self.of_answer(y)], 1)
        features = torch.zeros(batch.num_nodes, 1)
        for layer in (self.first, self.second, self.third):
            features = F.silu(layer(features, batch.edge_index, edges))
        pooled = nn.global_max_pool(features, batch.batch)
        return self.head(F.silu(self.hidden(pooled))).squeeze(1)


class PlainTraining:
    """Training of the paper with graphs built one by one on the host, and a Python list as replay buffer."""

    def __init__(self, batch=64, steps=5, step_size=100.0, capacity=10_000):
        self.energy, self.buffer, self.random = PlainEnergy(), [], np.random.default_rng(0)
        self.batch, self.steps, self.step_size, self.capacity = batch, steps, step_size, capacity
        self.optimizer = torch.optim.Adam(self.energy.parameters(), 1e-4)

    def problem(self):
        size = random.randint(2, 10)
        lengths = self.random.random((size, size))
        lengths = lengths + lengths.T
        np.fill_diagonal(lengths, 0)
        shortest = lengths.copy()
        for k in range(size):
            shortest = np.minimum(shortest, shortest[:, k : k + 1] + shortest[k : k + 1])
        index = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij")).reshape(2, -1)
        return data.Data(
            edge_index=torch.from_numpy(index),
            edge_attr=torch.from_numpy(lengths).float().reshape(-1, 1),
            target=torch.from_numpy(shortest).float().reshape(-1, 1),
            answer=torch.rand(size * size, 1) * 2 - 1,
            num_nodes=size,
        )

    def step(self):
        graphs = [self.problem() for _ in range(self.batch)]
        if len(self.buffer) >= self.batch:
            graphs += random.sample(self.buffer, self.batch)
        batch = data.Batch.from_data_list(graphs)
        y = batch.answer
        for k in range(self.steps):
            last = k == self.steps - 1
            y = y.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.energy(batch, y).sum(), y, create_graph=last)
            y = y - self.step_size * gradient
        loss = (y - batch.target).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        owner = batch.batch[batch.edge_index[0]]
        for number, graph in enumerate(graphs):
            graph = graph.clone()
            graph.answer = y.detach()[owner == number]
            self.buffer.append(graph)
        self.buffer = self.buffer[-self.capacity :]


def trainer():
    preset = DOMAINS["shortest-path"].preset("paper").changed({"validate_every": 0})
    return preset.prepare("shortest-path", ShortestPath(), cpu=True)[0]


def write(name, content):
    command = "pytest tests/benchmarks/test_graphs.py"
    write_json(RESULTS / f"{name}.json", {"kind": name, "command": command, **content, **environment("cpu")}, indent=2)


def test_an_iteration_of_the_paper_preset():
    """At most half the time of the plain reference, in alternating rounds."""
    ours, plain = trainer(), PlainTraining()
    for each in (ours, plain):
        for _ in range(3):
            each.step()  # the replay buffers fill
    measured = paired(ours.step, plain.step, rounds=15)
    write("graph-iteration", measured)
    assert measured["ratio"] <= 0.5


def slope(sizes, seconds):
    """Of the line through the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def seconds_of(solver, x, steps, rounds=5):
    """The least of some rounds: other processes only add to it."""
    y = torch.zeros(x.edge_index.shape[1], 1)
    solver = solver.replace(halting=Never(), max_steps=steps)
    solver.replace(max_steps=1).minimize(x, y)
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        solver.minimize(x, y)
        times.append((time.perf_counter() - begin) / steps)
    return min(times)


def graph_of(edges, seed=0):
    generator = torch.Generator().manual_seed(seed)
    nodes = max(2, edges // 10)
    index = torch.randint(nodes, (2, edges), generator=generator)
    one = data.Data(edge_index=index, edge_attr=torch.rand(edges, 1, generator=generator), num_nodes=nodes)
    return data.Batch.from_data_list([one])


def test_cost_of_a_step_grows_linearly_with_edges_and_a_million_fit():
    """With fixed costs, and, for information, without them: those of a graph with a single edge."""
    torch.manual_seed(0)
    gine = EnergySolver(GINEEnergy(), SGD(1e-6), init=Uniform((1,)))
    steps = {100: 50, 1_000: 50, 10_000: 10, 100_000: 3, 1_000_000: 2}
    empty = seconds_of(gine, graph_of(1), 50)
    rounds = {edges: 5 if edges < 100_000 else 2 for edges in EDGES}
    seconds = {edges: seconds_of(gine, graph_of(edges), steps[edges], rounds[edges]) for edges in EDGES}
    largest = graph_of(EDGES[-1])
    peak = peak_bytes(lambda: gine.replace(halting=Never(), max_steps=1).minimize(largest)) / 2**30
    found = {
        "seconds of a step": seconds,
        "seconds without edges": empty,
        "slope": slope(EDGES, list(seconds.values())),
        "slope without fixed costs": slope(EDGES, [each - 0.9 * empty for each in seconds.values()]),
        "peak GiB at a million edges": peak,
    }
    triples = EnergySolver(TripleEnergy(), FixedPoint(memory=0), init=Uniform((1,)))
    nodes = (10, 20, 40, 80, 160)
    times = {}
    for n in nodes:
        x, _ = ShortestPath(n).sample(1, "same", torch.Generator().manual_seed(0))
        times[n] = seconds_of(triples, x, 3)
    found["triples: seconds of a step by nodes"] = times
    found["triples: exponent from 40 nodes on"] = slope(nodes[2:], list(times.values())[2:])
    write("graph-cost", found)
    assert abs(found["slope"] - 1) <= 0.1, found
    assert peak <= 8, found
