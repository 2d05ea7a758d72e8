"""Energies of graphs, against torch-geometric's operator, loops over triples, and the symmetries that they promise."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from energysolve import SGD, EnergySolver, FixedPoint, GradientNorm, Uniform
from energysolve.energies import GINEEnergy, TripleEnergy
from energysolve.layout import layout_of
from energysolve.testing import check_energy

data = pytest.importorskip("torch_geometric.data")
nn = pytest.importorskip("torch_geometric.nn")

from energysolve.graph import all_pairs, complete_graphs  # noqa: E402

AGGREGATIONS = pytest.mark.parametrize("aggregation", ["sum", "mean"])
SIZES = st.lists(st.integers(1, 4), min_size=1, max_size=3)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def randomized(energy, seed=0):
    """The energy in float64 with weights, biases included, such as training might find."""
    with torch.no_grad():
        for parameter in energy.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=seeded(seed)))
    return energy.double()


def triples(bounded=False):
    torch.manual_seed(0)
    return randomized(TripleEnergy(8, 5, bounded=bounded))


def gine(aggregation="sum"):
    torch.manual_seed(0)
    return randomized(GINEEnergy(8, 3, aggregation=aggregation))


def complete(sizes, seed=0):
    edges = torch.rand(len(sizes), max(sizes), max(sizes), generator=seeded(seed), dtype=torch.float64)
    return complete_graphs(edges, torch.tensor(sizes))


def sparse(seed=0):
    """Graphs with some edges, without any, and of one node."""
    found = []
    for nodes, edges in ((4, 5), (3, 0), (1, 1), (1, 0), (5, 9)):
        index = torch.randint(nodes, (2, edges), generator=seeded(seed + nodes))
        values = torch.rand(edges, 1, generator=seeded(seed), dtype=torch.float64)
        found.append(data.Data(edge_index=index, edge_attr=values, num_nodes=nodes))
    return data.Batch.from_data_list(found)


def answers(x, seed=1):
    return torch.randn(x.edge_index.shape[1], 1, generator=seeded(seed), dtype=torch.float64)


def relabelled(x, seed=0):
    """The batch with the nodes of every graph renamed and the edges shuffled, and where the edges went."""
    ptr = [0, *torch.bincount(x.batch).cumsum(0).tolist()]
    names = torch.cat([start + torch.randperm(end - start, generator=seeded(seed)) for start, end in pairwise(ptr)])
    order = torch.randperm(x.edge_index.shape[1], generator=seeded(seed + 1))
    order = order[x.batch[x.edge_index[0, order]].argsort(stable=True)]
    moved = x.clone()
    moved.edge_index, moved.edge_attr = names[x.edge_index[:, order]], x.edge_attr[order]
    return moved, order


@AGGREGATIONS
def test_many_edges_have_the_energy_and_the_derivatives_of_few(monkeypatch, aggregation):
    """Beyond a number of edges, messages are computed in chunks; here that number is two."""
    energy, x = gine(aggregation), sparse()
    y = answers(x).requires_grad_()
    variables = [y, *energy.parameters()]
    expected = energy(x, y)
    derivatives = torch.autograd.grad(expected.square().sum(), variables)
    monkeypatch.setattr("energysolve.energies.graph.MANY", 2)
    monkeypatch.setattr("energysolve.energies.messages.CHUNK", 2)
    assert energy.encode(x).known is None
    found = energy(x, y)
    assert torch.allclose(found, expected)
    assert all(map(torch.allclose, torch.autograd.grad(found.square().sum(), variables), derivatives))
    x.edge_attr.requires_grad_()
    assert torch.autograd.gradcheck(lambda y: energy(x, y), y)
    assert torch.autograd.grad(energy(x, y).sum(), x.edge_attr)[0].abs().sum() > 0


@pytest.mark.parametrize("bounded", [False, True])
def test_contract_of_triples(bounded):
    x = complete([3, 1, 4])
    check_energy(triples(bounded), x, answers(x))


@AGGREGATIONS
def test_contract_of_gine(aggregation):
    x = complete([3, 1, 4])
    check_energy(gine(aggregation), x, answers(x))


def test_triples_are_maxima_over_all_intermediate_nodes():
    """The residuals, written out pair by pair in loops over nodes."""
    energy, x = triples(), complete([4])
    y = answers(x)
    edges, values = x.edge_attr.view(4, 4), y.view(4, 4)
    unit = edges.abs().mean()
    h = [[None] * 4 for _ in range(4)]
    for i in range(4):
        for j in range(4):
            seen = (
                energy.from_x.weight @ torch.stack([edges[i, j], edges[j, i]])
                + energy.from_y.weight[:, 0] * values[i, j]
            )
            h[i][j] = torch.relu(seen + (unit * energy.on_diagonal if i == j else 0))
    for i in range(4):
        for j in range(4):
            sums = [energy.left.weight @ h[i][k] + energy.right.weight @ h[k][j] for k in range(4)]
            message = torch.stack(sums).amax(0)
            inner = energy.hidden.weight @ torch.cat([h[i][j], message]) + (
                unit * energy.hidden_on_diagonal if i == j else 0
            )
            expected = values[i, j] - energy.out.weight[0] @ torch.relu(inner)
            torch.testing.assert_close(energy.residuals(energy.encode(x), y)[4 * i + j, 0], expected)


@AGGREGATIONS
def test_gine_is_torch_geometrics_operator(aggregation):
    """The energy with the layers of torch-geometric, on the same weights."""
    energy, x = gine(aggregation), sparse()
    y = answers(x)
    edges = torch.cat([energy.of_edge(x.edge_attr), energy.of_answer(y)], 1)
    features = torch.zeros(x.num_nodes, 1, dtype=torch.float64)
    for of_edges, of_nodes in zip(energy.edges, energy.nodes, strict=True):
        layer = nn.GINEConv(of_nodes, edge_dim=8, aggr=aggregation).double()
        layer.lin.load_state_dict(of_edges.state_dict())
        features = torch.nn.functional.silu(layer(features, x.edge_index, edges))
    pooled = nn.global_max_pool(features, x.batch, size=x.num_graphs)
    expected = energy.head(torch.nn.functional.silu(energy.hidden(pooled))).squeeze(1)
    torch.testing.assert_close(energy(x, y), expected)
    assert energy(x, y).shape == (5,)


def test_the_sizes_of_the_paper():
    """GINEConv(128, 128) thrice: 128 channels of edges, nodes and hidden layers."""
    energy = GINEEnergy()
    assert [tuple(layer.weight.shape) for layer in energy.edges] == [(1, 128), (128, 128), (128, 128)]
    assert [tuple(layer.weight.shape) for layer in energy.nodes] == [(128, 1), (128, 128), (128, 128)]
    sizes = {"width": 128, "layers": 3, "scale": 1.0, "aggregation": "sum"}
    assert GINEEnergy(**energy.config()).config() == sizes
    assert TripleEnergy(**TripleEnergy(6, 4, True).config()).config() == {"width": 6, "messages": 4, "bounded": True}


@given(SIZES, st.integers(0, 1000), st.sampled_from([triples, gine, lambda: triples(True)]))
def test_relabelling_the_nodes_moves_the_gradient_and_leaves_the_energy(sizes, seed, make):
    energy, x = make(), complete(sizes, seed)
    y = answers(x, seed).requires_grad_()
    moved, order = relabelled(x, seed)
    there = y.detach()[order].requires_grad_()
    one, other = energy(x, y), energy(moved, there)
    torch.testing.assert_close(one, other)
    (gradient,), (its) = torch.autograd.grad(one.sum(), y), torch.autograd.grad(other.sum(), there)[0]
    torch.testing.assert_close(gradient[order], its)


@given(SIZES, st.integers(0, 1000), st.booleans(), st.booleans())
def test_graphs_in_a_batch_are_answered_as_alone_and_as_relabelled(sizes, seed, bounded, fixed):
    """Graphs of different sizes, single nodes included: answers, statuses and steps of whole solves."""
    energy = triples(bounded) if fixed else gine()
    optimizer = FixedPoint(memory=0, step_size=0.5) if fixed else SGD(0.01)
    solver = EnergySolver(energy, optimizer, init=Uniform((1,)), halting=GradientNorm(1e-3), max_steps=3)
    x = complete(sizes, seed)
    y = answers(x, seed)
    together = solver.minimize(x, y)
    for number, graph in enumerate(x.to_data_list()):
        rows = layout_of(x).index == number
        alone = solver.minimize(data.Batch.from_data_list([graph]), y[rows])
        torch.testing.assert_close(together.y[rows], alone.y)
        assert together.steps[number] == alone.steps[0]
        assert together.status[number] == alone.status[0]
    moved, order = relabelled(x, seed)
    torch.testing.assert_close(solver.minimize(moved, y[order]).y, together.y[order])


def test_halted_graphs_that_leave_the_computation_change_nothing():
    x = complete([4, 2, 3, 1])
    y = answers(x)
    solver = EnergySolver(triples(), FixedPoint(), halting=GradientNorm(1e-2), max_steps=30)
    whole, compacted = solver.minimize(x, y), solver.replace(compact=True).minimize(x, y)
    torch.testing.assert_close(compacted.y, whole.y)
    assert torch.equal(compacted.steps, whole.steps)
    assert len(whole.steps.unique()) > 1


def test_sparse_graphs_are_answered_as_alone():
    x = sparse()
    y = answers(x)
    solver = EnergySolver(gine(), SGD(0.01), max_steps=3)
    together = solver.minimize(x, y)
    for number, graph in enumerate(x.to_data_list()):
        rows = layout_of(x).index == number
        alone = solver.minimize(data.Batch.from_data_list([graph]), y[rows])
        torch.testing.assert_close(together.y[rows], alone.y)
        torch.testing.assert_close(together.energy[number], alone.energy[0])


def test_graphs_without_edges():
    x = sparse()
    found = EnergySolver(gine(), SGD(0.1), init=Uniform((1,)), max_steps=3).minimize(x)
    assert found.energy.isfinite().all()
    whole = all_pairs(x)
    found = EnergySolver(triples(), FixedPoint(), init=Uniform((1,)), max_steps=3).minimize(whole)
    assert found.y.shape == (16 + 9 + 1 + 1 + 25, 1)


@given(st.floats(0.01, 100), st.integers(0, 100))
def test_answers_scale_with_the_problem(scale, seed):
    energy, x = triples(), complete([4, 2], seed)
    y = answers(x, seed)
    larger = x.clone()
    larger.edge_attr = scale * x.edge_attr
    torch.testing.assert_close(energy(larger, scale * y), scale**2 * energy(x, y))


@pytest.mark.parametrize("energy", [GINEEnergy(8), TripleEnergy(8, 4)])
@pytest.mark.parametrize(
    ("values", "got"), [(None, "none"), (torch.ones(9), r"\(9,\)"), (torch.ones(9, 1).long(), "int64")]
)
def test_edges_without_one_number_each(energy, values, got):
    x = complete([3])
    x.edge_attr = values
    if values is None:
        del x.edge_attr
    with pytest.raises(ValueError, match=rf"for each of the 9 edges, shape \(9, 1\); got .*{got}"):
        energy.encode(x)


@pytest.mark.parametrize("index", [[[0, 0, 1], [0, 1, 0]], [[0, 0, 1, 1], [0, 1, 1, 1]]])
def test_pairs_without_an_edge(index):
    graph = data.Data(edge_index=torch.tensor(index), edge_attr=torch.ones(len(index[0]), 1), num_nodes=2)
    x = data.Batch.from_data_list([graph])
    with pytest.raises(ValueError, match=r"expected 4 edges for graphs of \[2\] nodes.*all_pairs"):
        TripleEnergy(8, 4).encode(x)


@pytest.mark.parametrize("make", [lambda: TripleEnergy(0), lambda: GINEEnergy(1), lambda: GINEEnergy(8, 0)])
def test_sizes_out_of_range(make):
    with pytest.raises(ValueError, match=r"of [12] or more"):
        make()


def test_an_unknown_aggregation():
    with pytest.raises(ValueError, match="'sum' or 'mean', got 'max'"):
        GINEEnergy(8, aggregation="max")
