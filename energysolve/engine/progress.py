"""The display of a long solve: how many samples have halted, how low their energies are, how fast it goes."""

import time
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..solution import Solution, Status
from .loop import Carry

if TYPE_CHECKING:
    from rich.console import Console

_INTERVAL = 0.1
"""Seconds between updates."""


class SolveProgress:
    """An observer that shows a solve in the terminal or the notebook, by rich, which notices where it runs.

    It looks at the samples only where the host checks whether they have halted, and so never waits for the device
    within a step. It starts no thread.

    Args:
        max_steps: of the solve.
        sync_every: the host checks every so many steps.
        scale: ``(batch,)``, the factor by which energies are shown; None for 1.
        console: where to; by default rich's own.
    """

    def __init__(self, max_steps: int, sync_every: int, scale: Tensor | None = None, console: "Console | None" = None):
        self._max_steps, self._sync_every, self._scale = max_steps, sync_every, scale
        self._bar = _bar(console)
        self._task: Any = None
        self._begun = self._shown = time.monotonic()

    def __enter__(self) -> "SolveProgress":
        from rich.errors import LiveError

        try:
            self._bar.start()
        except LiveError:  # older versions of rich refuse a display inside another, such as that of a training run
            self._bar.disable = True
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def due(self, step: int) -> bool:
        """Whether it looks at the iterate with this index."""
        return step % self._sync_every == 0 and time.monotonic() - self._shown >= _INTERVAL

    def __call__(self, step: int, carry: Carry) -> None:
        if self.due(step):
            # Where no sample has halted, the loop need not count evaluations: each has had one more than trials.
            evaluations = torch.where(carry.active, step + 1, carry.evaluations)
            energy = carry.at.energy if self._scale is None else carry.at.energy * self._scale
            self._show(step, ~carry.active, energy, evaluations)

    def finish(self, solution: Solution) -> None:
        """Show the end of the solve."""
        evaluations = solution.steps + 1 if solution.evaluations is None else solution.evaluations
        trials = max(int(evaluations.max()) - 1, 0)
        self._show(trials, solution.status != Status.MAX_STEPS, solution.energy, evaluations)

    def _show(self, step: int, halted: Tensor, energy: Tensor, evaluations: Tensor) -> None:
        count, done = torch.stack((halted.sum(), evaluations.sum())).tolist()
        median = float(torch.where(energy.isfinite(), energy, torch.nan).nanmedian())
        now = time.monotonic()
        fields = {
            "halted": f"{100 * count / len(halted):.0f} % of {len(halted):,} halted",
            "trial": f"step {step:,}/{self._max_steps:,}",
            "energy": f"energy {median:.4g}",
            "speed": f"{done / max(now - self._begun, 1e-9):,.0f} evals/s",
        }
        if self._task is None:
            self._task = self._bar.add_task("solve", total=len(halted), completed=count, **fields)
        else:
            self._bar.update(self._task, completed=count, **fields)
        self._bar.refresh()
        self._shown = time.monotonic()


def _bar(console: "Console | None") -> Any:
    # Imported on demand: a solve that shows nothing does not need it.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = console or Console()
    if console.is_jupyter and not _has_widgets():
        console = Console(force_jupyter=False)  # one line at the end instead of a warning at every update
    fields = [TextColumn(f"{{task.fields[{name}]}}") for name in ("halted", "trial", "energy", "speed")]
    columns = (BarColumn(bar_width=8), *fields)
    return Progress(*columns, console=console, auto_refresh=False)


def _has_widgets() -> bool:
    try:
        import ipywidgets  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        return False
    return True
