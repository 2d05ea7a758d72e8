"""Accelerators: where training runs, with which precision and trackers."""

import atexit
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

from .callbacks import CSVTracker

CSV_NAME = "progress.csv"

_EXIT_DELAY_S = 0.2


def make_accelerator(
    precision: str = "no",
    *,
    cpu: bool = False,
    trackers: Sequence[str] = (),
    folder: Path | None = None,
    after: int = 0,
) -> Accelerator:
    """Make an accelerator for a trainer.

    Args:
        precision: as in `TrainingConfig`.
        cpu: use the CPU even if there is a GPU.
        trackers: ``"csv"`` for a table ``progress.csv``, or names of accelerate's trackers, such as ``"tensorboard"``;
            they write from ``accelerator.init_trackers(name)`` on.
        folder: where the trackers write; required with trackers.
        after: the iteration that a resumed run continues from; later rows of the table are dropped.

    Raises:
        ValueError: if the process already trains with another precision, a tracker is unknown or not installed, or
            the folder is missing.

    Examples:
        >>> import csv
        >>> from pathlib import Path
        >>> from energysolve import SGD, EnergySolver, Trainer
        >>> from energysolve.energies import SharedQuadratic
        >>> from energysolve.tasks import Addition
        >>> from energysolve.training import make_accelerator
        >>> accelerator = make_accelerator(cpu=True, trackers=("csv",), folder=Path("run"))
        >>> accelerator.init_trackers("addition")
        >>> solver = EnergySolver(SharedQuadratic(size=3), SGD(0.5))
        >>> Trainer(solver, Addition(3), accelerator=accelerator, batch_size=8, log_every=5).fit(10)
        >>> [row["iteration"] for row in csv.DictReader(Path("run/progress.csv").read_text().splitlines())]
        ['5', '10']
    """
    if trackers and folder is None:
        raise ValueError("Trackers need a folder to write to: give folder=.")
    # Some parameters get no gradient, such as the constant offset of an energy.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    named: list[Any] = [name for name in trackers if name != "csv"]
    try:
        accelerator = Accelerator(
            mixed_precision=precision, cpu=cpu, log_with=named or None, project_dir=folder, kwargs_handlers=[unused]
        )
    except ValueError as error:
        raise ValueError(
            f"Cannot make an accelerator of precision {precision!r} with trackers {list(trackers)}: {error} "
            "(accelerate keeps one precision and one device per process; use another process for another precision.)"
        ) from error
    if accelerator.num_processes > 1:
        # torch's gloo threads free the tensors of the last exchange some time later, for which they need the GIL. A
        # thread that asks for it while the interpreter shuts down aborts the process, so wait before the shutdown.
        atexit.register(time.sleep, _EXIT_DELAY_S)
    if folder is not None and "csv" in trackers and accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        accelerator.log_with.append(CSVTracker(folder / CSV_NAME, after))
    missing = [name for name in named if name not in [str(found) for found in accelerator.log_with]]
    if missing:
        raise ValueError(f"The tracker {missing[0]!r} is not installed: pip install {missing[0]}.")
    return accelerator


def start_trackers(accelerator: Accelerator, name: str, settings: Mapping[str, Any], after: int = 0) -> None:
    """Start the trackers of an accelerator for a run with this name and these settings, which the trackers store.

    ``after`` is the iteration that a resumed run continues from; later entries are overwritten.
    """
    plain = {key: value if isinstance(value, int | float | str) else str(value) for key, value in settings.items()}
    accelerator.init_trackers(name, plain, {"tensorboard": {"purge_step": after + 1}} if after else {})
