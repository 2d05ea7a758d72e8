"""Two processes train as one: each takes half of every batch, and the weights agree to rounding."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

PROGRAM = Path(__file__).with_name("run_processes.py")


def launch(processes: int, path: Path) -> dict[str, torch.Tensor]:
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "1", "--nproc_per_node", str(processes)),
        *("--master_addr", "localhost", "--master_port", str(free_port()), str(PROGRAM), str(path)),
    ]
    finished = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert finished.returncode == 0, finished.stderr
    return load_file(path)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    one, two = (launch(count, tmp_path / f"{count}.safetensors") for count in (1, 2))
    assert (one.pop("processes"), two.pop("processes")) == (1, 2)
    assert one.keys() == two.keys()
    a, b = (torch.cat([weights[name].flatten() for name in sorted(weights)]) for weights in (one, two))
    assert a.dtype == torch.float64
    assert (a - b).norm() / a.norm() <= 1e-8
    assert (a - b).norm() > 0, "half batches round differently, so equal bits mean that nothing was shared"
