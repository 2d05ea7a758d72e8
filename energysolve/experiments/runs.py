"""The training runs behind the paper's tables and figures, each with a result file of its own.

A run is trained once, however many tables it stands in, and goes on where it was interrupted: checkpoints and weights
are kept in one folder, small result files with everything that tables need in another.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from .. import baselines
from ..files import write_atomic, write_json
from ..landscape.descents import DescentPath, descent
from ..presets import DOMAINS, Domain, Preset, finished
from ..pretrained.files import CONFIG
from ..provenance import environment
from ..seeding import stream
from ..solver import EnergySolver
from ..training import Checkpoints
from .measure import PROBLEMS, measure


@dataclass(frozen=True)
class Run:
    """One model, trained.

    Attributes:
        task: the name of a domain.
        method: one of `METHODS`.
        preset: the name of one of the domain's presets.
        seed: of the initial weights, the problems and everything else.
        variant: settings that differ from the preset's, by name.
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
        device: where models are trained and evaluated.
        domains: the tasks, by name.
        iterations: of the runs of `table3` and `scratchpad`, which compare settings of training.
        checkpoint_every: iterations between checkpoints.
    """

    models: Path
    results: Path
    command: str
    problems: int = PROBLEMS
    log: Callable[[str], None] = lambda line: None
    device: str = "cpu"
    domains: Mapping[str, Domain] = field(default_factory=lambda: DOMAINS)
    iterations: int = 2000
    checkpoint_every: int = 500

    def preset(self, run: Run) -> Preset:
        """The preset of a run, with the run's seed and changed settings."""
        preset = self.domains[run.task].preset(run.preset, run.method)
        return preset.changed({"validate_every": 0, "seed": run.seed, **dict(run.variant)})

    def result(self, run: Run) -> dict[str, Any]:
        """The result of a run: from its file, or else made now.

        Raises:
            ValueError: if the file holds an evaluation on another number of problems.
        """
        path = self.results / "runs" / f"{run.name}.json"
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["problems"] != self.problems:
                raise ValueError(
                    f"{path} holds an evaluation on {found['problems']} problems, and {self.problems} are asked for. "
                    f"Choose another folder for results, or ask for {found['problems']}."
                )
            return found
        model = self.model(run)
        self.log(f"{run.name}: evaluating")
        content = {
            "kind": "run",
            "name": run.name,
            "command": self.command,
            **{name: getattr(run, name) for name in ("task", "method", "preset", "seed")},
            "variant": dict(run.variant),
            "training": json.loads((self.models / run.name / "training.json").read_text(encoding="utf-8")),
            **measure(model.to(self.device), self.domains[run.task], run.seed, self.problems, self.device),
        }
        return self.write(path, content)

    def model(self, run: Run) -> Any:
        """The solver or baseline of a run: loaded, or else trained now."""
        folder = self.models / run.name
        if not (folder / CONFIG).exists():
            self.log(f"{run.name}: training")
            self._train(run, folder)
        return EnergySolver.from_pretrained(folder) if run.method == "irem" else baselines.load(folder)

    def _train(self, run: Run, folder: Path) -> None:
        domain, preset = self.domains[run.task], self.preset(run)
        trainer, used = preset.prepare(domain.name, domain.task_at(preset), cpu=self.device == "cpu")
        checkpoints = Checkpoints(folder / "checkpoints", every=self.checkpoint_every, keep=1)
        resumed = max(checkpoints.iterations(), default=0)
        begin = time.perf_counter()
        trainer.fit(preset.iterations, checkpoints=checkpoints, resume=True)
        seconds = round(time.perf_counter() - begin, 1)  # of the last sitting
        settings = preset.to_json()
        training = {"settings": settings, "iterations": preset.iterations, "resumed_after": resumed, "seconds": seconds}
        write_json(folder / "training.json", training | environment(self.device))
        model = finished(trainer, used)
        if isinstance(model, EnergySolver):
            model.save_pretrained(folder, training={"task": run.task, "preset": run.preset, "settings": settings})
        else:
            baselines.save(model, folder)

    def write(self, path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
        """Write a result file, with versions, hardware and date; returns what it holds."""
        whole = {**content, **environment(self.device)}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, whole)
        return whole

    def write_page(self, name: str, text: str) -> Path:
        """Write a Markdown page among the results; its file."""
        path = self.results / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text.encode())
        return path

    def fresh_descent(self, task: str, preset: str, purpose: str, problems: int) -> tuple[DescentPath, torch.Tensor]:
        """Fresh problems of the easiest difficulty, solved by the model of the first seed; with their targets."""
        solver = self.model(Run(task, "irem", preset, 0))
        source = self.domains[task].task_for(solver)
        generator = stream(f"{purpose} {task}", 0)
        x, target = source.sample(problems, generator=generator)
        return descent(solver.suited(source), x, generator=generator), target
