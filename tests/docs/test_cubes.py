"""What cubes tell of missing entries."""

import json

import cubes
import pytest
import torch

from energysolve.tasks import Completion


def test_the_correction_is_a_sum_over_directions():
    x = Completion(4, 4).sample(3, generator=torch.Generator().manual_seed(0))[0]
    some = cubes.Cubes(5, 0.5, (4, 4), torch.Generator().manual_seed(1))
    expected = torch.zeros(3, 4, 4)
    for u, v in zip(some.of_rows, some.of_columns, strict=True):
        torch.testing.assert_close(u.norm(), torch.ones(()))
        for k in range(3):
            s = u @ x[k] @ v / 0.5
            expected[k] += (s**3 - 3 * s) * torch.outer(u, v)
    torch.testing.assert_close(some(x), expected, rtol=1e-4, atol=1e-5)


def test_the_mean_over_all_directions_is_a_product_of_three():
    """The mean of ``(u^T X v)^4`` over the circle, twice, is ``3 (|X|^4 + 2 tr (X X^T)^2) / 64``; its gradient."""
    x = torch.tensor([[[0.9, -0.4], [0.2, 0.7]]])
    found = cubes.Cubes(400_000, 1.0, (2, 2), torch.Generator().manual_seed(2))(x) / 400_000
    of_cubes = 3 * (4 * x.square().sum() * x + 8 * x @ x.mT @ x) / (8 * 8) / 4
    linear = 3 * x / 4
    torch.testing.assert_close(found, of_cubes - linear, rtol=0, atol=5e-3)


def test_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(cubes, "_FITTED", 2000)
    monkeypatch.setattr(cubes, "COUNTS", (16, 1024))
    cubes.main(["--output", str(tmp_path / "c.json"), "--problems", "1500", "--seed", "3"])
    result = json.loads((tmp_path / "c.json").read_text())
    assert "--problems 1500" in result["command"]
    few, many = result["rows"]
    assert few["directions"] == 16
    assert min(*few["coefficients"], *many["coefficients"]) > 0
    assert 0.98 < many["same"]["missing"] < many["same"]["all"] < 1
    assert many["same"]["missing"] < few["same"]["missing"] == pytest.approx(1, abs=1e-3)
