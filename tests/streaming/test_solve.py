"""Files of problems solved a chunk at a time: the answers, and the memory that it takes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from file_solving import DIM, PROBLEMS, answers, assert_same, make_solver, save

from energysolve import MLPEnergy, Status, Uniform, Zeros
from energysolve.recorders import Recorder
from energysolve.streaming.solve import Summary, solve_file


@pytest.fixture
def problems(tmp_path):
    return save(tmp_path / "problems.npz", PROBLEMS)


class Unwanted(Recorder):
    """A recorder that must not be asked: nobody reads what it keeps."""

    def init(self, free, energy, layout):
        raise AssertionError


@pytest.mark.parametrize("name", ["p.npz", "p.zip.npz", "p.npy", "p.csv"])
@pytest.mark.parametrize("chunk", [1, 4, 11, 1000])
def test_answers_are_those_of_minimize(name, chunk, tmp_path):
    solver = make_solver(init=Zeros((DIM,)))
    path = save(tmp_path / name, PROBLEMS)
    summary = solve_file(solver.replace(recorder=Unwanted()), str(path), tmp_path / "new" / "a.npz", chunk=chunk)
    expected = solver.minimize(torch.tensor(PROBLEMS, dtype=torch.float32))
    found = answers(tmp_path / "new" / "a.npz")
    assert list(found) == ["y", "energy", "steps", "status"]
    for field, array in found.items():
        wanted = getattr(expected, field).numpy()
        assert array.dtype == wanted.dtype
        np.testing.assert_allclose(array, wanted, rtol=1e-6, err_msg=field)
    assert summary == Summary(11, 11, 0, 0, resumed=0, seconds=summary.seconds)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.npz"]


@pytest.mark.parametrize(("dtype", "kept"), [(torch.float64, "f8"), (torch.float32, "f4"), (torch.bfloat16, "f4")])
def test_problems_take_the_dtype_of_the_energy(dtype, kept, tmp_path):
    torch.manual_seed(0)
    energy = MLPEnergy(DIM, 2, width=4).to(dtype)
    for name, x in (("a.npy", np.arange(8, dtype=np.int16).reshape(2, 4)), ("b.npy", np.arange(8.0).reshape(2, 4))):
        save(tmp_path / name, x)
        solve_file(make_solver(energy, init=Uniform((2,))), tmp_path / name, tmp_path / f"{name}.npz")
    assert answers(tmp_path / "a.npy.npz")["y"].dtype == kept
    assert_same(answers(tmp_path / "a.npy.npz"), answers(tmp_path / "b.npy.npz"))


@pytest.mark.parametrize("name", ["p.npz", "p.csv", "header.csv", "nothing.csv"])
def test_no_problems_give_no_answers(name, tmp_path):
    save(tmp_path / name, np.zeros((0, DIM)))
    if name == "header.csv":
        (tmp_path / name).write_text("a,b,c,d\n")
    assert solve_file(make_solver(), tmp_path / name, tmp_path / "a.npz").problems == 0
    found = answers(tmp_path / "a.npz")
    assert {key: array.shape for key, array in found.items()} == {
        "y": (0, DIM), "energy": (0,), "steps": (0,), "status": (0,),
    }  # fmt: skip
    assert found["status"].dtype == np.int64
    solve_file(make_solver(), tmp_path / name, tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == "y0,y1,y2,y3,energy,steps,status\n"


def test_the_shape_of_no_problems_is_checked_where_there_is_one(tmp_path):
    solver = make_solver(MLPEnergy(DIM, 2, width=4), init=Uniform((2,)))
    assert solve_file(solver, save(tmp_path / "p.csv", np.zeros((0, 3))), tmp_path / "a.npz").problems == 0
    with pytest.raises(ValueError, match="takes 4"):
        solve_file(solver, save(tmp_path / "p.npz", np.zeros((0, 3))), tmp_path / "b.npz")


@pytest.mark.parametrize("name", ["p.npz", "p.csv"])
def test_problems_that_are_not_finite_are_counted_and_harm_no_other(name, tmp_path):
    solver = make_solver(init=Zeros((DIM,)))
    x = PROBLEMS.copy()
    x[2, 1], x[5, 0], x[7, 3] = np.nan, -np.inf, 1e300  # the last is too large for float32
    summary = solve_file(solver, save(tmp_path / name, x), tmp_path / "a.npz", chunk=4)
    clean = solver.minimize(torch.tensor(PROBLEMS, dtype=torch.float32))
    found = answers(tmp_path / "a.npz")
    assert np.flatnonzero(found["status"] == Status.NONFINITE).tolist() == [2, 5, 7]
    assert (summary.nonfinite, summary.converged) == (3, 8)
    kept = found["status"] == Status.CONVERGED
    np.testing.assert_allclose(found["y"][kept], clean.y.numpy()[kept], rtol=1e-6)
    counted = solve_file(make_solver(max_steps=1), tmp_path / name, tmp_path / "b.npz")
    assert (counted.converged, counted.max_steps, counted.nonfinite) == (0, 8, 3)


def test_tables_of_answers_read_back_exactly(problems, tmp_path):
    with np.load(problems) as archive:
        x = archive["x"].copy()
    x[3] = np.nan
    save(problems, x)
    for name in ("a.npz", "a.csv"):
        solve_file(make_solver(), problems, tmp_path / name, chunk=4)
    expected = answers(tmp_path / "a.npz")
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert lines[0] == "y0,y1,y2,y3,energy,steps,status"
    rows = [line.split(",") for line in lines[1:]]
    found = {
        "y": np.array([row[:DIM] for row in rows], dtype=np.float32),
        "energy": np.array([row[DIM] for row in rows], dtype=np.float32),
        "steps": np.array([row[DIM + 1] for row in rows], dtype=np.int64),
        "status": np.array([row[DIM + 2] for row in rows], dtype=np.int64),
    }
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


def test_answers_with_several_axes(tmp_path):
    path = save(tmp_path / "p.npy", PROBLEMS.reshape(11, 2, 2))
    solver = make_solver(lambda x, y: ((y - x) ** 2).sum((1, 2)), init=Uniform((2, 2)))
    solve_file(solver, path, tmp_path / "a.npz", chunk=3)
    solve_file(solver, path, tmp_path / "a.csv", chunk=3)
    y = answers(tmp_path / "a.npz")["y"]
    assert y.shape == (11, 2, 2)
    table = np.loadtxt(tmp_path / "a.csv", delimiter=",", skiprows=1, dtype=np.float32)
    np.testing.assert_array_equal(table[:, :4], y.reshape(11, 4))


def test_initial_answers_depend_on_seed_and_place(problems, tmp_path):
    def initial(name, **options):
        solve_file(make_solver(max_steps=0), problems, tmp_path / f"{name}.npz", **options)
        return answers(tmp_path / f"{name}.npz")["y"]

    first = initial("a", chunk=4)
    assert len(np.unique(first)) == first.size
    np.testing.assert_array_equal(initial("b", chunk=4, seed=0), first)
    assert not np.isin(initial("c", chunk=4, seed=1), first).any()


def test_answers_that_are_no_rows_are_refused(problems, tmp_path):
    solver = make_solver(lambda x, y: ((y["a"] - x) ** 2).sum(-1), init=lambda x, layout, generator: {"a": x * 0})
    with pytest.raises(ValueError, match="one tensor with one row per problem"):
        solve_file(solver, problems, tmp_path / "a.npz")
    # A run that fails at once leaves nothing to be resumed or overwritten.
    assert solve_file(make_solver(), problems, tmp_path / "a.npz").resumed == 0


PEAK = """
import sys
import numpy as np, torch
from pathlib import Path
from energysolve import EnergySolver, SGD, Uniform, Never
from energysolve.streaming.solve import solve_file

solver = EnergySolver(lambda x, y: ((y - x) ** 2).sum(-1), SGD(0.1), init=Uniform((400,)), halting=Never(), max_steps=1)

def peak(rows):
    np.save(f"{rows}.npy", np.zeros((1, 400)))
    with open(f"{rows}.npy", "wb") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": (rows, 400)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + rows * 3200)  # zeros that were never in memory
    solve_file(solver, f"{rows}.npy", f"answers{rows}.npz", chunk=500)
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1])

few = peak(1_000)
print(peak(20_000) - few)
"""


def test_solving_takes_the_memory_of_a_chunk(tmp_path):
    if not Path("/proc/self/status").exists():
        pytest.skip("the highest memory of a process is read from /proc")
    done = subprocess.run([sys.executable, "-c", PEAK], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 16_000  # kB, for 64 MB of problems and 32 MB of answers
    assert answers(tmp_path / "answers20000.npz")["y"].shape == (20_000, 400)
