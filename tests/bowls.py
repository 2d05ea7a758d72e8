"""Quadratic energies with known landscapes."""

import torch

from energysolve import SGD, Energy, EnergySolver, Never, Uniform


class Bowl(Energy):
    """``sum w (y - x)^2 + 3``, with curvatures ``w`` that all samples share; it counts what it encodes."""

    def __init__(self, weights):
        super().__init__()
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float64))
        self.encoded = []

    def encode(self, x):
        self.encoded.append(len(x))
        return x

    def evaluate(self, context, y):
        return (self.weights * (y - context).flatten(1).square()).sum(1) + 3 + context.flatten(1).sum(1)


def generator():
    return torch.Generator().manual_seed(0)


def bowl(*weights, steps=30, **fields):
    """A solver and 5 problems with the answers x."""
    shape = fields.pop("shape", (len(weights),))
    solver = EnergySolver(Bowl(weights), SGD(lr=0.1), init=Uniform(shape), halting=Never(), max_steps=steps)
    x = torch.randn(5, *shape, dtype=torch.float64, generator=generator())
    return solver.replace(**fields), x


def direct(weights, x, y):
    return (torch.tensor(weights, dtype=torch.float64) * (y - x).square()).sum(-1) + 3 + x.sum()
