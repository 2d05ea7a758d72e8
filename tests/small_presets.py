"""The library's domains with presets of a few iterations on small problems."""

from dataclasses import replace

from energysolve.presets import DOMAINS, METHODS
from energysolve.training import TrainingConfig

_NETWORK = {"iterations": 4, "size": 9, "width": 8, "test_max_steps": 9, "validate_every": 0, "start": "paper"}
_GRAPHS = {"iterations": 2, "size": 4, "width": 8, "test_max_steps": 3, "validate_every": 0}


def small_domains():
    """Each with the presets ``paper``, ``tuned`` and ``best``."""
    return {
        name: _small_graphs(domain) if domain.section == "graphs" else _small(domain)
        for name, domain in DOMAINS.items()
    }


def _small(domain):
    training = TrainingConfig(batch_size=8, replay=20)
    paper = replace(domain.presets["paper"].changed(_NETWORK), training=training)
    best = domain.presets["best"].changed({"iterations": 1, "size": 9, "batch_size": 2, "train_steps": 2})
    best = replace(best, in_use=lambda solver, settings: solver.replace(max_steps=5))
    return replace(domain, presets={"paper": paper, "tuned": paper.changed({"lr": 2e-3}), "best": best})


def _small_graphs(domain):
    small = {**_GRAPHS, "batch_size": 4, "replay": 20}
    return replace(domain, presets={name: preset.changed(small) for name, preset in domain.presets.items()})


BASELINES = [name for name in METHODS if name != "irem"]
