"""Users' own graphs: in from torch-geometric, NetworkX and SciPy, and answers back in the same form."""

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.sparse.csgraph import shortest_path

from energysolve import SGD, EnergySolver, GradientNorm, LeastSquares, Status, Zeros
from energysolve.layout import layout_of
from energysolve.tasks import Components, EdgeCopy, ShortestPath

data = pytest.importorskip("torch_geometric.data")
nx = pytest.importorskip("networkx")

from energysolve.graph import all_pairs, node_layout  # noqa: E402
from energysolve.testing import check_energy  # noqa: E402
from energysolve.user_graphs import answers_like, solve_graphs, to_batch  # noqa: E402


def doubling(x, y):
    """Its minimum is twice the value of every edge."""
    return layout_of(x).sum((y - 2 * x.edge_attr).square()) / 2


SOLVER = EnergySolver(doubling, SGD(1.0), init=Zeros((1,)), halting=GradientNorm(1e-6), max_steps=3)


def path():
    graph = nx.Graph(name="path")
    graph.add_node("c", color="red")
    graph.add_edge("a", "b", weight=2.0)
    graph.add_edge("b", "c", weight=0.5)
    return graph


def test_networkx_comes_back_as_a_graph_of_the_same_nodes():
    answers, solution = solve_graphs(SOLVER, path())
    assert solution.converged.all()
    assert list(answers) == ["c", "a", "b"]
    assert answers.nodes["c"] == {"color": "red"}
    assert answers.graph == {"name": "path"}
    assert {(u, v): d["answer"] for u, v, d in answers.edges(data=True)} == {
        ("a", "b"): 4.0,
        ("b", "a"): 4.0,
        ("b", "c"): 1.0,
        ("c", "b"): 1.0,
    }


def test_directed_edges_stay_directed_and_without_weights_each_is_one():
    graph = nx.DiGraph([(3, 1), (1, 3), (1, 2)])
    answers, _ = solve_graphs(SOLVER, graph)
    assert sorted(answers.edges(data="answer")) == [(1, 2, 2.0), (1, 3, 2.0), (3, 1, 2.0)]
    loops = nx.Graph([(0, 0), (0, 1)])
    assert sorted(solve_graphs(SOLVER, loops)[0].edges) == [(0, 0), (0, 1), (1, 0)]


@pytest.mark.parametrize("kind", [sparse.csr_array, sparse.coo_array, sparse.csr_matrix, sparse.lil_matrix])
def test_matrices(kind):
    matrix = kind(np.array([[0, 1.5, 0], [0, 0, -2.0], [4.0, 0, 0]]))
    answers, solution = solve_graphs(SOLVER, matrix)
    np.testing.assert_allclose(answers.toarray(), 2 * matrix.toarray())
    assert isinstance(answers, sparse.sparray) == isinstance(matrix, sparse.sparray)
    assert solution.y.dtype == torch.float64


def test_a_list_of_any_kinds_and_a_batch_come_back_as_lists():
    one = data.Data(edge_index=torch.tensor([[0, 1], [1, 0]]), edge_attr=torch.tensor([3.0, 4.0]), num_nodes=2)
    one.label = "kept"
    lonely = nx.empty_graph(1)
    answers, solution = solve_graphs(SOLVER, [one, path(), lonely])
    assert answers[0].y.squeeze(1).tolist() == [6.0, 8.0]
    assert answers[0].label == "kept"
    assert answers[1].edges["b", "c"]["answer"] == 1.0
    assert answers[2].number_of_edges() == 0
    assert len(solution.status) == 3
    batch = data.Batch.from_data_list([one, one])
    assert [each.y.shape for each in solve_graphs(SOLVER, batch)[0]] == [(2, 1), (2, 1)]
    assert solve_graphs(SOLVER, one)[0].y.squeeze(1).tolist() == [6.0, 8.0]


def test_all_pairs_of_sparse_graphs():
    x = all_pairs(to_batch([path(), nx.empty_graph(1)]), torch.tensor([9.0, 7.0]))
    assert x.edge_attr.squeeze(1).tolist() == [9, 9, 0.5, 9, 9, 2, 0.5, 2, 9, 7]
    assert x.edge_index.tolist() == [[0, 0, 0, 1, 1, 1, 2, 2, 2, 3], [0, 1, 2, 0, 1, 2, 0, 1, 2, 3]]
    assert x.num_graphs == 2
    assert [graph.num_nodes for graph in x.to_data_list()] == [3, 1]


class Exact(LeastSquares):
    """Not learned: the distance to the right answer, computed by SciPy; `interpret` and `complete` are tested."""

    def __init__(self, answer):
        super().__init__(None, layout_of)
        self.answer = answer

    def encode(self, x):
        pieces = [self.answer(each.edge_attr.view(each.num_nodes, -1).double().numpy()) for each in x.to_data_list()]
        return torch.cat([torch.from_numpy(piece).float().reshape(-1, 1) for piece in pieces]), layout_of(x)

    def residuals(self, context, y):
        return y - context[0]

    def evaluate(self, context, y):
        return context[1].sum((y - context[0]).square()) / 2


def exactly(answer):
    return SOLVER.replace(energy=Exact(answer))


def test_distances_of_a_disconnected_graph_are_infinite_between_its_parts():
    graph = path()
    graph.add_edge("d", "e", weight=1.0)
    answers, solution = solve_graphs(exactly(lambda m: shortest_path(m)), graph, ShortestPath())
    assert solution.status.tolist() == [Status.CONVERGED]
    expected = dict(nx.all_pairs_dijkstra_path_length(graph))
    for u in graph:
        for v in graph:
            assert answers.edges[u, v]["answer"] == expected[u].get(v, float("inf"))


def test_distances_are_found_in_rounds_of_growing_reach():
    """No problem has an edge longer than its reach, and answers below it are kept."""
    graph = nx.path_graph(9)
    nx.set_edge_attributes(graph, 1.0, "weight")
    task, solver, seen = ShortestPath(), exactly(lambda m: shortest_path(m)), []
    x = task.complete(to_batch(graph))
    while x is not None:
        seen.append(x.reach.item())
        assert x.edge_attr.max() <= x.reach
        last, x = x, task.refine(x, y := solver.minimize(x).y)
    assert seen == [2 * 1.5**k for k in range(6)]
    found = task.interpret(last, y)
    torch.testing.assert_close(found, task.exact(last))
    assert found.max() == 8
    answers, solution = solve_graphs(solver, [graph, nx.Graph([(0, 1, {"weight": 3.0})])], task)
    assert answers[0].edges[0, 8]["answer"] == 8.0
    assert answers[1].edges[0, 1]["answer"] == 3.0
    assert solution.evaluations.tolist() == [12, 12]  # two in each round


def test_answers_that_are_no_distances_end_the_rounds():
    answers, _ = solve_graphs(exactly(lambda m: np.full_like(m, 1e9)), path(), ShortestPath())
    assert answers.edges["a", "b"]["answer"] == 1e9


@pytest.mark.parametrize("nodes", [[40], [25, 35]])
def test_components_are_found_along_chains_far_longer_than_those_of_training(nodes):
    """The energy rises on the way, and all pairs are right at the end."""
    graph = nx.disjoint_union_all([nx.path_graph(n) for n in nodes])
    answers, solution = solve_graphs(EnergySolver.from_pretrained("components"), graph, Components())
    assert solution.status.tolist() == [Status.CONVERGED]
    for u in graph:
        connected = {v for v in graph if answers.edges[u, v]["answer"] > 0.5}
        assert connected == nx.node_connected_component(graph, u)


def test_edges_of_any_weight_connect():
    x = Components().complete(to_batch(path()))
    assert x.edge_attr.view(3, 3).tolist() == [[0, 0, 1], [0, 0, 1], [1, 1, 0]]
    assert EdgeCopy().complete(to_batch(path())).edge_attr.max() == 2


def test_node_layout_has_a_row_for_each_node():
    x = to_batch([path(), nx.empty_graph(2)])
    solver = EnergySolver(
        lambda x, y: node_layout(x).sum((y - 3).square()), SGD(0.5), init=Zeros((2,)), layout=node_layout
    )
    solution = solver.minimize(x)
    assert solution.y.shape == (5, 2)
    assert solution.steps.shape == (2,)
    torch.testing.assert_close(solution.y, torch.full((5, 2), 3.0))


def test_checking_an_energy_of_graphs_needs_no_select():
    x = to_batch([path(), nx.complete_graph(3), nx.empty_graph(1)])
    x.edge_attr = x.edge_attr.double()
    check_energy(doubling, x, torch.rand(len(x.edge_attr), 1, dtype=torch.float64))
    nodes = torch.rand(x.num_nodes, 1, dtype=torch.float64)
    check_energy(lambda x, y: node_layout(x).sum(y**4), x, nodes, layout=node_layout(x))


def wrong(**fields):
    given = {"edge_index": torch.tensor([[0, 1], [1, 0]]), "edge_attr": torch.ones(2, 1), "num_nodes": 2}
    return data.Data(**{**given, **fields})


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (wrong(edge_index=torch.tensor([[0, 2], [1, 0]])), "has 2 nodes, numbered from 0 to 1, .* numbers from 0 to 2"),
        (wrong(edge_index=torch.tensor([[0, -1], [1, 0]])), "numbers from -1 to 1"),
        (wrong(edge_attr=torch.tensor([1.0, torch.nan])), r"has the value nan on edge \(1, 0\)"),
        (wrong(edge_attr=torch.ones(3, 1)), r"has 2 edges, and edge_attr of shape \(3, 1\)"),
        (wrong(edge_attr=torch.ones(2, 2)), "expected one number for each edge"),
        (wrong(edge_index=torch.tensor([[0, 0], [1, 1]])), r"has edge \(0, 1\) 2 times"),
        (wrong(edge_index=torch.zeros(2, 2)), "edge_index of int64 numbers"),
        (nx.MultiGraph([(0, 1), (0, 1)]), "is a multigraph"),
        (nx.Graph([(0, 1, {"weight": "far"})]), r"edge \(0, 1\) has weight='far'; expected a number on every edge"),
        (nx.Graph([(0, 1, {"weight": 1}), (1, 2)]), r"edge \(1, 2\) has weight=None"),
        (sparse.csr_array(np.ones((2, 3))), r"has shape \(2, 3\); expected a square matrix"),
        ([], "no graph in the list"),
    ],
)
def test_damaged_graphs(graph, message):
    with pytest.raises(ValueError, match=message):
        to_batch(graph)


@pytest.mark.parametrize("graph", ["graph.txt", np.ones((2, 2)), [np.ones((2, 2))]])
def test_other_things_are_no_graphs(graph):
    with pytest.raises(TypeError, match="expected a torch_geometric Data or Batch, a NetworkX graph, a SciPy sparse"):
        to_batch(graph)


def test_graphs_without_distances():
    directed = nx.DiGraph([(0, 1, {"weight": 1.0}), (1, 0, {"weight": 2.0})])
    with pytest.raises(ValueError, match=r"Edge \(0, 1\) of graph 0 is not as long as the edge back.*symmetric=False"):
        ShortestPath().complete(to_batch(directed))
    assert ShortestPath(symmetric=False).complete(to_batch(directed)).edge_attr.squeeze(1).tolist() == [0, 1, 2, 0]
    one_way = nx.DiGraph([(0, 1, {"weight": 1.0})])
    answers, _ = solve_graphs(exactly(lambda m: shortest_path(m)), one_way, ShortestPath(symmetric=False))
    assert sorted(answers.edges(data="answer")) == [(0, 0, 0.0), (0, 1, 1.0), (1, 0, torch.inf), (1, 1, 0.0)]
    with pytest.raises(ValueError, match="0 or more; got -2"):
        ShortestPath().complete(to_batch(nx.Graph([(0, 1, {"weight": -2.0})])))


def test_answers_of_another_batch():
    x = to_batch(path())
    with pytest.raises(ValueError, match=r"shape \(4, 1\), one for each edge of the batch; got \(3, 1\)"):
        answers_like(path(), x, torch.ones(3, 1))
    with pytest.raises(ValueError, match="The batch has 1 graphs, and 2 were given"):
        answers_like([path(), path()], x, torch.ones(4, 1))


def test_messages_about_shapes_name_edges_and_nodes():
    x = to_batch(path())
    with pytest.raises(ValueError, match=r"y has shape \(3, 1\), but x has 1 samples with 4 edges.* of the edges"):
        SOLVER.minimize(x, torch.zeros(3, 1))
    with pytest.raises(ValueError, match=r"with 3 nodes in all, so y must have shape \(3, ...\), one row for each of"):
        SOLVER.replace(layout=node_layout).minimize(x, torch.zeros(4, 1))
