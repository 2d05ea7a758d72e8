"""The training runs behind the paper's tables and figures, each with a result file of its own.

A run is trained once, however many tables it stands in, and goes on where it was interrupted: checkpoints and weights
are kept in one folder, small result files with everything that tables need in another.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..evaluation.measurement import PROBLEMS, measure
from ..files import write_atomic, write_json
from ..pretrained.files import CONFIG
from ..provenance import environment
from .methods import METHODS, Method


@dataclass(frozen=True)
class Run:
    """One model, trained.

    Attributes:
        task: one of the catalog's.
        method: one of `METHODS`.
        preset: ``"paper"``, ``"tuned"`` or ``"best"``.
        seed: of the initial weights, the problems and everything else.
        variant: settings of the recipe that differ from the preset's, by name.
    """

    task: str
    method: str = "irem"
    preset: str = "paper"
    seed: int = 0
    variant: tuple[tuple[str, float], ...] = ()

    @property
    def name(self) -> str:
        """The name of its folder and of its result file."""
        changes = [f"{name.replace('_', '-')}-{value:g}" for name, value in self.variant]
        return "-".join([self.task, self.method, self.preset, *changes, f"seed{self.seed}"])


@dataclass(frozen=True)
class Laboratory:
    """Where runs are made and their results kept.

    Attributes:
        models: the folder of weights and checkpoints.
        results: the folder of result files.
        command: how to repeat what is done here.
        problems: of each difficulty, to evaluate on.
        log: called with a line of progress.
    """

    models: Path
    results: Path
    command: str
    problems: int = PROBLEMS
    log: Callable[[str], None] = lambda line: None

    def result(self, run: Run) -> dict[str, Any]:
        """The result of a run: from its file, or else made now."""
        path = self.results / "runs" / f"{run.name}.json"
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8"))
        model = self.model(run)
        self.log(f"{run.name}: evaluating")
        training = json.loads((self.models / run.name / "training.json").read_text(encoding="utf-8"))
        content = {
            "kind": "run",
            "name": run.name,
            "command": self.command,
            **{name: getattr(run, name) for name in ("task", "method", "preset", "seed")},
            "variant": dict(run.variant),
            "training": training,
            **measure(model, run.task, run.seed, self.problems),
        }
        return self.write(path, content)

    def model(self, run: Run) -> Any:
        """The solver or baseline of a run: loaded, or else trained now."""
        folder = self.models / run.name
        method: Method = METHODS[run.method]
        if not (folder / CONFIG).exists():
            self.log(f"{run.name}: training")
            settings = method.train(run.task, run.preset, {"seed": run.seed, **dict(run.variant)}, folder)
            write_json(folder / "training.json", settings | environment())
        return method.load(folder)

    def write(self, path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
        """Write a result file, with versions, hardware and date; returns what it holds."""
        whole = {**content, **environment()}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, whole)
        return whole

    def write_page(self, name: str, text: str) -> Path:
        """Write a Markdown page among the results; its file."""
        path = self.results / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text.encode())
        return path
