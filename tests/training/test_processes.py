"""Two processes train as one: each takes half of every batch, and the weights agree to rounding."""

from pathlib import Path

import pytest
import torch
from processes import launch

PROGRAM = Path(__file__).with_name("run_processes.py")


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    one, two = (launch(PROGRAM, count, tmp_path / f"{count}.safetensors") for count in (1, 2))
    assert (one.pop("processes"), two.pop("processes")) == (1, 2)
    assert one.keys() == two.keys()
    a, b = (torch.cat([weights[name].flatten() for name in sorted(weights)]) for weights in (one, two))
    assert a.dtype == torch.float64
    assert (a - b).norm() / a.norm() <= 1e-8
    assert (a - b).norm() > 0, "half batches round differently, so equal bits mean that nothing was shared"
