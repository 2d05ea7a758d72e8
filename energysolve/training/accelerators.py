"""What training runs on: accelerate's accelerator, with trackers."""

import atexit
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

from .callbacks import CSVTracker

CSV_NAME = "progress.csv"

_LEAVE_S = 0.2


def make_accelerator(
    precision: str = "no",
    *,
    cpu: bool = False,
    trackers: Sequence[str] = (),
    folder: Path | None = None,
    after: int = 0,
) -> Accelerator:
    """An accelerator for a `Trainer`.

    Args:
        precision: as in `TrainingConfig`.
        cpu: stay on the CPU though there is a GPU.
        trackers: ``"csv"`` for a table ``progress.csv``, ``"tensorboard"``, or others by accelerate's names.
        folder: where trackers write.
        after: the iteration that a resumed run goes on from: later entries of the table are dropped.

    Raises:
        ValueError: if the process already trains with another precision, or a tracker is not known or not installed.
    """
    if trackers and folder is None:
        raise ValueError("Trackers need a folder to write to: give folder=.")
    # Parameters that move nothing, such as the offset of an energy, get no gradient.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    named: list[Any] = [name for name in trackers if name != "csv"]
    try:
        accelerator = Accelerator(
            mixed_precision=precision, cpu=cpu, log_with=named or None, project_dir=folder, kwargs_handlers=[unused]
        )
    except ValueError as error:
        raise ValueError(
            f"No accelerator of precision {precision!r} with trackers {list(trackers)} can be made: {error} "
            "(accelerate keeps one precision and one device for a process: train with another in its own process.)"
        ) from error
    if accelerator.num_processes > 1:
        # torch's gloo threads let go of the tensors of the last exchange when they get to it, and that takes Python's
        # lock: one that asks for it when the interpreter is already ending aborts the process. Leave it free a moment.
        atexit.register(time.sleep, _LEAVE_S)
    if folder is not None and "csv" in trackers and accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        accelerator.log_with.append(CSVTracker(folder / CSV_NAME, after))
    missing = [name for name in named if name not in [str(found) for found in accelerator.log_with]]
    if missing:
        raise ValueError(f"The tracker {missing[0]!r} is not installed: pip install {missing[0]}.")
    return accelerator


def start_trackers(accelerator: Accelerator, name: str, settings: Mapping[str, Any], after: int = 0) -> None:
    """Start the trackers with the settings of the run; entries after iteration ``after`` are overwritten."""
    plain = {key: value if isinstance(value, int | float | str) else str(value) for key, value in settings.items()}
    accelerator.init_trackers(name, plain, {"tensorboard": {"purge_step": after + 1}} if after else {})
