"""What a block of a matrix tells of its missing entries."""

import json

import blocks
import torch

from energysolve import MLPEnergy
from energysolve.experiments.limits.gibbs import posterior_mean
from energysolve.tasks import Completion


def test_a_problem_changed_as_by_an_answer_only_moves_the_landscape():
    """For a change whose image under the first layer of problems is that of an answer under the one of answers."""
    torch.manual_seed(0)
    energy = MLPEnergy(6, 6, width=12).double()
    p, q = energy.from_x.weight, energy.from_y.weight
    answer = torch.randn(6, dtype=torch.float64)
    with torch.no_grad():
        p.copy_(q @ torch.randn(6, 6, dtype=torch.float64))  # so that every problem can be made up for
    x, y = torch.randn(2, 4, 6, dtype=torch.float64)
    change = torch.linalg.lstsq(p, (q @ answer).unsqueeze(1)).solution.squeeze(1)
    torch.testing.assert_close(energy(x + change, y - answer), energy(x, y))
    assert not torch.allclose(energy(x + change, y), energy(x, y))


def test_a_block_is_judged_by_its_posterior_mean(monkeypatch):
    monkeypatch.setattr(blocks, "_CHUNK", 7)
    monkeypatch.setattr(blocks, "_GIBBS", {"sweeps": 60, "burn_in": 30, "chains": 3})
    found = blocks._judged((4, 5), "harder", 20, 1)
    task = Completion(4, 5)
    x, target = task.sample(200, "harder", torch.Generator().manual_seed(2))
    mean = posterior_mean(
        x, x != 0, scale=5.0, noise=0.1, rank=10, sweeps=60, burn_in=30, generator=torch.Generator().manual_seed(3)
    ).mean
    ratio = ((mean - target).square().mean() / (x - target).square().mean()).item()
    assert abs(found["block"] - ratio) < 0.15
    assert found["all"] == 1 - (1 - found["block"]) * 20 / 400
    assert 0 < found["standard_error"] < 0.02


def test_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCKS", ((3, 4),))
    monkeypatch.setattr(blocks, "_GIBBS", {"sweeps": 40, "burn_in": 10, "chains": 2})
    blocks.main(["--output", str(tmp_path / "b.json"), "--problems", "60", "--seed", "3"])
    result = json.loads((tmp_path / "b.json").read_text())
    assert "--problems 60" in result["command"]
    (row,) = result["rows"]
    assert row["block"] == [3, 4]
    assert 0.8 < row["same"]["all"] < 1.01
    assert 0.8 < row["harder"]["block"] < 1.1
