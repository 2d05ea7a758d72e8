"""Files and datasets solved on a local cluster of Ray."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import kills
import networkx as nx
import numpy as np
import pytest
import torch
from docstrings import ON_RAY, check_example, public_names
from file_solving import DIM, PROBLEMS, answers, assert_same, make_solver, save

from energysolve import Energy, EnergySolver, GradientNorm, Uniform, cli
from energysolve.streaming.solve import solve_file

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'energysolve[ray]'")
pytest.importorskip("ray.data", reason="Ray Data is not installed: pip install 'energysolve[ray]'")
pa = pytest.importorskip("pyarrow")

from pyarrow import parquet  # noqa: E402

from energysolve.streaming.cluster import Columns, Graphs, Ray, Shares, shares, solve_dataset  # noqa: E402
from energysolve.streaming.rows import solve_rows  # noqa: E402

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]  # the warnings of Ray's own threads


@pytest.fixture(scope="module")
def cluster():
    """A local cluster for all tests; it takes some ten seconds to start."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=256 << 20)
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


@pytest.mark.parametrize(
    ("cpus", "gpus", "workers", "device", "expected"),
    [
        (2, 0, None, "cpu", Shares(2, 0.5, 0, 1)),  # half a core is left to the tasks that read
        (2, 0, 1, "cpu", Shares(1, 1, 0, 2)),
        (1, 0, None, "cpu", Shares(1, 0.5, 0, 1)),
        (16, 0, 4, "cpu", Shares(4, 1, 0, 4)),
        (1600, 0, None, "cpu", Shares(1600, 0.9993, 0, 1)),  # a machine of 16 cores gets 16 workers, not 32
        (16, 4, None, "cuda", Shares(4, 1, 1, 4)),  # several GPUs on one machine: one worker for each
        (16, 4, 3, "cuda", Shares(3, 1, 1, 5)),
        (16, 4, 8, "cuda", Shares(8, 1, 0.5, 2)),
        (16, 4, 6, "cuda", Shares(6, 1, 0.5, 2)),  # 2, 2, 1 and 1; a share of 2/3 would leave two workers without a GPU
        (2, 8, None, "cuda", Shares(8, 0.125, 1, 1)),
    ],
)
def test_shares_of_the_workers(cpus, gpus, workers, device, expected):
    found = shares(cpus, gpus, workers, device)
    assert found == expected
    assert found.workers * found.cpus < cpus
    if device == "cuda":
        assert found.workers <= int(gpus) * int(1 / found.gpus + 1e-9)


def test_shares_of_no_gpu():
    with pytest.raises(ValueError, match="no GPU"):
        shares(8, 0, None, "cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_worker_on_each_gpu(cluster, tmp_path):
    save(tmp_path / "p.npz", np.tile(PROBLEMS, (10, 1)))
    solve_file(make_solver(), tmp_path / "p.npz", tmp_path / "a.npz", chunk=10, engine=Ray(device="cuda"))
    solve_file(make_solver(), tmp_path / "p.npz", tmp_path / "b.npz", chunk=10)
    np.testing.assert_allclose(answers(tmp_path / "a.npz")["y"], answers(tmp_path / "b.npz")["y"], atol=1e-5)


def dying_once(folder):
    """An energy of the user's own that kills its process in the middle of a chunk, once; it logs who solved what."""

    class Bowl(Energy):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(1.0))

        def evaluate(self, context, y):
            return self.scale * ((y - context) ** 2).sum(-1)

        def encode(self, x):
            with open(folder / "log", "a") as file:
                file.write(f"{os.getpid()} {x[0, 0].item()!r}\n")
            if len((folder / "log").read_text().splitlines()) > 6 and not (folder / "died").exists():
                (folder / "died").write_text(str(os.getpid()))
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(0.05)
            return x

    return Bowl()


@pytest.mark.parametrize("name", ["p.npz", "p.csv"])
def test_a_worker_that_is_killed_is_replaced(cluster, name, tmp_path):
    x = np.random.default_rng(0).uniform(-1, 1, (205, DIM))
    save(tmp_path / name, x)
    solver = make_solver(dying_once(tmp_path))
    (tmp_path / "died").touch()
    solve_file(solver, tmp_path / name, tmp_path / "plain.npz", chunk=10)
    (tmp_path / "died").unlink()
    (tmp_path / "log").write_text("")
    reports = []
    summary = solve_file(
        *(solver, tmp_path / name, tmp_path / "a.npz"),
        chunk=10,
        engine=Ray(workers=2),
        progress=lambda done, total: reports.append(done),
    )
    assert_same(answers(tmp_path / "a.npz"), answers(tmp_path / "plain.npz"))
    assert summary.problems == summary.converged == 205
    assert reports == [0, *range(10, 201, 10), 205]
    log = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    processes = {process for process, _ in log}
    assert (tmp_path / "died").read_text() in processes
    assert str(os.getpid()) not in processes
    assert len(processes) == 3  # two, and the replacement


def test_a_run_goes_on_with_another_engine(cluster, tmp_path):
    save(tmp_path / "p.npy", PROBLEMS)

    def stop(done, total):
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        solve_file(make_solver(), tmp_path / "p.npy", tmp_path / "a.npz", chunk=3, progress=stop)
    engine, output = Ray(workers=1), tmp_path / "a.npz"
    assert solve_file(make_solver(), tmp_path / "p.npy", output, chunk=3, resume=True, engine=engine).resumed == 6
    solve_file(make_solver(), tmp_path / "p.npy", tmp_path / "b.npz", chunk=3)
    assert_same(answers(tmp_path / "a.npz"), answers(tmp_path / "b.npz"))
    save(tmp_path / "none.npy", PROBLEMS[:0])
    assert solve_file(make_solver(), tmp_path / "none.npy", tmp_path / "c.npz", engine=engine).problems == 0


def test_errors_of_workers_are_those_of_the_energy(cluster, tmp_path):
    def energy(x, y):
        raise ValueError(f"no energy at {len(x)} problems")

    save(tmp_path / "p.npy", PROBLEMS)
    with pytest.raises(ValueError, match=r"^no energy at 11 problems$"):
        solve_file(make_solver(energy), tmp_path / "p.npy", tmp_path / "a.npz", engine=Ray(workers=1))


def test_the_command_is_killed_and_resumed(cluster, tmp_path, capsys):
    kills.write_case(tmp_path)
    seen = kills.kill_and_resume(tmp_path, 1, "--engine", "ray", "--address", cluster)
    kills.check_answers(tmp_path)
    assert 0 < seen[0] < kills.ROWS
    for arguments, words in (
        (["--engine", "spark"], "--engine is plain or ray"),
        (["--workers", "2"], "--workers goes with --engine ray"),
    ):
        with pytest.raises(SystemExit):
            cli.main(kills.command(tmp_path, "b.npz", *arguments)[3:])
        assert words in capsys.readouterr().err


def test_datasets_keep_their_columns(cluster):
    class Mine(Energy):
        def evaluate(self, context, y):
            return ((y["a"] - context) ** 2).sum(-1) + (y["b"] ** 2).sum(-1)

    def init(x, layout, generator):
        return {"a": torch.rand(x.shape, generator=generator), "b": torch.ones(len(x))[:, None]}

    solver = EnergySolver(Mine(), init=init, halting=GradientNorm(1e-4))
    dataset = ray.data.from_items([{"key": f"k{i}", "x": row} for i, row in enumerate(PROBLEMS)], override_num_blocks=3)
    solved = solve_dataset(solver, dataset, chunk=4, workers=1)
    found = solved.to_pandas()
    assert list(found) == ["key", "x", "y.a", "y.b", "energy", "steps", "status"]
    assert found["key"].tolist() == [f"k{i}" for i in range(11)]
    np.testing.assert_allclose(np.stack(found["y.a"]), PROBLEMS, atol=1e-4)
    assert (found["status"] == 0).all()
    with pytest.raises(ValueError, match="has no column 'z'; its columns are key, x"):
        solve_rows(solver, pa.table({"key": [1], "x": [[0.0] * DIM]}), Columns(["z"]), 0)
    with pytest.raises(ValueError, match=r"column 'steps', the name of a column of answers"):
        solve_rows(solver, pa.table({"steps": [1], "x": [[0.0] * DIM]}), Columns(), 0)


def energy_of_edges(x, y):
    """Each edge's answer is the mean over the degree of its source; the degree counts within its own graph."""
    degree = torch.zeros(x.num_nodes).index_add(0, x.edge_index[0], torch.ones(x.num_edges))
    error = (y - x.edge_attr / degree[x.edge_index[0], None]) ** 2
    return torch.zeros(x.num_graphs).index_add(0, x.batch[x.edge_index[0]], error.sum(1))


def test_datasets_of_graphs(cluster, tmp_path):
    graphs = [nx.gnp_random_graph(3 + i, 0.6, seed=i, directed=True) for i in range(7)]
    rows, expected = [], []
    for number, graph in enumerate(graphs):
        edges = np.array(graph.edges).reshape(-1, 2).T
        values = np.arange(edges.shape[1]) + 1.0
        rows.append({"key": number, "edge_index": edges.tolist(), "edge_attr": values.tolist(), "nodes": len(graph)})
        expected.append(values / np.bincount(edges[0], minlength=len(graph))[edges[0]])
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "graphs.parquet")
    solver = EnergySolver(energy_of_edges, init=Uniform((1,)), halting=GradientNorm(1e-5))
    dataset = ray.data.read_parquet(str(tmp_path / "graphs.parquet"))
    found = solve_dataset(solver, dataset, problem=Graphs(num_nodes="nodes"), chunk=3, workers=1).to_pandas()
    assert found["key"].tolist() == list(range(7))
    assert (found["status"] == 0).all()
    for y, wanted in zip(found["y"], expected, strict=True):
        np.testing.assert_allclose(np.stack(y)[:, 0] if len(wanted) else [], wanted, atol=1e-4)


def test_without_ray_it_says_what_to_install(tmp_path):
    code = "import sys; sys.modules['ray'] = None; from energysolve import cli; cli.main(sys.argv[1:])"
    save(tmp_path / "p.npz", np.zeros((2, 800)))
    arguments = ["solve", "addition", "--input", "p.npz", "--output", "a.npz", "--engine", "ray"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(cli.__file__).parents[1]), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "--engine ray needs Ray: pip install 'energysolve[ray]'" in done.stderr


@pytest.mark.parametrize("path", ON_RAY)
def test_the_example_in_the_docstring_runs(path, cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_example(path, public_names()[path])
