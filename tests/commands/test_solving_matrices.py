"""``energysolve solve`` on users' own problems, of any size, with the energies that are shipped."""

import json

import numpy as np
import pytest

from energysolve import cli
from energysolve.tasks import Completion

RNG = np.random.default_rng(0)


def solve(*arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main(["solve", *map(str, arguments)])
    return ended.value.code


def arrays(path):
    with np.load(path) as archive:
        return dict(archive)


@pytest.mark.parametrize("size", [3, 20, 31])
def test_matrices_are_inverted(size, tmp_path):
    roots = RNG.uniform(-1, 1, (4, size, size))
    x = 2 * roots @ roots.transpose(0, 2, 1) + 0.5 * np.eye(size)
    np.savez(tmp_path / "x.npz", x=x)
    assert solve("inverse", "--input", tmp_path / "x.npz", "--output", tmp_path / "y.npz") == 0
    found = arrays(tmp_path / "y.npz")
    assert found["y"].shape == x.shape
    assert (found["status"] == 0).all()
    np.testing.assert_allclose(found["y"], np.linalg.inv(x), atol=1e-3)


def test_a_table_of_matrices(tmp_path):
    x = np.array([[2.0, 0.5, 0.5, 1.0], [1.0, 0.0, 0.0, 4.0]])
    np.savetxt(tmp_path / "x.csv", x, delimiter=",")
    assert solve("inverse", "--input", tmp_path / "x.csv", "--output", tmp_path / "y.csv") == 0
    found = np.loadtxt(tmp_path / "y.csv", delimiter=",", skiprows=1)[:, :4]
    np.testing.assert_allclose(found, np.linalg.inv(x.reshape(2, 2, 2)).reshape(2, 4), atol=1e-3)


def test_a_rectangular_matrix_is_completed(tmp_path):
    import torch

    task = Completion(30, 24, rank=2)
    x, target = task.sample(20, "harder", torch.Generator().manual_seed(0))
    np.savez(tmp_path / "x.npz", x=x.numpy())
    assert solve("completion", "--input", tmp_path / "x.npz", "--output", tmp_path / "y.npz") == 0
    y = torch.from_numpy(arrays(tmp_path / "y.npz")["y"])
    assert y.shape == x.shape
    # Given the right rank, most of what is not seen would be known; the energy allows for a rank of ten.
    assert task.error_of(y, x, target).mean() < 0.7 * task.error_of(x, x, target).mean()


def test_vectors_of_any_length_are_added(tmp_path):
    x = RNG.uniform(-9, 9, (3, 14))
    np.savez(tmp_path / "x.npz", x=x)
    assert solve("addition", "--input", tmp_path / "x.npz", "--output", tmp_path / "y.npz") == 0
    np.testing.assert_allclose(arrays(tmp_path / "y.npz")["y"], x[:, :7] + x[:, 7:], atol=1e-2)


@pytest.mark.parametrize(
    ("task", "shape", "message"),
    [
        ("inverse", (2, 3, 4), "Only square matrices"),
        ("inverse", (2, 5), "square matrices flattened"),
        ("completion", (2, 5), "square matrices flattened"),
        ("addition", (2, 5), "an even number of entries"),
    ],
)
def test_problems_of_another_kind(task, shape, message, tmp_path, capsys):
    np.savez(tmp_path / "x.npz", x=np.zeros(shape))
    assert solve(task, "--input", tmp_path / "x.npz", "--output", tmp_path / "y.npz") == 1
    assert message in capsys.readouterr().err


def test_completion_is_told_beside_what_copying_gives(tmp_path, capsys):
    assert solve("completion", "--problems", "30", "--output", tmp_path / "result") == 0
    assert "copy" in capsys.readouterr().out
    found = json.loads((tmp_path / "result" / "result.json").read_text())["difficulties"]
    for difficulty, scale in (("same", 20), ("harder", 5)):  # (rank / scale² + noise²) / 2
        assert found[difficulty]["floors"]["copy"] == pytest.approx((10 / scale**2 + 0.01) / 2, rel=0.1)
        assert found[difficulty]["error"] < found[difficulty]["floors"]["copy"]


def test_other_tasks_have_no_such_floor(tmp_path, capsys):
    assert solve("inverse", "--problems", "5", "--output", tmp_path / "result") == 0
    assert "copy" not in capsys.readouterr().out
    assert "copy" not in (tmp_path / "result" / "result.json").read_text()


def words(capsys):
    return " ".join(capsys.readouterr().out.split())


def test_the_summary_says_what_its_words_mean(tmp_path, capsys):
    """Of matrices of which one is inverted, and the others end in every other way."""
    roots = RNG.uniform(-1, 1, (5, 8, 8))
    x = 2 * roots @ roots.transpose(0, 2, 1) + 0.5 * np.eye(8)
    x[1] += 0.1 * (roots[1] - roots[1].T)  # not symmetric
    x[2] = roots[2][:, :4] @ roots[2][:, :4].T  # singular
    x[3, 0, 0] = np.nan
    np.savez(tmp_path / "x.npz", x=x)
    assert solve("inverse", "--input", tmp_path / "x.npz", "--output", tmp_path / "y.npz") == 0
    found, out = arrays(tmp_path / "y.npz"), words(capsys)
    assert found["status"].tolist() == [0, 4, 4, 2, 0]
    assert "Read 5 problems of 8 x 8 numbers from" in out
    assert "2 converged, 0 used up their steps, 1 met a NaN or an infinity, 2 rejected." in out
    assert "0 = converged: GradientNorm(tol=0.0001, rtol=0.0) held at the answer." in out
    assert "4 = rejected: the answer failed the energy's own test." in out
    residual = np.linalg.norm(x[[0, 4]] @ found["y"][[0, 4]] - np.eye(8), axis=(1, 2)) / 8**0.5
    np.testing.assert_allclose(found["residual"][[0, 4]], residual, rtol=2e-2)
    residual = found["residual"][[0, 4]]
    shown = f"{residual.mean():.1e} on average, at most {residual.max():.1e}."
    assert f"The residual |M Y - I| / |I| of the converged answers: {shown}" in out


def test_residuals_are_kept_over_an_interruption(tmp_path, capsys, monkeypatch):
    from energysolve import EnergySolver

    roots = RNG.uniform(-1, 1, (6, 4, 4))
    np.save(tmp_path / "x.npy", roots @ roots.transpose(0, 2, 1) + np.eye(4))
    options = ["inverse", "--input", tmp_path / "x.npy", "--chunk", "2"]
    assert solve(*options, "--output", tmp_path / "whole.csv") == 0
    whole = words(capsys)
    minimize, calls = EnergySolver.minimize, []

    def interrupt(self, *arguments, **keywords):
        calls.append(None)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return minimize(self, *arguments, **keywords)

    monkeypatch.setattr(EnergySolver, "minimize", interrupt)
    assert solve(*options, "--output", tmp_path / "a.csv") == 130
    monkeypatch.undo()
    assert solve(*options, "--output", tmp_path / "a.csv", "--resume") == 0
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert (tmp_path / "a.csv").read_text().partition("\n")[0].endswith("y15,energy,steps,status,residual")
    assert (
        words(capsys).partition("The residual")[2].partition("Saved")[0]
        == (whole.partition("The residual")[2].partition("Saved")[0])
    )


def test_steps_that_were_used_up(tmp_path, capsys):
    np.savez(tmp_path / "x.npz", x=np.diag([1.0, 2.0, 9.0])[None])
    assert solve("inverse", "--input", tmp_path / "x.npz", "--output", tmp_path / "y.npz", "--max-steps", "2") == 1
    out = words(capsys)
    assert "0 converged, 1 used up their steps" in out
    assert "1 = used up their steps: it did not hold after 2 steps; the answer is the last iterate." in out
    assert "--max-steps 20." in out
    assert "No problem was solved." in out


def test_nothing_solved_is_not_a_success(tmp_path, capsys):
    np.savez(tmp_path / "x.npz", x=-np.eye(3)[None])
    assert solve("inverse", "--input", tmp_path / "x.npz", "--output", tmp_path / "y.npz") == 1
    assert "No problem was solved." in words(capsys)
    assert (arrays(tmp_path / "y.npz")["status"] != 0).all()


def test_how_the_first_line_was_taken_is_said(tmp_path, capsys):
    (tmp_path / "named.csv").write_text("a,b,c,d\n1,2,3,4\n")
    (tmp_path / "plain.csv").write_text("1,2,3,4\n5,6,7,8\n")
    (tmp_path / "pandas.csv").write_text(",0,1,2,3\n0,1,2,3,4\n1,5,6,7,8\n")
    output = tmp_path / "y.npz"
    assert solve("addition", "--input", tmp_path / "named.csv", "--output", output) == 0
    assert "Read 1 problem of 4 numbers" in (out := words(capsys))
    assert "its first line holds the names of the columns" in out
    assert solve("addition", "--input", tmp_path / "plain.csv", "--output", output, "--overwrite") == 0
    assert "Read 2 problems" in (out := words(capsys))
    assert "its first line is a problem" in out
    np.testing.assert_allclose(arrays(output)["y"], [[4, 6], [12, 14]], rtol=1e-3)
    options = ["addition", "--input", tmp_path / "pandas.csv", "--output", output, "--overwrite"]
    assert solve(*options) == 1
    assert "--index" in capsys.readouterr().err
    assert solve(*options, "--index", "--header") == 0
    np.testing.assert_allclose(arrays(output)["y"], [[4, 6], [12, 14]], rtol=1e-3)


def small_table():
    roots = np.random.default_rng(3).normal(size=(12, 2)) @ np.random.default_rng(4).normal(size=(2, 9)) + 3
    x = roots.round(1)
    x[np.random.default_rng(5).random(x.shape) < 0.3] = np.nan
    x[0, :2] = 0.0, np.nan
    return x


def as_pandas(x):
    """What `DataFrame(x, index=r0, r1, ..., columns=a, b, ...).to_csv()` writes."""
    lines = [",".join(["", *(f"c{column}" for column in range(x.shape[1]))])]
    lines += [",".join([f"r{row}", *("" if np.isnan(v) else repr(float(v)) for v in x[row])]) for row in range(len(x))]
    return "\n".join(lines) + "\n"


def test_a_table_is_completed_as_it_was_written(tmp_path, capsys):
    from energysolve.presets.tables import complete_table

    x = small_table()
    (tmp_path / "t.csv").write_text(as_pandas(x))
    options = ["completion", "--table", "--input", tmp_path / "t.csv", "--output"]
    assert solve(*options, tmp_path / "y.csv") == 1
    assert "--index" in capsys.readouterr().err
    assert solve(*options, tmp_path / "y.csv", "--index") == 0
    out = words(capsys)
    gaps = int(np.isnan(x).sum())
    assert f"Completed {gaps} of the 108 entries of a table of 12 x 9; zeros are values." in out
    assert "was taken for the names of the columns" in out
    assert "Root mean square error for entries held out" in out
    lines = [line.split(",") for line in (tmp_path / "y.csv").read_text().splitlines()]
    assert lines[0] == ["", *(f"c{column}" for column in range(9))]
    assert [line[0] for line in lines[1:]] == [f"r{row}" for row in range(12)]
    y = np.array([line[1:] for line in lines[1:]], dtype=float)
    np.testing.assert_array_equal(y[~np.isnan(x)], x[~np.isnan(x)])
    import torch

    from energysolve.seeding import stream

    expected = complete_table(torch.from_numpy(x), generator=stream("complete table", 0)).values.numpy()
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    np.save(tmp_path / "t.npy", x)
    assert solve("completion", "--table", "--input", tmp_path / "t.npy", "--output", tmp_path / "y.npz") == 0
    np.testing.assert_allclose(arrays(tmp_path / "y.npz")["y"], y, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["inverse", "--table", "--input", "t.csv", "--output", "y.csv"],
            "A table is completed by a solver of FactoredCompletion",
        ),
        (["completion", "--table"], "--table goes with --input"),
        (["completion", "--table", "--input", "t.csv", "--output", "y.csv", "--chunk", "2"], "leave out --chunk"),
        (["completion", "--table", "--input", "t.csv", "--output", "t.csv", "--overwrite"], "is the input"),
        (["completion", "--table", "--input", "t.csv", "--output", "there.csv"], "there.csv exists"),
        (["completion", "--table", "--input", "three.npy", "--output", "y.csv"], r"shape (2, 3, 4)"),
        (["completion", "--table", "--input", "gaps.csv", "--output", "y.csv"], "gaps.csv: The table has no number"),
        (["completion", "--input", "t.csv", "--output", "y.csv"], "--table completes it"),
    ],
)
def test_errors_about_tables(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("1,2,3\n4,5,6\n")
    (tmp_path / "there.csv").write_text("")
    (tmp_path / "gaps.csv").write_text(",\n,\n")
    np.save(tmp_path / "three.npy", np.zeros((2, 3, 4)))
    assert solve(*arguments) == 1
    assert message in capsys.readouterr().err
