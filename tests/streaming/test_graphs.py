"""Files of graphs, and ``energysolve solve`` on them, with an energy that is exact."""

import networkx as nx
import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.sparse.csgraph import shortest_path

from energysolve import EnergySolver, FixedPoint, GradientNorm
from energysolve.cli import main
from energysolve.energies import TripleEnergy
from energysolve.initializers import EdgeValues
from energysolve.streaming.graphs import read_graph, solve_graph_file
from energysolve.tasks import Components, ShortestPath

GRAPH = nx.Graph()
GRAPH.add_weighted_edges_from([("a", "b", 1.0), ("b", "c", 2.5), ("a", "c", 5.0), ("d", "e", 1.5)])


def bellman():
    """The exact recursion of distances ``min(x_ij, min_k x_ik + y_kj)`` as weights of the energy."""
    energy = TripleEnergy(width=3, messages=1)
    with torch.no_grad():
        for parameter in energy.parameters():
            parameter.zero_()
        energy.from_x.weight[0, 0] = 1  # features: the edge, the answer, and whether a node is paired with itself
        energy.from_y.weight[1, 0] = 1
        energy.on_diagonal[2] = 1000
        energy.left.weight[0] = torch.tensor([-1.0, 0.0, -1.0])  # no path over the node itself
        energy.right.weight[0] = torch.tensor([0.0, -1.0, 0.0])
        # min(x, -u) = relu(x) - relu(x + u)
        energy.hidden.weight[0] = torch.tensor([1.0, 0, 0, 0])
        energy.hidden.weight[1] = torch.tensor([1.0, 0, 0, 1])
        energy.out.weight[0] = torch.tensor([1.0, -1.0, 0.0])
    halting = GradientNorm(1e-4)
    return EnergySolver(energy, FixedPoint(memory=0), init=EdgeValues(), halting=halting, max_steps=100)


def write(path, graph=GRAPH):
    if path.suffix == ".graphml":
        nx.write_graphml(graph, path)
    elif path.suffix == ".npz":
        sparse.save_npz(path, sparse.csr_array(nx.to_scipy_sparse_array(graph)))
    else:
        between = "," if path.suffix == ".csv" else "\t"
        path.write_text(
            "# edges\n" + "".join(f"{u}{between}{v}{between}{w}\n" for u, v, w in graph.edges(data="weight"))
        )
    return path


def read_answers(path, nodes):
    if path.suffix == ".npz":
        return sparse.load_npz(path).toarray()
    if path.suffix == ".graphml":
        return nx.to_numpy_array(nx.read_graphml(path), nodelist=nodes, weight="answer")
    found = np.full((len(nodes), len(nodes)), np.nan)
    for line in path.read_text().splitlines()[1:]:
        u, v, value = line.split(",")
        found[nodes.index(u), nodes.index(v)] = float(value)
    return found


@pytest.mark.parametrize(
    ("given", "written"),
    [(".csv", ".graphml"), (".edges", ".csv"), (".graphml", ".npz"), (".npz", ".csv"), (".npz", ".npz")],
)
def test_distances_are_scipys(tmp_path, given, written):
    nodes = list(range(5)) if given == ".npz" else list("abcde")
    output = tmp_path / f"answers{written}"
    found = solve_graph_file(bellman(), ShortestPath(), write(tmp_path / f"graph{given}"), output)
    assert found.solution.converged.all()
    expected = shortest_path(nx.to_numpy_array(GRAPH), directed=False)
    answers = read_answers(output, [str(node) for node in nodes])
    if written == ".npz":  # SciPy drops no stored entry
        assert sparse.load_npz(output).nnz == 25
    np.testing.assert_allclose(answers, expected, atol=1e-3)


def test_the_command_writes_answers_and_a_figure(tmp_path, capsys):
    bellman().save_pretrained(tmp_path / "model")
    graph, output = write(tmp_path / "graph.csv"), tmp_path / "answers.csv"
    command = ["solve", "shortest-path", "--model", str(tmp_path / "model"), "--input", str(graph)]
    assert ended([*command, "--output", str(output)]) == 0
    out = capsys.readouterr().out
    assert "5 nodes, 25 pairs: Solution(1 CONVERGED" in out
    assert "12 pairs without a path: inf" in out
    assert (tmp_path / "answers.png").stat().st_size > 10_000
    assert ended([*command, "--output", str(output)]) == 1
    assert "exists. Choose another --output, or pass --overwrite" in capsys.readouterr().err
    assert ended([*command, "--output", str(output), "--overwrite"]) == 0
    assert ended([*command, "--output", str(output), "--overwrite", "--chunk", "3"]) == 1
    assert "--chunk is for files of many problems" in capsys.readouterr().err


def ended(arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    return stop.value.code


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("graph.csv", "a,b\nb\n", "line 2: expected 'source target' or 'source target value', got 'b'"),
        ("graph.csv", "a,b,far\n", "line 1: expected"),
        ("graph.csv", "a b 1 2\n", "line 1: expected"),
        ("graph.csv", "a b\nb a\n", "line 2: the edge b a is there already"),
        ("graph.csv", "# nothing\n", "has no edges"),
        ("graph.csv", b"\xff\xfe\x00", "it is no text"),
        ("graph.csv", "a b nan\n", r"graph\.csv: The graph has the value nan on edge \(0, 1\)"),
        ("graph.csv", "a b -2\n", r"graph\.csv: Lengths of edges must be 0 or more; got -2"),
        ("graph.graphml", "<graph", "is not GraphML"),
        ("graph.npz", b"PK nothing", "is not a matrix of scipy"),
        ("graph.png", "", "Graphs are read from .csv, .edges, .edgelist, .txt, .graphml, .npz files; got .*graph.png"),
    ],
)
def test_files_that_are_no_graphs(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message):
        solve_graph_file(bellman(), ShortestPath(), path, tmp_path / "answers.csv")
    assert not (tmp_path / "answers.csv").exists()


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file"):
        read_graph(tmp_path / "graph.csv")
    with pytest.raises(ValueError, match=r"written as \.csv, \.graphml or \.npz"):
        solve_graph_file(bellman(), Components(), write(tmp_path / "graph.csv"), tmp_path / "answers.json")
