"""Where and when a result was computed, recorded in result files."""

import datetime
import os
import platform
from pathlib import Path
from typing import Any

import torch

from .version import __version__


def environment(device: str = "cpu") -> dict[str, Any]:
    """Versions, hardware and date, as plain JSON."""
    return {
        "versions": {"energysolve": __version__, "python": platform.python_version(), "torch": torch.__version__},
        "hardware": {
            "cpu": _cpu_model(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "device": device if device == "cpu" else torch.cuda.get_device_name(device),
        },
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
