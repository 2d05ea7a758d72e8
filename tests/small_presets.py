"""Presets of a few iterations on small problems, in place of those of the command line."""

from energysolve.experiments import methods, scratchpad, table3
from energysolve.presets import recipes
from energysolve.presets.structured import best
from energysolve.training import TrainingConfig


def use(monkeypatch):
    recipe = recipes.Recipe(4, size=9, width=8, test_max_steps=9, training=TrainingConfig(batch_size=8, replay=20))
    monkeypatch.setattr(recipes, "PRESETS", {"paper": recipe, "tuned": recipe.changed({"lr": 2e-3})})
    monkeypatch.setattr(recipes, "_OWN", {})
    monkeypatch.setattr(table3, "ITERATIONS", 2)
    monkeypatch.setattr(scratchpad, "ITERATIONS", 2)
    monkeypatch.setattr(methods, "_CHECKPOINT_EVERY", 2)
    monkeypatch.setattr(methods, "train_best", untrained)


def untrained(name, seed):
    settings = best(name)
    return settings.make_solver(settings.make_energy(seed)).replace(max_steps=5).eval()
