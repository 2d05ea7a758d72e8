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
