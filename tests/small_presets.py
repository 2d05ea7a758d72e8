"""The library's domains with presets of a few iterations on small problems."""

from dataclasses import replace

from energysolve.presets import DOMAINS, METHODS
from energysolve.training import TrainingConfig

_NETWORK = {"iterations": 4, "size": 9, "width": 8, "test_max_steps": 9, "validate_every": 0, "start": "paper"}
_GRAPHS = {"iterations": 2, "size": 4, "width": 8, "test_max_steps": 3, "validate_every": 0}


def small_domains():
    """Each with the presets ``paper``, ``tuned`` and ``best``."""
    small = {"continuous": _small, "graphs": _small_graphs, "images": _small_images}
    return {name: small[domain.section](domain) for name, domain in DOMAINS.items()}


def _small(domain):
    training = TrainingConfig(batch_size=8, replay=20)
    paper = replace(domain.presets["paper"].changed(_NETWORK), training=training)
    best = domain.presets["best"].changed({"iterations": 1, "size": 9, "batch_size": 2, "train_steps": 2})
    best = replace(best, in_use=lambda solver, settings: solver.replace(max_steps=5))
    return replace(domain, presets={"paper": paper, "tuned": paper.changed({"lr": 2e-3}), "best": best})


def _small_graphs(domain):
    small = {**_GRAPHS, "batch_size": 4, "replay": 20}
    return replace(domain, presets={name: preset.changed(small) for name, preset in domain.presets.items()})


def _small_images(domain):
    paper = domain.presets["paper"].changed(
        {"iterations": 2, "size": 16, "width": 4, "depth": 0, "features": 4, "batch_size": 2, "replay": 4}
    )
    return replace(domain, presets={"paper": paper, "tuned": paper, "best": paper}, method_presets={})


BASELINES = [name for name in METHODS if name not in ("irem", "dncnn")]
