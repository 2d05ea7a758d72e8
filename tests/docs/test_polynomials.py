"""Polynomials of a matrix as its inverse."""

import json

import polynomials
import pytest
import torch

from energysolve.tasks import Inverse


def test_powers():
    x = Inverse(4).sample(3, generator=torch.Generator().manual_seed(0))[0]
    found = polynomials.powers(x, 3)
    for k in range(4):
        torch.testing.assert_close(found[..., k], torch.linalg.matrix_power(x.double() / (8 / 3), k))


def test_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(polynomials, "_FITTED", 500)
    polynomials.main(["--output", str(tmp_path / "p.json"), "--problems", "200", "--seed", "3"])
    result = json.loads((tmp_path / "p.json").read_text())
    assert "--problems 200" in result["command"]
    errors = [each["same"]["error"] for each in result["degrees"].values()]
    assert errors == sorted(errors, reverse=True)
    x, target = Inverse().sample(3000, "same", torch.Generator().manual_seed(5))
    # Degree 0: of all multiples of the identity, the mean of the diagonal has the least error.
    constant = target.diagonal(dim1=1, dim2=2).mean() * torch.eye(20)
    assert errors[0] == pytest.approx((constant - target).square().mean().item(), rel=0.1)
    # Degree 1: ordinary least squares on all entries at once finds nothing better than a I + b M.
    flat = torch.cat([x.flatten(1), torch.ones(3000, 1)], 1).double()
    weights = torch.linalg.lstsq(flat, target.flatten(1).double(), driver="gelsd").solution
    assert errors[1] < 1.1 * (flat @ weights - target.flatten(1)).square().mean().item()
