"""The library's domains with presets of a few iterations on small problems."""

from dataclasses import replace

from energysolve.presets import DOMAINS, METHODS
from energysolve.training import TrainingConfig

_NETWORK = {"iterations": 4, "size": 9, "width": 8, "test_max_steps": 9, "validate_every": 0, "start": "paper"}


def small_domains():
    """Each with the presets ``paper``, ``tuned`` and ``best``."""
    training = TrainingConfig(batch_size=8, replay=20)
    found = {}
    for name, domain in DOMAINS.items():
        paper = replace(domain.presets["paper"].changed(_NETWORK), training=training)
        best = domain.presets["best"].changed({"iterations": 1, "size": 9, "batch_size": 2, "train_steps": 2})
        best = replace(best, in_use=lambda solver, settings: solver.replace(max_steps=5))
        presets = {"paper": paper, "tuned": paper.changed({"lr": 2e-3}), "best": best}
        found[name] = replace(domain, presets=presets)
    return found


BASELINES = [name for name in METHODS if name != "irem"]
