"""The comparison of optimizers of shipped energies."""

import json

import pytest
import solvers

from energysolve import LBFGS, SGD, GradientNorm
from energysolve.tasks import Addition


def test_settings_are_compared_on_the_same_problems(monkeypatch, tmp_path):
    monkeypatch.setattr(solvers, "RESULT", tmp_path / "solvers.json")
    monkeypatch.setattr(solvers, "PROBLEMS", 3)
    tolerance = GradientNorm(1e-4)
    settings = [{"optimizer": SGD(0.5), "halting": tolerance}, {"optimizer": LBFGS(), "halting": tolerance}]
    solvers.main({"addition": (Addition(), settings)})
    rows = json.loads((tmp_path / "solvers.json").read_text())["rows"]
    assert [row["difficulty"] for row in rows] == ["same", "same", "harder", "harder"]
    for fixed, searched in (rows[:2], rows[2:]):
        assert fixed["converged"] == searched["converged"] == 1
        assert searched["energy"] == pytest.approx(fixed["energy"], rel=1e-5)  # one minimum
        assert searched["evaluations"] < fixed["evaluations"]
