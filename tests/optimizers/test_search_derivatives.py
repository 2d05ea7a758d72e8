"""Derivatives of the answers of optimizers that search: each mode follows the accepted steps."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from energysolve import (
    LBFGS,
    Energy,
    EnergySolver,
    GradientNorm,
    Implicit,
    Segment,
    Truncated,
    Unroll,
)

SEARCHING = [LBFGS(), LBFGS(memory=2)]
searching = pytest.mark.parametrize("optimizer", SEARCHING, ids=repr)


def randn(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Convex(Energy):
    """``1/2 |y - xU|^2 + sum softplus(yW)``, which has one minimum."""

    def __init__(self):
        super().__init__()
        self.from_x = nn.Parameter(randn(2, 2, seed=10))
        self.from_y = nn.Parameter(2 * randn(2, 3, seed=11))

    def encode(self, x):
        return x @ self.from_x

    def evaluate(self, context, y):
        return (y - context).square().sum(-1) / 2 + F.softplus(y @ self.from_y).sum(-1)


class ConvexRows(Convex):
    """The same for samples of several rows, which their total couples."""

    layout = Segment(torch.tensor([1, 0, 2, 1, 0]), 3)

    def evaluate(self, context, y):
        rows = super().evaluate(context, y).unsqueeze(1)
        total = y.new_zeros(self.layout.batch, y.shape[1]).index_add(0, self.layout.index, y)
        return self.layout.sum(rows) + 0.2 * total.square().sum(-1)


class Valley(Convex):
    """A curved valley, in which some candidates are refused."""

    def evaluate(self, context, y):
        bend = 10 * (y[:, 1] - y[:, 0].square() - context[:, 0]).square()
        return bend + (y[:, 0] - context[:, 1]).square() + F.softplus(y @ self.from_y).sum(-1)


ENERGIES = {"dense": Convex, "segment": ConvexRows, "valley": Valley}


def solve(energy, optimizer, mode, halting, max_steps, x, y, **options):
    layout = (lambda x: ConvexRows.layout) if isinstance(energy, ConvexRows) else None
    solver = EnergySolver(
        energy, optimizer, halting=halting, differentiation=mode, max_steps=max_steps, layout=layout, **options
    )
    return solver.minimize(x, y)


def check(function, energy, x, atol=1e-6):
    inputs = (x, *energy.parameters())
    assert torch.autograd.gradcheck(lambda *_: function(), inputs, atol=atol, rtol=1e-4, fast_mode=True)


@searching
@pytest.mark.parametrize("name", ENERGIES)
@pytest.mark.parametrize("mode", [Implicit(), Truncated(2), Unroll()], ids=repr)
def test_at_convergence(mode, name, optimizer):
    """Where lengths of early steps are constants, later steps make up for it; two steps do so to some digits."""
    energy = ENERGIES[name]()
    rows = 5 if name == "segment" else 2
    x, y = randn(rows, 2, seed=0).requires_grad_(), randn(rows, 2, seed=1)

    def solution():
        return solve(energy, optimizer, mode, GradientNorm(1e-11), 100, x, y)

    assert solution().converged.all()
    check(lambda: solution().y, energy, x, atol=1e-3 if isinstance(mode, Truncated) else 1e-6)
