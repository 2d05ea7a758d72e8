"""Runs a program in several processes of torch's launcher."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file


def launch(program: Path, processes: int, path: Path) -> dict[str, torch.Tensor]:
    """The tensors that the program saves to ``path``."""
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "1", "--nproc_per_node", str(processes)),
        *("--master_addr", "localhost", "--master_port", str(free_port()), str(program), str(path)),
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
