"""Parquet and Arrow files: problems in columns, and answers beside the columns that came in."""

import csv
import datetime
import decimal
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from file_solving import DIM, PROBLEMS, answers, make_solver, save
from hypothesis import given
from hypothesis import strategies as st

from energysolve import Status, Zeros
from energysolve.streaming.problems import open_problems
from energysolve.streaming.solve import solve_file

pa = pytest.importorskip("pyarrow", reason="Parquet and Arrow files need pyarrow")
feather = pytest.importorskip("pyarrow.feather")
parquet = pytest.importorskip("pyarrow.parquet")


def write(path, table, group=4):
    """A table in the kind of file that the suffix names, ``group`` rows at a time."""
    if path.suffix == ".parquet":
        parquet.write_table(table, path, row_group_size=group)
    else:
        feather.write_feather(table, str(path), chunksize=group, compression="lz4" if group % 2 else "uncompressed")
    return path


def column(x, kind):
    """The rows of an array as one column of lists."""
    if kind == "tensor":
        return pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(x))
    entry = pa.from_numpy_dtype(x.dtype)
    for size in reversed(x.shape[1:]):
        entry = pa.list_(entry, size) if kind == "fixed" else pa.list_(entry)
    return pa.array(x.tolist(), entry)


@given(
    rows=st.integers(0, 9),
    shape=st.sampled_from([(1,), (3,), (2, 2)]),
    kind=st.sampled_from(["lists", "fixed", "tensor", "columns"]),
    dtype=st.sampled_from(["f8", "f4", "i8", "u2"]),
    suffix=st.sampled_from([".parquet", ".arrow"]),
    group=st.integers(1, 5),
    start=st.integers(0, 9),
    size=st.integers(1, 10),
)
def test_blocks_are_the_rows(tmp_path_factory, rows, shape, kind, dtype, suffix, group, start, size):
    x = np.random.default_rng(rows).integers(0, 100, (rows, *shape)).astype(dtype)
    if kind == "columns":
        x = x.reshape(rows, int(np.prod(shape)))
        table = pa.table({f"a{i}": x[:, i] for i in range(x.shape[1])} | {"name": list(map(str, range(rows)))})
    elif kind == "tensor" and not rows:
        return  # pyarrow makes none
    else:
        table = pa.table({"id": np.arange(rows), "x": column(x, kind)})
    opened = open_problems(write(tmp_path_factory.mktemp("p") / f"p{suffix}", table, group))
    assert opened.rows == rows
    assert opened.row_shape == x.shape[1:] or (rows == 0 and kind == "lists")
    start = min(start, rows)
    blocks = list(opened.blocks(start, size))
    assert [len(block) for block in blocks[:-1]] == [size] * (len(blocks) - 1)
    np.testing.assert_array_equal(np.concatenate([x[:0], *blocks]) if rows else x, x[start:] if rows else x)
    [name] = opened.kept
    kept = [entry for block in opened.kept_blocks(size) for entry in block[name].to_pylist()]
    assert list(map(str, kept)) == list(map(str, range(rows)))


KEYS = {
    "id": pa.array(range(100, 111)),
    "name": pa.array([f'o"n,e {i}' for i in range(11)]),
    "day": pa.array([datetime.date(2020, 1, 1 + i) for i in range(11)]),
    "none": pa.array([None, *range(10)]),
}


@pytest.mark.parametrize("given", ["p.parquet", "p.arrow"])
@pytest.mark.parametrize("output", ["a.parquet", "a.arrow", "a.csv"])
def test_keys_stay_with_their_rows(given, output, tmp_path):
    table = pa.table({**KEYS, "x": column(PROBLEMS, "lists")})
    summary = solve_file(make_solver(), write(tmp_path / given, table), tmp_path / output, chunk=3)
    solve_file(make_solver(), save(tmp_path / "p.npz", PROBLEMS), tmp_path / "a.npz", chunk=3)
    assert summary.converged == 11
    expected = answers(tmp_path / "a.npz")
    if output == "a.csv":
        with open(tmp_path / output, newline="") as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == [*KEYS, "y0", "y1", "y2", "y3", "energy", "steps", "status"]
        found = {key: [row[key] for row in rows] for key in KEYS}
        assert found["day"][3] == "2020-01-04"
        assert found["none"][:2] == ["", "0"]
        assert found["name"] == KEYS["name"].to_pylist()
        y = np.array([[row[f"y{i}"] for i in range(DIM)] for row in rows], np.float32)
    else:
        read = parquet.read_table if output == "a.parquet" else feather.read_table
        found = read(tmp_path / output)
        assert found.column_names == [*KEYS, "y", "energy", "steps", "status"]
        for name, values in KEYS.items():
            assert found[name].combine_chunks().equals(values)
        assert found.schema.field("y").type == pa.list_(pa.float32(), DIM)
        y = np.array(found["y"].to_pylist(), np.float32)
        for name in ("energy", "steps", "status"):
            np.testing.assert_array_equal(found[name].to_numpy(), expected[name])
    np.testing.assert_array_equal(y, expected["y"])


def test_columns_of_a_csv_are_kept(tmp_path):
    rows = [f'"Smith, {i}",{",".join(map(repr, row))}, k{i}' for i, row in enumerate(PROBLEMS.tolist())]
    (tmp_path / "p.csv").write_text("\n".join(["who,a,b,c,d,key", *rows]))
    opened = open_problems(tmp_path / "p.csv", keep=["key", "who"])
    assert (opened.rows, opened.row_shape) == (11, (4,))
    np.testing.assert_array_equal(np.concatenate(list(opened.blocks(2, 4))), PROBLEMS[2:])
    for name in ("a.csv", "a.parquet"):
        solve_file(make_solver(), opened, tmp_path / name, chunk=3)
    assert (tmp_path / "a.csv").read_text().splitlines()[3].startswith('k2,"Smith, 2",')
    found = parquet.read_table(tmp_path / "a.parquet")
    assert found["who"].to_pylist() == [f"Smith, {i}" for i in range(11)]
    with pytest.raises(ValueError, match="file of arrays"):
        solve_file(make_solver(), opened, tmp_path / "a.npz")
    with pytest.raises(ValueError, match="no column 'no'; its columns are who, a, b"):
        open_problems(tmp_path / "p.csv", keep=["key", "no"])
    with pytest.raises(ValueError, match="line 2: 'Smith, 0' is not a number"):
        open_problems(tmp_path / "p.csv", keep=["key"])


def test_answers_to_matrices_are_lists_of_lists(tmp_path):
    x = PROBLEMS.reshape(11, 2, 2)
    solver = make_solver(lambda x, y: ((y - x) ** 2).sum((1, 2)), init=Zeros((2, 2)))
    solve_file(solver, write(tmp_path / "p.parquet", pa.table({"x": column(x, "tensor")})), tmp_path / "a.parquet")
    found = parquet.read_table(tmp_path / "a.parquet")["y"].to_pylist()
    expected = solver.minimize(torch.tensor(x, dtype=torch.float32)).y
    np.testing.assert_allclose(np.array(found), expected.numpy(), rtol=1e-6)


def test_nulls_are_nan_and_keep_their_rows(tmp_path):
    rows = PROBLEMS.tolist()
    rows[2], rows[5] = None, [None, 0.0, 0.0, 0.0]
    for kind in (pa.list_(pa.float64()), pa.list_(pa.float64(), DIM)):
        path = write(tmp_path / "p.parquet", pa.table({"id": range(11), "x": pa.array(rows, kind)}))
        assert solve_file(make_solver(), path, tmp_path / "a.parquet", overwrite=True).nonfinite == 2
        found = parquet.read_table(tmp_path / "a.parquet")
        assert np.flatnonzero(found["status"].to_numpy() == Status.NONFINITE).tolist() == [2, 5]
    path = write(tmp_path / "q.parquet", pa.table({"a": [1, None], "b": [decimal.Decimal("0.5"), None]}))
    with pytest.raises(ValueError, match=r"whole numbers in 'a'.*--keep a.*--columns"):
        open_problems(path)
    [block] = open_problems(path, columns=["a", "b"]).blocks(0, 9)
    np.testing.assert_array_equal(block, [[1, 0.5], [np.nan, np.nan]])


def test_a_folder_of_files_is_read_in_the_order_of_their_names(tmp_path):
    for number, rows in ((2, PROBLEMS[8:]), (0, PROBLEMS[:3]), (1, PROBLEMS[3:8])):
        write(tmp_path / f"part-{number}.parquet", pa.table({"x": column(rows, "fixed")}), group=2)
    opened = open_problems(tmp_path)
    assert (opened.rows, opened.row_shape) == (11, (DIM,))
    np.testing.assert_array_equal(np.concatenate(list(opened.blocks(4, 5))), PROBLEMS[4:])
    write(tmp_path / "part-3.parquet", pa.table({"z": [1.0]}))
    with pytest.raises(ValueError, match=r"part-3\.parquet has other columns than"):
        open_problems(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"folder without \.parquet"):
        open_problems(tmp_path / "empty")


@pytest.mark.parametrize("name", ["p.parquet", "p.npz", "p.npy", "p.csv", "p.arrow"])
def test_addresses_are_read_by_pyarrow(name, tmp_path):
    """``file://`` stands for other filesystems."""
    path = tmp_path / name
    table = pa.table({"x": column(PROBLEMS, "lists")})
    path = write(path, table) if name in ("p.parquet", "p.arrow") else save(path, PROBLEMS)
    opened = open_problems(f"file://{path}")
    np.testing.assert_array_equal(np.concatenate(list(opened.blocks(4, 5))), PROBLEMS[4:])
    assert opened.digest() == open_problems(path).digest()
    solve_file(make_solver(), f"file://{path}", tmp_path / "a.npz", chunk=4)
    solve_file(make_solver(), path, tmp_path / "b.npz", chunk=4)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with pytest.raises(FileNotFoundError):
        open_problems(f"file://{tmp_path}/missing.parquet")
    with pytest.raises(ValueError, match="no address of a file"):
        open_problems("nowhere://missing.parquet")


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"x": ["a"]}, {}, "no column of numbers; its columns are x"),
        ({"x": [True]}, {}, "no column of numbers"),
        ({"a": [[1.0]], "b": [[2.0]]}, {}, r"columns of lists a, b\. .*--columns a"),
        ({"a": [[1.0]], "b": [2.0]}, {"columns": ["a", "b"]}, "'a' of lists cannot be joined"),
        ({"a": ["1.0"]}, {"columns": ["a"]}, "'a' holds string"),
        ({"x": [1.0]}, {"columns": ["z"]}, "no column 'z'; its columns are x"),
        ({"x": [1.0]}, {"keep": ["z"]}, "no column 'z'"),
        ({"x": [1.0]}, {"header": True}, "header and index"),
        ({"x": [[1.0], [1.0, 2.0]]}, {}, r"from row 0 on: lists of 1 to 2 entries, where the first has 1"),
        ({"x": [[[1.0], None]]}, {}, "a list is missing"),
    ],
)
def test_columns_that_are_refused(columns, options, message, tmp_path):
    path = write(tmp_path / "p.parquet", pa.table(columns))
    with pytest.raises(ValueError, match=message) as caught:
        open_problems(path, **options)
    assert "p.parquet" in str(caught.value)


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_damaged_files_are_refused(suffix, tmp_path):
    path = write(tmp_path / f"p{suffix}", pa.table({"x": column(PROBLEMS, "fixed")}), group=2)
    content = path.read_bytes()
    for damaged in (content[:-5], content[: len(content) // 2], b"PAR1", content[:100] + content[200:], b""):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"p\{suffix} is (damaged|empty)"):
            solve_file(make_solver(), path, tmp_path / "a.npz")
    path.write_bytes(content)
    opened = open_problems(path)
    os.utime(path, ns=(0, 0))
    for read in (opened.blocks(0, 4), opened.kept_blocks(4)):
        with pytest.raises(ValueError, match="has changed since"):
            list(read)


def test_names_of_answers_are_taken(tmp_path):
    path = write(
        tmp_path / "p.parquet", pa.table({"status": range(11), "y1": range(11), "x": column(PROBLEMS, "fixed")})
    )
    with pytest.raises(ValueError, match=r"'status' of .* has the name of a column of answers.*--keep"):
        solve_file(make_solver(), path, tmp_path / "a.parquet")
    opened = open_problems(path, keep=["y1", "x"])
    solve_file(make_solver(), opened, tmp_path / "a.parquet")
    assert parquet.read_table(tmp_path / "a.parquet")["x"].to_pylist() == PROBLEMS.tolist()
    for keep, words in ((["y1"], "'y1' of .* has the name"), (["x"], "'x' of .* is nested")):
        with pytest.raises(ValueError, match=words):
            solve_file(make_solver(), open_problems(path, keep=keep), tmp_path / "a.csv")
    solve_file(make_solver(), path, tmp_path / "a.npz")  # arrays have no columns, and need none: rows keep their order


def test_a_run_with_other_columns_is_not_continued(tmp_path):
    path = write(tmp_path / "p.parquet", pa.table({"a": column(PROBLEMS, "fixed"), "b": column(-PROBLEMS, "fixed")}))

    def stop(done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        solve_file(make_solver(), open_problems(path, columns=["a"]), tmp_path / "a.npz", chunk=4, progress=stop)
    with pytest.raises(ValueError, match=r"reading\.columns"):
        solve_file(make_solver(), open_problems(path, columns=["b"]), tmp_path / "a.npz", chunk=4, resume=True)


PEAK = """
import sys
import numpy as np, pyarrow as pa
from pathlib import Path
from pyarrow import parquet
from energysolve import EnergySolver, SGD, Uniform, Never
from energysolve.streaming.solve import solve_file

solver = EnergySolver(lambda x, y: ((y - x) ** 2).sum(-1), SGD(0.1), init=Uniform((400,)), halting=Never(), max_steps=1)
Path("p.parquet").unlink(missing_ok=True)
rows = int(sys.argv[1])
x = pa.FixedSizeListArray.from_arrays(pa.array(np.random.default_rng(0).random(1000 * 400, np.float32)), 400)
block = pa.table({"id": pa.array(np.arange(1000)), "x": x})
with parquet.ParquetWriter("p.parquet", block.schema) as writer:
    for _ in range(rows // 1000):
        writer.write_table(block)
solve_file(solver, "p.parquet", "a.parquet", chunk=2000, overwrite=True)
[line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
print(line.split()[1])
"""


def test_columns_take_the_memory_of_a_chunk(tmp_path):
    if not Path("/proc/self/status").exists():
        pytest.skip("the highest memory of a process is read from /proc")

    def peak(rows):
        command = [sys.executable, "-c", PEAK, str(rows)]
        return int(subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout)

    few, many = peak(6_000), peak(40_000)  # 10 and 64 MB of problems, and as much of answers
    assert many < few + 32_000  # kB
    found = parquet.read_table(tmp_path / "a.parquet", columns=["id", "steps"])
    assert found["id"].to_pylist() == list(range(1000)) * 40
    assert set(found["steps"].to_pylist()) == {1}


def test_without_pyarrow_it_says_what_to_install(tmp_path):
    path = write(tmp_path / "p.parquet", pa.table({"x": column(PROBLEMS, "fixed")}))
    save(tmp_path / "p.npz", PROBLEMS)
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from energysolve.streaming.solve import solve_file\n"
        "from file_solving import make_solver\n"
        f"for p, a in (({str(path)!r}, 'a.npz'), ({str(tmp_path / 'p.npz')!r}, 'a.parquet')):\n"
        "    try: solve_file(make_solver(), p, a)\n"
        "    except ImportError as error: print(error)\n"
    )
    tests = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([tests, *sys.path])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["Parquet and Arrow files need pyarrow: pip install 'energysolve[parquet]'."] * 2
