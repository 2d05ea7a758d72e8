"""Files of one graph each (edge list, GraphML, SciPy's ``.npz``), and the answers on its edges as such files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networkx as nx
import torch
from scipy import sparse

from ..files import suffix_of, write_atomic
from ..recorders import Trajectory
from ..solution import Solution
from ..solver import EnergySolver
from ..user_graphs import answers_like, solve_task, to_batch

_NODES = 1_000_000
"""The most nodes that are taken without a byte for each of them."""
SUFFIXES = (".csv", ".edges", ".edgelist", ".txt", ".graphml", ".npz")


@dataclass(frozen=True)
class SolvedGraph:
    """A graph of a file with its answers.

    Attributes:
        graph: the graph as it was read.
        x: the problem, a batch of one graph.
        y: the answers, read by the task.
        solution: the last solve, with its trajectory.

    Examples:
        >>> from pathlib import Path
        >>> from energysolve import EnergySolver
        >>> from energysolve.streaming.graphs import solve_graph_file
        >>> from energysolve.tasks import Components
        >>> _ = Path("graph.csv").write_text("a b\\nc d\\n")
        >>> solver = EnergySolver.from_pretrained("components")
        >>> solved = solve_graph_file(solver, Components(), Path("graph.csv"), Path("pairs.csv"))  # a `SolvedGraph`
        >>> list(solved.graph), solved.y.shape, solved.solution.converged
        (['a', 'b', 'c', 'd'], torch.Size([16, 1]), tensor([True]))
    """

    graph: Any
    x: Any
    y: torch.Tensor
    solution: Solution


def read_graph(path: str | Path) -> Any:
    """A graph from a file: a NetworkX graph, or a SciPy sparse array for ``.npz``.

    An edge list has a line ``source target`` or ``source target value`` for each edge of an undirected graph, separated
    by spaces, tabs or commas; lines that begin with ``#`` are comments. GraphML may be directed; edges have the
    attribute ``weight``. An ``.npz`` is written by ``scipy.sparse.save_npz`` and has the edges that it stores.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is of another kind, or damaged; the message names the line of an edge list.

    Examples:
        >>> from pathlib import Path
        >>> from energysolve.streaming.graphs import read_graph
        >>> _ = Path("graph.csv").write_text("# places and miles\\na b 1.5\\nb c 2\\n")
        >>> graph = read_graph("graph.csv")
        >>> list(graph), graph.edges["a", "b"]["weight"]
        (['a', 'b', 'c'], 1.5)
    """
    path = Path(path)
    suffix = suffix_of(path, SUFFIXES, "Graphs")
    if suffix == ".npz":
        return _read(path, "a matrix of scipy.sparse.save_npz", lambda: _load_matrix(path))
    if suffix == ".graphml":
        return _read(path, "GraphML", lambda: nx.read_graphml(path))
    return _read_edges(path)


def solve_graph_file(
    solver: EnergySolver, task: Any, input: Path, output: Path, generator: torch.Generator | None = None
) -> SolvedGraph:
    """Solve the problem that the graph of a file poses to a task, and write the answers.

    Args:
        solver: a solver of answers on all pairs of nodes.
        task: a task with ``complete`` and ``interpret``, such as ``ShortestPath()``.
        input: see `read_graph`.
        output: a ``.csv`` of lines ``source,target,answer``, a ``.graphml``, or an ``.npz`` of a SciPy matrix.
        generator: source of random initial answers.

    Raises:
        FileNotFoundError: if there is no file ``input``.
        ValueError: if a file is of another kind or damaged, or the graph poses no problem of the task.

    Examples:
        >>> from pathlib import Path
        >>> from energysolve import EnergySolver
        >>> from energysolve.streaming.graphs import solve_graph_file
        >>> from energysolve.tasks import ShortestPath
        >>> _ = Path("graph.csv").write_text("a b 1.5\\nb c 2\\n")
        >>> solver = EnergySolver.from_pretrained("shortest-path")
        >>> found = solve_graph_file(solver, ShortestPath(), Path("graph.csv"), Path("distances.csv"))
        >>> found.y.view(3, 3)[0].round(decimals=1)  # from a to a, b and c
        tensor([0.0000, 1.5000, 3.5000])
    """
    if output.suffix.lower() not in (".csv", ".graphml", ".npz"):
        raise ValueError(f"{output}: answers on a graph are written as .csv, .graphml or .npz.")
    graph = read_graph(input)
    recording = solver.replace(recorder=Trajectory())
    try:
        batch = to_batch(graph, dtype=next(solver.parameters()).dtype)
        x, y, solution = solve_task(recording, batch, task, generator=generator)
    except ValueError as error:
        raise ValueError(f"{input}: {error}") from error
    _write(answers_like(graph, x, y), output)
    return SolvedGraph(graph, x, y, solution)


def _read(path: Path, what: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except Exception as error:  # other libraries' readers raise anything for a damaged file
        raise ValueError(f"{path} is not {what}: {str(error).rstrip('.')}.") from error


def _load_matrix(path: Path) -> Any:
    matrix = sparse.load_npz(path)
    # SciPy takes places outside of the matrix as they are, and then reads and writes there.
    if hasattr(matrix, "check_format"):
        matrix.check_format(full_check=True)
    if max(matrix.shape) > max(_NODES, path.stat().st_size):
        raise ValueError(f"it has the shape {matrix.shape}, for a file of {path.stat().st_size} bytes")
    return sparse.csr_array(matrix)


def _read_edges(path: Path) -> nx.Graph:
    graph = nx.Graph()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not an edge list: it is no text.") from error
    for number, line in enumerate(lines, start=1):
        parts = line.replace(",", " ").split()
        if not parts or parts[0].startswith("#"):
            continue
        value = _value(parts[2:])
        if value is None or len(parts) < 2:
            raise ValueError(f"{path}, line {number}: expected 'source target' or 'source target value', got {line!r}.")
        if graph.has_edge(*parts[:2]):
            raise ValueError(f"{path}, line {number}: the edge {parts[0]} {parts[1]} is there already.")
        graph.add_edge(*parts[:2], weight=value)
    if not graph:
        raise ValueError(f"{path} has no edges; expected lines 'source target' or 'source target value'.")
    return graph


def _value(parts: list[str]) -> float | None:
    """The value of an edge, 1 if there is none; None if it is no number."""
    try:
        return float(*parts) if parts else 1.0
    except (ValueError, TypeError):
        return None


def _write(answers: Any, output: Path) -> None:
    """Write answers on edges, a NetworkX graph or a SciPy matrix."""
    output.parent.mkdir(parents=True, exist_ok=True)
    suffix = output.suffix.lower()
    if suffix == ".npz":
        matrix = nx.to_scipy_sparse_array(answers, weight="answer") if isinstance(answers, nx.Graph) else answers
        with open(output, "wb") as file:
            sparse.save_npz(file, sparse.csr_array(matrix))
        return
    if not isinstance(answers, nx.Graph):
        answers = nx.from_scipy_sparse_array(answers, create_using=nx.DiGraph, edge_attribute="answer")
    if suffix == ".graphml":
        write_atomic(output, "\n".join(nx.generate_graphml(answers)).encode())
        return
    rows = [f"{u},{v},{value!r}" for u, v, value in answers.edges(data="answer")]
    write_atomic(output, "\n".join(["source,target,answer", *rows, ""]).encode())
