"""Each example runs as a user runs it, and what it prints holds."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def output_of(name, *arguments):
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def number(pattern, text):
    found = re.search(pattern, text)
    assert found, f"{pattern!r} not in {text!r}"
    return float(found.group(1))


def test_every_example_is_tested():
    source = Path(__file__).read_text()
    assert all(f'"{path.name}"' in source for path in EXAMPLES.glob("*.py"))


def test_custom_energy():
    out = output_of("custom_energy.py")
    assert number(r"largest error ([\d.e-]+)", out) < 1e-4

    lines = (
        (EXAMPLES / "custom_energy.py").read_text().partition("def ranging")[2].partition("def main")[0].splitlines()
    )
    assert len(lines) < 20


def test_custom_halting():
    out = output_of("custom_halting.py")
    alone, either = (number(rf"{name}: .* after ([\d.]+) steps", out) for name in ("descended", "either"))
    assert "either: 100% of the samples halted" in out
    assert 0 < either < 100
    assert 0 < alone < 100
    assert "property test passed" in out


def test_fit_curves(tmp_path):
    out = output_of("fit_curves.py", tmp_path / "fits.png")
    assert "MAX_STEPS" not in out
    assert "NONFINITE" not in out
    inside, expected = (number(rf"truth: .*?([\d.]+)% {word}", out) for word in (r"\(", "expected"))
    assert abs(inside - expected) < 3
    for name in (r"LevenbergMarquardt\(\)", r"LBFGS\(\)"):
        assert number(rf"{name} +\d+ +([\d.e-]+) SE", out) < 1e-3
        assert number(rf"{name} .* SE +([\d.e-]+)", out) < 0.01
    assert (tmp_path / "fits.png").stat().st_size > 10_000


def test_scratchpad():
    out = output_of("scratchpad.py")
    without = number(r"without scratchpad: median error ([\d.e+-]+)", out)
    assert number(r"with scratchpad: median error ([\d.e+-]+)", out) < 0.01 * without


@pytest.mark.slow
def test_train_your_own_task():
    out = output_of("train_your_own_task.py")
    assert number(r"same: error [\d.]+, (\d+) times", out) >= 7
    assert number(r"harder: error [\d.]+, (\d+) times", out) >= 3


def test_heat_diffusion():
    pytest.importorskip("torch_geometric")
    out = output_of("heat_diffusion.py")
    assert "3 CONVERGED" in out
    for name in ("karate club", "Les Misérables", "Florentine families"):
        assert number(rf"{name}: .* largest difference ([\d.e-]+)", out) < 1e-8
