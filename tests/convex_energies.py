"""Convex energies with parameters, for tests of derivatives."""

import torch
from torch import nn
from torch.nn import functional as F

from energysolve import Energy, Segment


def randn(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Convex(Energy):
    """Strictly convex in y, so every minimum is unique: ``1/2 |y - xU|^2 + sum softplus(yW)``."""

    def __init__(self, steepness=1.0):
        super().__init__()
        self.from_x = nn.Parameter(randn(2, 2, seed=10))
        self.from_y = nn.Parameter(steepness * randn(2, 3, seed=11))

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
