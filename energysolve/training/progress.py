"""The progress display of a training run."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .callbacks import Callback


class ProgressBar(Callback):
    """A progress bar with the loss, the learning rate, the errors of the last validation and the remaining time."""

    def __init__(self, console: Console | None = None):
        columns = (
            TextColumn("training"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}  lr {task.fields[lr]}  {task.fields[validated]}"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=console)
        self._task = self._bar.add_task("training", total=None, loss="-", lr="-", validated="")

    def __enter__(self) -> "ProgressBar":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def on_start(self, iteration, iterations):
        self._bar.update(self._task, total=iterations, completed=iteration)

    def on_iteration(self, progress):
        loss, lr = f"{progress.loss:.2e}", f"{progress.lr:.1e}"
        self._bar.update(self._task, completed=progress.iteration, loss=loss, lr=lr)
        if progress.skipped:
            self._bar.console.print(f"Iteration {progress.iteration} skipped: the loss was {progress.loss}.")

    def on_validation(self, validated):
        parts = [
            f"{name}: error {error:.2e}, energy {validated.energy_before[name]:.3g} -> "
            f"{validated.energy_after[name]:.3g}, {validated.steps[name]:.1f} steps"
            for name, error in validated.error.items()
        ]
        self._bar.console.print(f"{validated.iteration:>6}  {';  '.join(parts)}", highlight=False, soft_wrap=True)
        errors = " ".join(f"{name} {error:.2e}" for name, error in validated.error.items())
        self._bar.update(self._task, validated=errors)

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(line, highlight=False, soft_wrap=True)
