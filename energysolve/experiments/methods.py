"""The methods that the paper compares: how each is trained and loaded again."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .. import baselines
from ..baselines import Baseline
from ..presets.catalog import TASKS
from ..presets.recipes import recipe_of
from ..presets.structured import best, train_best
from ..pretrained.files import load as load_solver
from ..pretrained.files import save as save_solver
from ..seeding import stream
from ..solver import EnergySolver
from ..training import Checkpoints, Replayable, SupervisedTrainer, make_accelerator

_CHECKPOINT_EVERY = 500


@dataclass(frozen=True)
class Method:
    """A method of the tables.

    Attributes:
        title: the paper's name for it.
        train: from the task, the preset, settings that differ from the preset's and a folder; trains, going on from the
            checkpoints in the folder if there are any, saves into it, and returns the settings and the time.
        load: what was saved, from the folder.
    """

    title: str
    train: Callable[[str, str, Mapping[str, Any], Path], dict[str, Any]]
    load: Callable[[Path], Any]


def _train_solver(task: str, preset: str, changes: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    if preset == "best":
        return _train_best(task, folder, **changes)
    recipe = recipe_of(task, preset).changed({"validate_every": 0, **changes})
    _, trainer, solver = recipe.build(task, TASKS[task])
    fitted = _fit(trainer, recipe.iterations, folder)
    save_solver(solver.replace(energy=trainer.trained_model).to("cpu").eval(), folder)
    return {"settings": recipe.to_json(), **fitted}


def _train_best(task: str, folder: Path, seed: int) -> dict[str, Any]:
    begin = time.perf_counter()
    solver = train_best(task, seed)
    settings = best(task).to_json() | {"seed": seed}
    save_solver(solver, folder, settings)
    return {"settings": settings, "seconds": round(time.perf_counter() - begin, 1)}


def _train_baseline(make: Callable[..., Baseline], task: str, preset: str, changes: Mapping[str, Any], folder: Path):
    recipe = recipe_of(task, preset).changed(changes)
    source = TASKS[task].make_task(recipe.size or TASKS[task].size)
    x, target = source.sample(1)
    torch.manual_seed(recipe.seed)
    model = make(x[0].numel(), tuple(target.shape[1:]))
    accelerator = make_accelerator(recipe.training.precision)
    trainer = SupervisedTrainer(
        model,
        source,
        recipe.training if isinstance(model, Replayable) else recipe.training.changed({"replay": 0}),
        generator=stream(f"train {task}", recipe.seed, accelerator.device),
        accelerator=accelerator,
    )
    fitted = _fit(trainer, recipe.iterations, folder)
    baselines.save(trainer.trained_model.to("cpu").eval(), folder)
    return {"settings": recipe.to_json(), **fitted}


def _fit(trainer: Any, iterations: int, folder: Path) -> dict[str, Any]:
    """Train with checkpoints; the seconds that it took, in the sitting that ended the run."""
    checkpoints = Checkpoints(folder / "checkpoints", every=_CHECKPOINT_EVERY, keep=1)
    before = max(checkpoints.iterations(), default=0)
    begin = time.perf_counter()
    trainer.fit(iterations, checkpoints=checkpoints, resume=True)
    seconds = time.perf_counter() - begin
    return {"iterations": iterations, "resumed_after": before, "seconds": round(seconds, 1)}


def _load_solver(folder: Path) -> EnergySolver:
    return load_solver(EnergySolver, folder)


def _baseline(title: str, make: Callable[..., Baseline]) -> Method:
    def train(task: str, preset: str, changes: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        return _train_baseline(make, task, preset, changes, folder)

    return Method(title, train, baselines.load)


METHODS: dict[str, Method] = {
    "feedforward": _baseline("Feedforward", baselines.Feedforward),
    "recurrent": _baseline("Recurrent", baselines.Recurrent),
    "programmatic": _baseline("Programmatic (PonderNet)", baselines.PonderNet),
    "iterative": _baseline("Iterative feedforward", baselines.IterativeFeedforward),
    "unrolled": _baseline("Iterative feedforward, unrolled", baselines.UnrolledFeedforward),
    "irem": Method("IREM", _train_solver, _load_solver),
}
"""In the order of the paper's tables, the iterative network in two ways: as its text and as the release has it."""
