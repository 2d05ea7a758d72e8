"""What laws of solves have in common: one solve drawn at random, and comparisons of its parts."""

import os
from dataclasses import dataclass

import optree
import torch
from hypothesis import HealthCheck, settings

from energysolve import EnergySolver, Halting
from energysolve.engine.objective import Objective
from energysolve.optimizers import InnerOptimizer
from energysolve.testing.strategies import Batch, RowWise, batch_layout


def law(examples: int) -> settings:
    return settings(
        max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
    )


LAW = law(20 if os.environ.get("CI") else 200)


@dataclass(frozen=True, eq=False)
class Case:
    """One solve."""

    energy: RowWise
    optimizer: InnerOptimizer
    halting: Halting
    batch: Batch
    max_steps: int

    def solver(self, **parts) -> EnergySolver:
        parts = {"halting": self.halting, "max_steps": self.max_steps, "layout": batch_layout} | parts
        return EnergySolver(self.energy, parts.pop("optimizer", self.optimizer), **parts)

    def solve(self, batch=None, **parts):
        batch = batch or self.batch
        return self.solver(**parts).minimize(batch.x, batch.y, batch.z)

    def energies(self, y, z):
        free = (y,) if z is None else (y, z)
        return Objective(self.energy.evaluate, self.batch.x, self.batch.layout)(free).energy


def equal(a, b) -> bool:
    """Whether two trees hold the same numbers."""
    pairs = zip(optree.tree_leaves(a), optree.tree_leaves(b), strict=True)
    return all(torch.equal(p, q) for p, q in pairs)


def rows(layout, mask, tree):
    """The parts of a tree that belong to the samples in ``mask``."""
    _, chosen = layout.select(mask.nonzero().flatten())
    return optree.tree_map(lambda leaf: leaf[chosen], tree)
