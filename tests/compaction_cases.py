"""What the tests of compaction share: solves with and without it, and how to compare them."""

import warnings
from contextlib import nullcontext

import law_cases
import optree
import torch
from hypothesis import strategies as st

from energysolve import (
    SGD,
    EnergySolver,
    GradientNorm,
    Segment,
)
from energysolve.engine.compaction import CompactionWarning
from energysolve.testing.strategies import (
    Batch,
    RowWise,
    batches,
    bumpy,
    criteria,
    optimizers,
    pseudo_huber,
    quadratic,
    quartic,
)


def cliff(d):
    """A bowl with an edge, beyond which there is no number."""
    return torch.where(d > -1, d.square(), torch.nan)


class Case(law_cases.Case):
    """One solve, with or without compaction."""

    def solve(self, **parts):
        solver = self.solver(**parts)
        layout = self.batch.layout
        # Tensors of samples and of rows cannot be told apart by size where there are as many of both.
        unclear = isinstance(layout, Segment) and layout.rows == layout.batch
        with warnings.catch_warnings() if unclear else nullcontext():
            if unclear:
                warnings.simplefilter("ignore", CompactionWarning)
            return solver.minimize(self.batch.x, self.batch.y, self.batch.z)

    def leaves(self):
        return [leaf for leaf in optree.tree_leaves((self.batch.y, self.batch.z)) if isinstance(leaf, torch.Tensor)]


def cases():
    energies = st.builds(RowWise, st.sampled_from([quadratic, cliff, quartic, pseudo_huber, bumpy]))
    return st.builds(Case, energies, optimizers(), criteria(), batches(max_batch=8), st.integers(0, 20))


def identical(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan())).all())


def assert_same(a, b):
    for name in ("y", "z", "energy", "steps", "status", "record"):
        left, right = optree.tree_leaves(getattr(a, name)), optree.tree_leaves(getattr(b, name))
        assert len(left) == len(right), name
        assert all(identical(p, q) for p, q in zip(left, right, strict=True)), name


class Watched(RowWise):
    """Writes down the size of each batch that it is asked about."""

    def __init__(self, shape=quadratic):
        super().__init__(shape)
        self.sizes = []

    def evaluate(self, context, y, *z):
        energy = super().evaluate(context, y, *z)
        self.sizes.append(len(energy))
        return energy


def graded(count, rows=None):
    """Quadratics from steep to flat, which halt one after the other."""
    generator = torch.Generator().manual_seed(0)
    x = {"width": torch.linspace(1, 0.05, count, dtype=torch.float64).unsqueeze(1)}
    rows = count if rows is None else rows
    x["target"] = torch.randn(rows, 3, generator=generator, dtype=torch.float64)
    if rows != count:
        x["index"] = torch.randint(count, (rows,), generator=generator)
    return Batch(x, torch.randn(rows, 3, generator=generator, dtype=torch.float64), None)


def solver(energy, **parts) -> EnergySolver:
    parts = {"optimizer": SGD(0.1), "halting": GradientNorm(1e-3), "max_steps": 200} | parts
    return EnergySolver(energy, parts.pop("optimizer"), **parts)


def bowl(x, y):
    """A bowl around each problem, with a width of its own."""
    return (x[:, :1] * (y - x).square()).sum(-1)


def problems(count=8, features=3):
    x = torch.rand(count, features, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x[:, 0] = torch.linspace(4, 0.2, count)
    return x, torch.randn(count, features, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
