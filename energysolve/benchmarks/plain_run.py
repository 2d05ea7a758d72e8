"""A long run of the plain reference, which can be interrupted at any moment and resumed."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from ..files import write_atomic
from ..seeding import stream
from .reference import PlainTraining, plain_descent
from .setting import Setting
from .timing import clock

TESTS = {"10 steps of 100": (10, 100.0), "80 steps of 10": (80, 10.0)}
"""Steps and step sizes with which the authors' release is evaluated."""

Problems = dict[str, tuple[Tensor, Tensor, Tensor]]
"""Problems, targets and initial answers by difficulty."""


@dataclass
class PlainRun:
    """The reference with its history.

    Args:
        setting: the training to measure.
        path: file for the state that `resume` needs; None to keep none.

    Attributes:
        seconds: training time so far, without evaluations.
        history: for each evaluation, the ``iteration``, the ``seconds`` so far, and the ``errors`` by test and
            difficulty.
    """

    setting: Setting
    path: Path | None = None
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self):
        self.training: PlainTraining = self.setting.reference()

    @property
    def iteration(self) -> int:
        """Number of iterations so far."""
        return self.history[-1]["iteration"] if self.history else 0

    def advance(self, problems: Problems, iterations: int) -> None:
        """Train for some iterations, evaluate, and save the state."""
        # Reseeded, so that a resumed run draws the same numbers as an uninterrupted one.
        self.training.seed(stream(f"bench reference {self.iteration}", self.setting.seed).initial_seed())
        begin = clock(self.setting.device)
        for _ in range(iterations):
            self.training.step()
        self.seconds += clock(self.setting.device) - begin
        errors = {test: self._errors(problems, *numbers) for test, numbers in TESTS.items()}
        self.history.append({"iteration": self.iteration + iterations, "seconds": self.seconds, "errors": errors})
        if self.path is not None:
            self._save(self.path)

    def reached(self, targets: dict[str, float]) -> dict[str, Any] | None:
        """The first evaluation at which one test met all targets, or None."""
        for at in self.history:
            for errors in at["errors"].values():
                if all(errors[name] <= target for name, target in targets.items()):
                    return at
        return None

    def resume(self) -> None:
        """Load the saved state, if there is any.

        Raises:
            ValueError: if it belongs to another setting.
        """
        if self.path is None or not self.path.exists():
            return
        with safetensors.safe_open(self.path, framework="pt") as file:
            content = json.loads((file.metadata() or {})["run"])
        if content["setting"] != self.setting.to_json():
            raise ValueError(
                f"{self.path} holds a run of another setting: {content['setting']}. Start again without --resume."
            )
        self.training.load(safetensors.torch.load_file(self.path))
        self.seconds, self.history = content["seconds"], content["history"]

    def _errors(self, problems: Problems, steps: int, step_size: float) -> dict[str, float]:
        return {
            name: (plain_descent(self.training.energy, x, y, steps, step_size) - target).square().mean().item()
            for name, (x, target, y) in problems.items()
        }

    def _save(self, path: Path) -> None:
        content = {"setting": self.setting.to_json(), "seconds": self.seconds, "history": self.history}
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.training.state().items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, safetensors.torch.save(tensors, metadata={"run": json.dumps(content)}))
