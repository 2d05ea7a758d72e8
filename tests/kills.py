"""Kills ``energysolve solve --input`` at many moments, resumes it each time, and compares with a run left alone.

    python tests/kills.py --engine plain --kills 20
    python tests/kills.py --engine ray --kills 20

A quarter of the kills comes at a random moment, while the process starts or finishes included; the others once the next
part of the problems is done.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from file_solving import DIM

from energysolve import SGD, EnergyChange, EnergySolver, MLPEnergy, Uniform

ROWS = 3000


def write_case(folder: Path) -> None:
    """A saved energy, and problems with keys."""
    import pyarrow as pa
    from pyarrow import parquet

    torch.manual_seed(0)
    energy = MLPEnergy(DIM, 2, width=8)
    halting = EnergyChange(atol=1e-3)
    EnergySolver(energy, SGD(0.2), init=Uniform((2,)), halting=halting, max_steps=60).save_pretrained(folder / "model")
    x = np.random.default_rng(0).uniform(-1, 1, (ROWS, DIM))
    parquet.write_table(pa.table({"id": np.arange(ROWS), "x": x.tolist()}), folder / "p.parquet", row_group_size=700)


def command(folder: Path, output: str, *more: str) -> list[str]:
    options = ["--model", folder / "model", "--input", folder / "p.parquet", "--output", folder / output]
    return [*map(str, (sys.executable, "-m", "energysolve.cli", "solve", "addition", *options)), "--chunk", "10", *more]


def rows_done(folder: Path) -> int:
    try:
        return json.loads((folder / "a.parquet.partial" / "progress.json").read_text())["rows"]
    except FileNotFoundError:
        return 0


def kill_and_resume(folder: Path, kills: int, *more: str) -> list[int]:
    """The rows that were done at each kill; at the end there are the answers of a whole run, ``a.parquet``."""
    draw, seen = random.Random(0), []
    while len(seen) < kills and not (folder / "a.parquet").exists():
        running = subprocess.Popen(command(folder, "a.parquet", "--resume", *more), stdout=subprocess.DEVNULL)
        before, target = rows_done(folder), ROWS * (len(seen) + 1) // (kills + 1)
        until = time.monotonic() + (draw.uniform(0, 6) if draw.random() < 0.25 else 120)
        while time.monotonic() < until and running.poll() is None and rows_done(folder) < max(target, before + 1):
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.05))
        running.kill()
        running.wait()
        seen.append(rows_done(folder))
    if not (folder / "a.parquet").exists():
        subprocess.run(command(folder, "a.parquet", "--resume", *more), stdout=subprocess.DEVNULL, check=True)
    return seen


def check_answers(folder: Path) -> None:
    """Every key once, in order, with the answers of a run that was never killed."""
    from pyarrow import parquet

    subprocess.run(command(folder, "whole.parquet"), stdout=subprocess.DEVNULL, check=True)
    found, expected = (parquet.read_table(folder / name) for name in ("a.parquet", "whole.parquet"))
    assert found["id"].to_pylist() == list(range(ROWS))
    assert found.schema == expected.schema
    for name in expected.column_names:
        a, b = (np.array(table[name].to_pylist()) for table in (found, expected))
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6, err_msg=name)
    assert not (folder / "a.parquet.partial").exists()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=("plain", "ray"), default="plain")
    parser.add_argument("--kills", type=int, default=20)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_case(folder)
        seen = kill_and_resume(folder, arguments.kills, "--engine", arguments.engine)
        check_answers(folder)
    print(f"Killed {len(seen)} times, after {seen} of {ROWS} problems: each answer is there, once.")


if __name__ == "__main__":
    main()
