"""Batches of graphs bring their own layout: one answer an edge, one sample a graph."""

import pytest
import torch

from energysolve import SGD, EnergyChange, EnergySolver, GradientNorm, Segment, Truncated, Uniform, Zeros
from energysolve.layout import layout_of

data = pytest.importorskip("torch_geometric.data")


def graphs(sizes=(2, 4, 3)):
    generator = torch.Generator().manual_seed(0)
    found = []
    for size in sizes:
        index = torch.cartesian_prod(torch.arange(size), torch.arange(size)).T
        values = torch.rand(size * size, 1, generator=generator, dtype=torch.float64)
        found.append(data.Data(edge_index=index, edge_attr=values, num_nodes=size))
    return found


def energy(x, y):
    return layout_of(x).sum((y - x.edge_attr).square() * (1 + x.edge_attr))


SOLVER = EnergySolver(energy, SGD(0.1), init=Uniform((1,)), halting=EnergyChange(rtol=1e-4).patience(2), max_steps=60)


def test_edges_are_rows_and_graphs_are_samples():
    batch = data.Batch.from_data_list(graphs())
    solution = SOLVER.minimize(batch)
    assert solution.y.shape == (4 + 16 + 9, 1)
    assert solution.y.dtype == torch.float64
    assert solution.steps.shape == (3,)
    assert solution.converged.all()
    torch.testing.assert_close(solution.y, batch.edge_attr, atol=0.05, rtol=0)


def test_a_graph_is_solved_alone_as_in_the_batch():
    batch = data.Batch.from_data_list(graphs())
    start = torch.randn(29, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    together = SOLVER.minimize(batch, start)
    for sample, graph in enumerate(graphs()):
        rows = layout_of(batch).index == sample
        alone = SOLVER.minimize(data.Batch.from_data_list([graph]), start[rows])
        assert torch.equal(alone.steps[0], together.steps[sample])
        assert torch.equal(alone.y, together.y[rows])


def test_gradients_reach_the_edges():
    batch = data.Batch.from_data_list(graphs())
    batch.edge_attr.requires_grad_()
    solver = SOLVER.replace(differentiation=Truncated(2), halting=GradientNorm(1e-3))
    (gradient,) = torch.autograd.grad(solver.minimize(batch).y.sum(), batch.edge_attr)
    assert gradient.isfinite().all()
    assert (gradient != 0).all()


def without_edges(size=3):
    return data.Data(x=torch.rand(size, 1), num_nodes=size)


def of_several_kinds():
    graph = data.HeteroData()
    graph["city"].x = torch.rand(2, 1)
    graph["city", "road", "city"].edge_index = torch.tensor([[0, 1], [1, 0]])
    return graph


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (graphs()[0], r"single Data, not a batch of graphs.*Batch\.from_data_list\(\[x\]\)"),
        (of_several_kinds(), r"single HeteroData.*Batch\.from_data_list"),
        (graphs(), r"x is a list that holds a Data.*Batch\.from_data_list\(graphs\)"),
        (tuple(graphs()), r"x is a tuple that holds a Data.*Batch\.from_data_list\(graphs\)"),
        ((data.Batch.from_data_list(graphs()), torch.rand(3)), r"x is a tuple that holds a DataBatch.*attributes"),
        ({"graphs": data.Batch.from_data_list(graphs())}, "x is a dict that holds a DataBatch"),
        (data.Batch.from_data_list([without_edges()] * 2), r"without edge_index.*node_layout"),
        (data.Batch(edge_index=torch.tensor([[0], [1]])), r"without batch.*Batch\.from_data_list"),
        (data.Batch.from_data_list([of_several_kinds()] * 2), r"HeteroData with the kinds of edges.*to_homogeneous"),
    ],
    ids=["graph", "hetero graph", "list", "tuple", "batch in tuple", "batch in dict", "no edges", "no batch", "hetero"],
)
def test_graphs_that_are_no_batch_are_refused(x, words):
    with pytest.raises(ValueError, match=words):
        SOLVER.minimize(x)


def test_answers_on_nodes_and_graphs_without_an_edge():
    nodes = data.Batch.from_data_list([without_edges(2), without_edges(3)])
    solver = EnergySolver(
        lambda x, y: Segment(x.batch, 2).sum((y - x.x).square()),
        init=Zeros((1,)),
        layout=lambda x: Segment(x.batch, x.num_graphs),
    )
    torch.testing.assert_close(solver.minimize(nodes).y, nodes.x)
    edgeless = data.Data(edge_index=torch.zeros(2, 0, dtype=torch.int64), edge_attr=torch.zeros(0, 1), num_nodes=2)
    edgeless.edge_attr = edgeless.edge_attr.double()
    batch = data.Batch.from_data_list([*graphs((2,)), edgeless])
    solution = SOLVER.minimize(batch)
    assert solution.y.shape == (4, 1)
    assert solution.status.shape == (2,)
