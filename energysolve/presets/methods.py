"""The methods that the paper compares, as presets for the same tasks."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..baselines import Baseline, Feedforward, IterativeFeedforward, PonderNet, Recurrent, UnrolledFeedforward
from ..tasks import Task
from .preset import Preset, Settings, as_trained

METHODS: Mapping[str, str] = {
    "feedforward": "Feedforward",
    "recurrent": "Recurrent",
    "programmatic": "Programmatic (PonderNet)",
    "iterative": "Iterative feedforward",
    "unrolled": "Iterative feedforward, unrolled",
    "dncnn": "DnCNN",
    "irem": "IREM",
}
"""Titles, in the order of the paper's tables. The iterative network has two entries: one follows the paper's text, one
the authors' release."""

BASELINES: Mapping[str, type[Baseline]] = {
    "feedforward": Feedforward,
    "recurrent": Recurrent,
    "programmatic": PonderNet,
    "iterative": IterativeFeedforward,
    "unrolled": UnrolledFeedforward,
}


def baseline_preset(preset: Preset, kind: type[Baseline]) -> Preset:
    """A preset that trains a baseline in place of the energy, with the same iterations and training settings."""

    def build(task: Task, settings: Settings) -> Any:
        return kind.of_task(task)

    return replace(preset, build=build, in_use=as_trained, settings={}, validate_every=0, early_stopping=None)
