"""Training and solving with their bounds: an iteration, the time to the paper's accuracy, memory, problems a second.

Writes ``docs/results``.
"""

from pathlib import Path

import pytest
import torch

from energysolve import EnergySolver
from energysolve.benchmarks.iteration import measure_iteration
from energysolve.benchmarks.memory import measure_memory
from energysolve.benchmarks.plain_run import PlainRun
from energysolve.benchmarks.report import Report
from energysolve.benchmarks.setting import Setting
from energysolve.benchmarks.solving import measure_solving
from energysolve.benchmarks.target import measure_target

RESULTS = Path(__file__).parents[2] / "docs" / "results"
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])]


@pytest.fixture(params=DEVICES)
def setting(request) -> Setting:
    return Setting(device=request.param)


def report(measurement: str, file: str, setting: Setting) -> Report:
    """Of a measurement; those of a GPU have files of their own."""
    where = "" if setting.device == "cpu" else f"-{setting.device}"
    device = "" if setting.device == "cpu" else f" --device {setting.device}"
    return Report(RESULTS / f"{file}{where}.json", f"energysolve bench {measurement}{device}", setting)


def check(report: Report) -> None:
    assert report.bounds
    assert all(bound.met for bound in report.bounds), report.content["bounds"]


def test_an_iteration(setting):
    result = report("iteration", "iteration", setting)
    measure_iteration(setting, result, rounds=21)
    check(result)


def test_memory(setting):
    result = report("memory", "memory", setting)
    measure_memory(setting, result)
    check(result)


def test_time_to_target(setting):
    """The longest: the plain reference takes thousands of iterations."""
    result = report("target", "target", setting)
    measure_target(setting, result, PlainRun(setting))
    check(result)


def test_solving(setting):
    result = report("solve", "solving", setting)
    measure_solving(EnergySolver.from_pretrained("addition-mlp"), setting, result, rounds=5)
    check(result)
