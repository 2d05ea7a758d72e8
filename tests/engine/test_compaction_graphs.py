"""Compaction of batched graphs: samples leave with their nodes and edges."""

import importlib

import pytest
import torch
from compaction_cases import assert_same, solver

from energysolve import (
    BestSoFar,
    EnergyChange,
    GradientNorm,
    Segment,
    Truncated,
    Unroll,
)


def test_graphs_leave_with_their_edges():
    data = pytest.importorskip("torch_geometric.data")
    generator = torch.Generator().manual_seed(0)
    graphs = []
    for size in (2, 4, 3, 5, 2, 3, 1, 4):
        index = torch.cartesian_prod(torch.arange(size), torch.arange(size)).T
        values = torch.rand(size * size, 1, generator=generator, dtype=torch.float64)
        steep = torch.full((size, 1), 0.1 + 0.2 * len(graphs), dtype=torch.float64)
        graphs.append(data.Data(edge_index=index, edge_attr=values, steep=steep, num_nodes=size))
    sizes = []

    def energy(x, y):
        """Each node, too, pulls at its edges."""
        sizes.append(x.num_graphs)
        sources, targets = x.edge_index
        steep = x.steep[sources] + x.steep[targets]
        owner = x.batch[sources]
        return y.new_zeros(x.num_graphs).index_add(0, owner, (steep * (y - x.edge_attr).square()).squeeze(1))

    batch = data.Batch.from_data_list(graphs)
    batch.edge_attr.requires_grad_()
    y = torch.randn(batch.num_edges, 1, dtype=torch.float64, generator=generator)
    for halting, mode in [(GradientNorm(1e-3), Truncated(2)), (EnergyChange(rtol=1e-6).patience(2), Unroll())]:
        solve = solver(energy, halting=halting, differentiation=mode, recorder=BestSoFar())
        plain = solve.minimize(batch, y)
        sizes.clear()
        compact = solve.replace(compact=True).minimize(batch, y)
        assert min(sizes) <= 2
        assert_same(compact, plain)
        expected, found = (torch.autograd.grad(one.y.sum(), batch.edge_attr)[0] for one in (plain, compact))
        assert torch.equal(found, expected)


def test_a_layout_of_ones_own_on_graphs(monkeypatch):
    """Answers on the nodes: the selection of graphs is found although the layout is not that of the library."""
    data = pytest.importorskip("torch_geometric.data")
    loaded = []
    monkeypatch.setattr("energysolve.layout.import_module", lambda name: loaded.append(importlib.import_module(name)))
    sizes = (2, 4, 3, 5)
    steep = [torch.full((size, 1), 0.1 + 0.3 * k, dtype=torch.float64) for k, size in enumerate(sizes)]
    edges = torch.zeros(2, 1, dtype=torch.int64)
    graphs = [data.Data(edge_index=edges, steep=part, num_nodes=len(part)) for part in steep]
    batch = data.Batch.from_data_list(graphs)

    def nodes(x):
        return Segment(x.batch, x.num_graphs)

    def energy(x, y):
        return nodes(x).sum(x.steep * (y - 1).square())

    solve = solver(energy, layout=nodes)
    y = torch.randn(14, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert_same(solve.replace(compact=True).minimize(batch, y), solve.minimize(batch, y))
    assert [module.__name__ for module in loaded][:1] == ["energysolve.graph"]  # by the selection
