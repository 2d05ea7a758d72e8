"""The training runs behind the paper's tables and figures, each with its own result file.

A run is trained once, even if several tables use it, and resumes after an interruption. Checkpoints and weights are in
one folder, small result files with everything that tables need in another.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from .. import baselines
from ..files import write_atomic, write_json
from ..landscape import DescentPath, descent
from ..presets import DOMAINS, Domain, Preset, finished
from ..pretrained.files import CONFIG
from ..provenance import environment
from ..seeding import stream
from ..solver import EnergySolver
from ..training import Checkpoints
from .measure import PROBLEMS, measure


@dataclass(frozen=True)
class Run:
    """The training of one model.

    Attributes:
        task: name of a domain.
        method: one of `METHODS`.
        preset: name of one of the domain's presets.
        seed: seed of all random numbers.
        variant: settings that differ from the preset's, by name.
    """

    task: str
    method: str = "irem"
    preset: str = "paper"
    seed: int = 0
    variant: tuple[tuple[str, float], ...] = ()

    @property
    def name(self) -> str:
        """The name of the run's folder and result file."""
        changes = [f"{name.replace('_', '-')}-{value:g}" for name, value in self.variant]
        return "-".join([self.task, self.method, self.preset, *changes, f"seed{self.seed}"])


@dataclass(frozen=True)
class Laboratory:
    """Makes runs and keeps their results.

    Attributes:
        models: folder of weights and checkpoints.
        results: folder of result files.
        command: the command that repeats the runs.
        problems: number of problems per difficulty to evaluate on.
        log: called with a line of progress.
        device: the device for training and evaluation.
        domains: domains by name.
        iterations: iterations of the runs of `table2`, `table3` and `scratchpad`, which compare settings of training.
        checkpoint_every: iterations between checkpoints.
        train_data: folder of the data to train on, for tasks that take one; None for the task's own.
        test_data: folder of the data to evaluate on, for experiments that take one.
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
    train_data: Path | None = None
    test_data: Path | None = None

    def continuous(self) -> dict[str, Domain]:
        """The domains on vectors and matrices, of Section 4.3 of the paper."""
        return {name: domain for name, domain in self.domains.items() if domain.section == "continuous"}

    def graphs(self) -> dict[str, Domain]:
        """The domains on graphs, of Section 4.2 of the paper."""
        return {name: domain for name, domain in self.domains.items() if domain.section == "graphs"}

    def algorithmic(self) -> dict[str, Domain]:
        """The domains of the paper's Section 4: on vectors, matrices and graphs."""
        return {**self.continuous(), **self.graphs()}

    def preset(self, run: Run) -> Preset:
        """The preset of a run, with its seed and variant."""
        preset = self.domains[run.task].preset(run.preset, run.method)
        return preset.changed({"validate_every": 0, "seed": run.seed, **dict(run.variant)})

    def result(self, run: Run) -> dict[str, Any]:
        """The result of a run, read from its file or made now.

        Raises:
            ValueError: if the file contains an evaluation on another number of problems.
        """
        path = self.results / "runs" / f"{run.name}.json"
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["problems"] != self.problems:
                raise ValueError(
                    f"{path} has an evaluation on {found['problems']} problems, and {self.problems} are asked for. "
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

    def make_all(self, tasks: Iterable[str], preset: str, seeds: int) -> None:
        """Make the missing runs of a preset: those of the energy model, and with ``"paper"`` one per other method."""
        for task in tasks:
            for method in self.domains[task].methods if preset == "paper" else ["irem"]:
                for seed in range(seeds if method == "irem" else 1):
                    self.result(Run(task, method, preset, seed))

    def model(self, run: Run) -> Any:
        """The solver or baseline of a run, loaded or trained now."""
        folder = self.models / run.name
        if not (folder / CONFIG).exists():
            self.log(f"{run.name}: training")
            self._train(run, folder)
        return EnergySolver.from_pretrained(folder) if run.method == "irem" else baselines.load(folder)

    def _train(self, run: Run, folder: Path) -> None:
        domain, preset = self.domains[run.task], self.preset(run)
        task = domain.task_at(preset, self.train_data if domain.with_data else None)
        trainer, used = preset.prepare(domain.name, task, cpu=self.device == "cpu")
        checkpoints = Checkpoints(folder / "checkpoints", every=self.checkpoint_every, keep=1)
        resumed = max(checkpoints.iterations(), default=0)
        begin = time.perf_counter()
        trainer.fit(preset.iterations, checkpoints=checkpoints, resume=True)
        seconds = round(time.perf_counter() - begin, 1)  # since the last resumption
        settings = preset.to_json()
        training = {"settings": settings, "iterations": preset.iterations, "resumed_after": resumed, "seconds": seconds}
        write_json(folder / "training.json", training | environment(self.device))
        model = finished(trainer, used)
        if isinstance(model, EnergySolver):
            model.save_pretrained(folder, training={"task": run.task, "preset": run.preset, "settings": settings})
        else:
            baselines.save(model, folder)

    def write(self, path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
        """Write a result file with versions, hardware and date; returns its content."""
        whole = {**content, **environment(self.device)}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, whole)
        return whole

    def write_page(self, name: str, text: str) -> Path:
        """Write a Markdown page to the results; returns its path."""
        path = self.results / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text.encode())
        return path

    def fresh_descent(self, task: str, preset: str, purpose: str, problems: int) -> tuple[DescentPath, torch.Tensor]:
        """The descent of the first seed's model on fresh problems of the easiest difficulty, and their targets."""
        solver = self.model(Run(task, "irem", preset, 0))
        source = self.domains[task].task_for(solver)
        generator = stream(f"{purpose} {task}", 0)
        x, target = source.sample(problems, generator=generator)
        return descent(solver.suited(source), x, generator=generator), target
