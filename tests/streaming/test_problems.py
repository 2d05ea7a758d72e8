"""Files of problems: what is read, what is refused, and in how much memory."""

import hashlib
import io
import math
import os
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest
from file_solving import DIM, PROBLEMS, RANDOM, make_solver, save
from hypothesis import given
from hypothesis import strategies as st

from energysolve import MLPEnergy, Uniform
from energysolve.streaming import tables
from energysolve.streaming.problems import open_problems
from energysolve.streaming.solve import solve_file


@given(
    rows=st.integers(0, 9),
    shape=st.sampled_from([(1,), (3,), (2, 2)]),
    kind=st.sampled_from(["<f8", ">f8", "<f4", ">f4", "<f2", "|i1", "<i8", ">u2"]),
    name=st.sampled_from(["p.npz", "p.zip.npz", "p.npy", "p.csv"]),
    start=st.integers(0, 9),
    size=st.integers(1, 10),
)
def test_blocks_are_the_rows(tmp_path_factory, rows, shape, kind, name, start, size):
    x = RANDOM.integers(0, 100, (rows, *shape)).astype(kind)
    if name == "p.csv":
        x = x.reshape(rows, math.prod(shape))
    options = {"header": False, "index": False} if name == "p.csv" else {}  # numbers may count by chance
    opened = open_problems(save(tmp_path_factory.mktemp("p") / name, x), **options)
    assert opened.rows == rows
    assert opened.row_shape == x.shape[1:] or (rows == 0 and name == "p.csv")
    start = min(start, rows)
    blocks = list(opened.blocks(start, size))
    assert [len(block) for block in blocks[:-1]] == [size] * (len(blocks) - 1)
    assert len(blocks) == max(-(-(rows - start) // size), rows == 0)
    expected = x[start:].reshape(rows - start, *opened.row_shape)
    np.testing.assert_array_equal(np.concatenate([expected[:0], *blocks]), expected)


def test_the_array_may_have_any_name_if_it_is_alone(tmp_path):
    save(tmp_path / "p.npz", PROBLEMS, name="observed")
    assert open_problems(tmp_path / "p.npz").rows == 11
    np.savez(tmp_path / "two.npz", x=PROBLEMS, target=np.zeros(3))
    assert open_problems(tmp_path / "two.npz").row_shape == (DIM,)


@pytest.mark.parametrize(
    "text",
    [
        "1,2\n3,4\n",
        "a,b\n1,2\n3,4",
        "\ufeff1,2\n3,4",
        "a,b\r\n\r\n1.0, 2e0\r\n 3,4 \r\n\r\n",
        ' "a" ,b\n\n+1,2.\n3,4\n',
    ],
)
def test_tables_have_headers_and_blank_lines_or_not(text, tmp_path):
    (tmp_path / "p.csv").write_text(text, encoding="utf-8", newline="")
    opened = open_problems(tmp_path / "p.csv")
    assert (opened.rows, opened.row_shape) == (2, (2,))
    np.testing.assert_array_equal(np.concatenate(list(opened.blocks(0, 1))), [[1, 2], [3, 4]])


@pytest.mark.parametrize("name", ["p.npz", "p.zip.npz", "p.npy", "p.csv"])
def test_reading_takes_the_memory_of_a_chunk(name, tmp_path):
    def peak(rows):
        opened = open_problems(save(tmp_path / name, np.arange(rows * 50.0).reshape(rows, 50)))
        tracemalloc.start()
        firsts = [block[0, 0] for block in open_problems(opened.path).blocks(rows // 2, 100)]
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert firsts == [row * 50 for row in range(rows // 2, rows, 100)]
        return most

    few, many = peak(1_000), peak(8_000 if name == "p.csv" else 32_000)  # 3.2 and 12.8 MB
    assert many < few + 1_000_000


class Trap:
    """Pickled, it would call a function when it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("unpickled",)


def npz(**members):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "."), data)
    return content.getvalue()


def npy(x):
    content = io.BytesIO()
    np.save(content, x)
    return content.getvalue()


def altered(content, at):
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


def claiming(shape):
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return content.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.txt", b"1,2", r"read from \.npz, .*\.parquet, .* files; got"),
        ("p.npy", npy(np.array([[Trap()] * 4] * 2)), "never unpickled"),
        ("p.npz", npz(x__npy=npy(np.array([[Trap()] * 4]))), "never unpickled"),
        ("p.npz", pickle.dumps(np.ones((2, 4))), "no .npz file"),
        ("p.npy", pickle.dumps(np.ones((2, 4))), "numpy.save"),
        ("p.npy", npy(np.ones(4)), r"shape \(4,\)"),
        ("p.npy", npy(np.float64(4)), r"shape \(\)"),
        ("p.npy", npy(np.ones((2, 4)) > 0), "type bool"),
        ("p.npy", npy(np.ones((2, 4)) * 1j), "type complex128"),
        ("p.npy", npy(np.array([["a"] * 4])), "type <U1"),
        ("p.npy", npy(np.zeros((2, 4), dtype=[("a", "f8")])), "real numbers"),
        ("p.npy", b"\x93NUMPY\x03" + npy(np.ones((2, 4)))[7:], "numpy.save"),
        ("p.npy", npy(np.ones((2, 4)))[:-1], "truncated"),
        ("p.npy", npy(np.ones((2, 4))) + b"1", "holds more than"),
        ("p.npy", npy(np.ones((2, 4)))[:20], "numpy.save"),
        ("p.npy", b"", "is empty"),
        ("p.npy", claiming((10**12, 4)), "truncated"),
        ("p.npz", npz(x__npy=claiming((10**12, 4))), "truncated"),
        ("p.npz", npz(a__npy=npy(np.ones((2, 4))), b__npy=npy(np.ones((2, 4)))), "the arrays a, b; name .* x"),
        ("p.npz", npz(a__txt=b""), "no array"),
        ("p.npz", npz(x__npy=npy(np.ones((2, 4))))[:-30], "no .npz file"),
        ("p.npz", b"", "is empty"),
        ("p.npz", altered(npz(x__npy=npy(RANDOM.random((99, 4)))), 900), "damaged"),
        ("p.npy", npy(np.ones((2, 5))), r"5 numbers .*takes 4: .*\(problems, 4\)"),
        ("p.csv", b"1,2,3\n", "3 numbers"),
        ("p.csv", b"a,b,c,d\n1,2,3,4\n\n1,2,3\n", "line 4: 3 entries, where the first line has 4"),
        ("p.csv", b"1,2,3,4\n1,2,x,4\n", "line 2: 'x' is not a number"),
        ("p.csv", b"1,2,3,\n", "line 1: '' is not a number"),
        ("p.csv", b"1,2,3,four\n1,2,3,4", "line 1: 'four' is not a number"),
        ("p.csv", b"1;2;3;4\n5;6;7;8\n", "separated by semicolons"),
        ("p.csv", b"1\t2\t3\t4\n5\t6\t7\t8\n", r"separated by tabs\? Use commas"),
        ("p.csv", b"1 2 3 4\n5 6 7 8\n", r"separated by spaces\? Use commas"),
        ("p.csv", "1,2,3,4\n".encode("utf-16"), "UTF-8"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else value[:24],
)
def test_inputs_that_are_refused(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    solver = make_solver(MLPEnergy(DIM, 2, width=4), init=Uniform((2,)), max_steps=1)
    with pytest.raises(ValueError, match=message) as caught:
        solve_file(solver, tmp_path / name, tmp_path / "a.npz", chunk=1)
    assert str(tmp_path / name) in str(caught.value)
    assert not (tmp_path / "a.npz").exists()


def test_a_missing_input(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        solve_file(make_solver(), tmp_path / "p.npz", tmp_path / "a.npz")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["p.npz", "p.npy", "p.csv"])
def test_a_file_that_changed_since_it_was_opened_is_refused(name, tmp_path):
    opened = open_problems(save(tmp_path / name, PROBLEMS))
    save(tmp_path / name, PROBLEMS[:5])
    with pytest.raises(ValueError, match="has changed since it was opened"):
        list(opened.blocks(0, 4))


@pytest.mark.parametrize("changed", ["1,2\n3,4\n\n\n\n", "1,2\n3,4\n5,x\n", "1,2\n3,4\n555\n"])
def test_a_table_that_changes_unseen_is_noticed_when_it_is_read(changed, tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("1,2\n3,4\n5,6\n")
    opened, time = open_problems(path), path.stat().st_mtime_ns
    path.write_text(changed[:12])
    os.utime(path, ns=(time, time))
    with pytest.raises(ValueError, match="has changed since it was opened"):
        list(opened.blocks(0, 1))


ENDS = st.sampled_from(["\n", "\r\n", "\r", "\n\n", "\r\n \r\n"])


@given(st.lists(ENDS, min_size=1, max_size=40), st.booleans(), st.booleans(), st.integers(1, 5), st.data())
def test_a_table_is_read_from_any_row(tmp_path_factory, ends, mark, header, marks, data):
    path = tmp_path_factory.mktemp("p") / "p.csv"
    lines = (["a"] if header else []) + [str(row) for row in range(len(ends) - header)]
    content = "\ufeff" * mark + "".join(line + end for line, end in zip(lines, ends, strict=True))
    path.write_bytes(content.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "_MARKS", marks)
        opened = open_problems(path, header=header)
    assert opened.rows == len(ends) - header
    assert opened.digest() == hashlib.sha256(path.read_bytes()).hexdigest()
    start = data.draw(st.integers(0, opened.rows))
    found = [row for block in opened.blocks(start, 3) for row in block[:, 0]]
    assert found == list(range(start, opened.rows))


@pytest.mark.parametrize("given_open", [True, False])
def test_a_table_is_opened_and_parsed_twice(given_open, tmp_path, monkeypatch):
    """Once to check it before anything is solved, and once to solve it; resuming parses only what is left."""
    path, output = save(tmp_path / "p.csv", RANDOM.random((300, DIM))), tmp_path / "a.npz"
    opens, parsed = [], []

    def opening(file, *arguments, **options):
        if file == path:
            opens.append(file)
        return plain(file, *arguments, **options)

    def number(text):
        parsed.append(text)
        return float(text)

    plain = open
    monkeypatch.setattr("builtins.open", opening)
    monkeypatch.setattr("io.open", opening)
    monkeypatch.setattr(tables, "float", number, raising=False)

    def solve(**options):
        opens.clear(), parsed.clear()
        opened = open_problems(path) if given_open else path
        assert not given_open or opened.row_shape == (DIM,)
        return solve_file(make_solver(max_steps=1), opened, output, chunk=50, **options)

    solve()
    assert len(opens) == 2
    assert 2 * 300 * DIM <= len(parsed) <= 2 * 300 * DIM + DIM  # and the first line, which might be a header

    def stop(done, total):
        if done == 250:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        solve(overwrite=True, progress=stop)
    assert solve(resume=True).resumed == 250
    assert len(opens) == 2
    assert len(parsed) <= (300 + 50) * DIM + DIM


@pytest.mark.parametrize("name", ["p.npz", "p.csv"])
def test_an_opened_file_is_solved_like_its_path(name, tmp_path):
    path = save(tmp_path / name, PROBLEMS)
    solve_file(make_solver(), path, tmp_path / "a.npz", chunk=4)
    solve_file(make_solver(), open_problems(str(path)), tmp_path / "b.npz", chunk=4)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with pytest.raises(ValueError, match="is the input"):
        solve_file(make_solver(), open_problems(path), path, overwrite=True)


@pytest.mark.parametrize("kind", ["<f8", ">f4", "<i2"])
@pytest.mark.parametrize("name", ["p.npz", "p.zip.npz", "p.npy"])
def test_arrays_in_fortran_order_are_read(name, kind, tmp_path):
    """As pandas.DataFrame.to_numpy returns them."""
    x = np.asfortranarray(RANDOM.integers(0, 100, (7, 2, 3)).astype(kind))
    opened = open_problems(save(tmp_path / name, x))
    for start, size in ((0, 3), (2, 10), (7, 1)):
        blocks = list(opened.blocks(start, size))
        assert all(block.flags.c_contiguous for block in blocks)
        np.testing.assert_array_equal(np.concatenate(blocks) if blocks else x[7:], x[start:])
    solve_file(make_solver(), save(tmp_path / f"f{name}", np.asfortranarray(PROBLEMS)), tmp_path / "a.npz", chunk=4)
    solve_file(make_solver(), save(tmp_path / f"c{name}", PROBLEMS), tmp_path / "b.npz", chunk=4)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_an_array_in_fortran_order_without_problems(tmp_path):
    opened = open_problems(save(tmp_path / "p.npy", np.zeros((3, 0)).T))
    assert [block.shape for block in opened.blocks(0, 4)] == [(0, 3)]


AMBIGUOUS_HEADER = r"first line is .*header=True \(--header\).*header=False \(--no-header\)"
AMBIGUOUS_INDEX = r"to_csv\(index=False\).*index=True \(--index\).*index=False \(--no-index\)"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0,1,2\n0.5,1.5,2.5\n", AMBIGUOUS_HEADER),  # pandas.DataFrame(x).to_csv(index=False)
        ('"0","1"\n5,6\n', AMBIGUOUS_HEADER),
        ("0\n5\n", AMBIGUOUS_HEADER),
        ("2019,2020,2021\n1.0,2.0,3.0\n", AMBIGUOUS_HEADER),
        (",0,1\n0,3.5,4.5\n1,1.5,2.5\n", AMBIGUOUS_INDEX),  # pandas.DataFrame(x).to_csv()
        (",a,b\n0,3.5,4.5\n1,1.5,2.5\n", AMBIGUOUS_INDEX),
        ("Unnamed: 0,a\n0,3.5\n", AMBIGUOUS_INDEX),
        ("index,a\nx,3.5\n", AMBIGUOUS_INDEX),
        ("a,b\n0,3.5\n1,1.5\n2,2.5\n", r"first column is 0, 1, ..., 2\. .*" + AMBIGUOUS_INDEX),
        ("0,3.5\n1,1.5\n2,2.5\n3,9\n", r"first column is 0, 1, ..., 3\. .*" + AMBIGUOUS_INDEX),
    ],
)
def test_tables_that_may_be_read_in_two_ways_are_refused(text, words, tmp_path):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(ValueError, match=words):
        open_problems(tmp_path / "p.csv")


@pytest.mark.parametrize(
    ("text", "options", "expected", "names"),
    [
        ("0,1,2\n3,4,5\n", {"header": True}, [[3, 4, 5]], ["0", "1", "2"]),
        ("0,1,2\n3,4,5\n", {"header": False}, [[0, 1, 2], [3, 4, 5]], None),
        ("7,8\n3,4\n", {"header": True}, [[3, 4]], ["7", "8"]),
        (",0,1\n0,3,4\n1,5,6\n", {"index": True, "header": True}, [[3, 4], [5, 6]], ["", "0", "1"]),
        (",a,b\nx,3,4\ny,5,6\n", {"index": True}, [[3, 4], [5, 6]], ["", "a", "b"]),
        ("0,3\n1,5\n2,7\n", {"index": False}, [[0, 3], [1, 5], [2, 7]], None),
        ("0,3\n1,5\n2,7\n", {"index": True, "header": False}, [[3], [5], [7]], None),
        ("a,b\n1,2\n3,4\n", {}, [[1, 2], [3, 4]], ["a", "b"]),
        ("1,2\n3,4\n", {}, [[1, 2], [3, 4]], None),
        ('1,,NA\n nan ,"",4\n', {"missing": True}, [[1, np.nan, np.nan], [np.nan, np.nan, 4]], None),
        (",3,4\n1,,2\n", {"missing": True}, [[np.nan, 3, 4], [1, np.nan, 2]], None),
        ("a,b\n,NA\n", {"missing": True}, [[np.nan, np.nan]], ["a", "b"]),
    ],
)
def test_how_the_first_line_and_column_are_taken(text, options, expected, names, tmp_path):
    (tmp_path / "p.csv").write_text(text)
    opened = open_problems(tmp_path / "p.csv", **options)
    assert opened.names == names
    assert (opened.rows, opened.row_shape) == (len(expected), np.shape(expected)[1:])
    np.testing.assert_array_equal(np.concatenate(list(opened.blocks(0, 1))), expected)
    if options.get("index") and names:
        assert opened.labels() == [line.split(",")[0] for line in text.splitlines()[1:]]


def test_options_of_tables_are_not_for_arrays(tmp_path):
    with pytest.raises(ValueError, match="header and index are for tables"):
        open_problems(save(tmp_path / "p.npy", PROBLEMS), header=True)
