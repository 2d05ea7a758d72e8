"""``energysolve solve``."""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ..experiments.catalog import Entry
from ..experiments.environment import environment
from ..experiments.evaluation import Evaluation, evaluate, stream
from ..experiments.report import comparison, print_evaluations
from ..pretrained.files import find, read_config, write_whole
from .common import TaskName, command_line, entry_of, load_model


def solve(
    task: TaskName,
    problems: Annotated[int, typer.Option(min=1, help="Fresh problems of each difficulty.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the problems and the initial answers.")] = 0,
    model: Annotated[str | None, typer.Option(help="A shipped name or a folder; by default the task's own.")] = None,
    max_steps: Annotated[int | None, typer.Option(min=0, help="In place of the model's.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder for figure and numbers; default out/solve-TASK.")] = None,
):
    """Solve fresh problems with a trained energy: error against steps, convergence, distribution of steps."""
    from ..experiments.figure import (
        save_figure,
    )  # matplotlib takes a second to import, which the other commands need not wait for

    entry = entry_of(task)
    solver, source = load_model(model or task, entry, max_steps)
    folder = output or Path("out") / f"solve-{task}"
    folder.mkdir(parents=True, exist_ok=True)
    console = Console()
    console.print(f"{entry.title}: {problems} fresh problems of each difficulty, seed {seed}, model {model or task}")
    console.print(
        f"{solver.optimizer}, {solver.halting}, at most {solver.max_steps} steps\n", soft_wrap=True, highlight=False
    )
    generator = stream(f"solve {task}", seed)
    started = time.perf_counter()
    evaluations = [evaluate(solver, source, difficulty, problems, generator) for difficulty in source.difficulties]
    seconds = time.perf_counter() - started
    print_evaluations(console, evaluations, entry.paper, entry.error)
    title = f"{entry.title}, {problems:,} fresh problems of each difficulty"
    paths = save_figure(folder, evaluations, entry.paper, title, entry.error)
    result = _solve_result(task, entry, evaluations, model or task)
    result |= {"seed": seed, "max_steps": solver.max_steps, "seconds": round(seconds, 2)} | environment()
    write_whole(folder / "result.json", (json.dumps(result, indent=1, allow_nan=False) + "\n").encode())
    saved = ", ".join(map(str, [*paths, folder / "result.json"]))
    console.print(f"\nSaved {saved} ({seconds:.1f} s)", soft_wrap=True, highlight=False)


def _solve_result(task: str, entry: Entry, evaluations: list[Evaluation], model: str) -> dict[str, Any]:
    config = read_config(find(model))
    return {
        "kind": "solve",
        "task": task,
        "title": entry.title,
        "command": command_line(),
        "model": {"name": model, "sha256": config["weights"]["sha256"], "solver": config["solver"]},
        "paper": dict(entry.paper),
        "difficulties": {each.difficulty: each.to_json() for each in evaluations},
        "comparison": comparison(evaluations),
    }
