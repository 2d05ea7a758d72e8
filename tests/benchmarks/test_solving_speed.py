"""Solving with its bounds: problems a second at the error of a plain loop. Writes ``docs/results``."""

import pytest
from test_training_speed import DEVICES, check, report

from energysolve import EnergySolver
from energysolve.benchmarks.setting import Setting
from energysolve.benchmarks.solving import measure_solving


@pytest.mark.parametrize("device", DEVICES)
def test_solving(device):
    setting = Setting(device=device)
    result = report("solve", "solving", setting)
    measure_solving(EnergySolver.from_pretrained("addition-mlp"), setting, result, rounds=5)
    check(result)
