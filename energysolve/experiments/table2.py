"""Table 2: what a replay buffer and truncated gradients do to error, speed and memory, on shortest paths."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..benchmarks.memory import peak_bytes
from ..differentiation import Differentiation, Truncated, Unroll
from ..evaluation.evaluate import evaluate, finite
from ..presets import finished
from ..seeding import stream
from .runs import Laboratory, Run
from .tables import markdown, page

_TASK = "shortest-path"
_PROBLEMS = 200
_FILLED = 4
"""Iterations after which the replay buffer has rows and the optimizer its state."""


def reproduce(laboratory: Laboratory, preset: str, seeds: int) -> list[Path]:
    """Train and measure the four combinations. Returns the paths of the written files."""
    gradients: dict[str, Differentiation] = {"last step": Truncated(1), "all steps": Unroll()}
    rows = []
    for replayed in (True, False):
        for name, differentiation in gradients.items():
            laboratory.log(f"table2: {'with' if replayed else 'without'} replay, gradients through {name}")
            rows.append({"replay": replayed, "gradients": name, **_row(laboratory, preset, replayed, differentiation)})
    path = laboratory.results / "table2.json"
    problems = min(_PROBLEMS, laboratory.problems)
    content = {"kind": "table2", "command": laboratory.command, "task": _TASK, "preset": preset, "problems": problems}
    result = laboratory.write(path, {**content, "iterations": laboratory.iterations, "rows": rows})
    return [path, laboratory.write_page("table2.md", table(result))]


def _row(laboratory: Laboratory, preset: str, replayed: bool, differentiation: Differentiation) -> dict[str, Any]:
    """Error, speed and memory of one combination, from one run."""
    domain = laboratory.domains[_TASK]
    chosen = laboratory.preset(Run(_TASK, "irem", preset)).changed(
        {"iterations": laboratory.iterations, "differentiation": differentiation}
    )
    chosen = chosen if replayed else chosen.changed({"replay": 0})
    trainer, used = chosen.prepare(_TASK, domain.task_at(chosen), cpu=laboratory.device == "cpu")
    for _ in range(min(_FILLED, chosen.iterations)):
        trainer.step()
    memory = peak_bytes(trainer.step, laboratory.device)
    left = max(1, chosen.iterations - _FILLED - 1)
    # On the CPU, the processor's own time: other processes do not add to it.
    clock: Callable[[], float] = time.process_time if laboratory.device == "cpu" else time.perf_counter
    begin = clock()
    trainer.fit(left)
    seconds = (clock() - begin) / left
    model, task = finished(trainer, used).to(laboratory.device), domain.task_at(chosen)
    errors = {}
    for difficulty in task.difficulties:
        generator = stream(f"table2 {difficulty}", 0, laboratory.device)
        problems = min(_PROBLEMS, laboratory.problems)
        found = evaluate(model, task, difficulty, problems, generator, curve=False)
        errors[difficulty] = {"error": finite(found.error), "standard_error": finite(found.standard_error)}
    return {"errors": errors, "seconds_per_iteration": seconds, "peak_mib": memory / 2**20}


def table(result: dict[str, Any]) -> str:
    """The table, as Markdown."""
    rows = []
    for row in result["rows"]:
        errors = [_shown(found) for found in row["errors"].values()]
        speed = f"{1 / row['seconds_per_iteration']:.1f}"
        rows.append(["yes" if row["replay"] else "no", row["gradients"], *errors, speed, f"{row['peak_mib']:.0f}"])
    names = [f"error, {name}" for name in result["rows"][0]["errors"]]
    headings = ("replay", "gradients through", *names, "iterations a second", "peak memory, MiB")
    return page(_INTRODUCTION.format(**result), markdown(headings, rows))


def _shown(found: dict[str, float | None]) -> str:
    if found["error"] is None:
        return "not finite"
    return f"{found['error']:.3g} ± {found['standard_error']:.1g}"


_INTRODUCTION = (
    "# Table 2: replay and truncated gradients\n\nShortest paths, `{preset}` settings, {iterations:,} iterations, "
    "seed 0; mean squared error ± standard error on {problems} fresh problems of each size, at the steps where the "
    "solver halts. Each row is one training run: its speed (by the processor's own time on a CPU) and the peak memory "
    "of tensors in an iteration were measured in it. A batch with replay has twice as many graphs."
)
