"""Derivatives of solutions against finite differences in float64 (`torch.autograd.gradcheck`)."""

import optree
import pytest
import torch
import torchopt
from convex_energies import Convex, ConvexRows, randn
from torch.autograd.gradcheck import GradcheckError
from torch.nn import functional as F

from energysolve import (
    SGD,
    Adam,
    EnergySolver,
    GradientNorm,
    Implicit,
    Momentum,
    Never,
    Projected,
    RMSProp,
    TorchOpt,
    Truncated,
    Unroll,
)
from energysolve.optimizers import Ball, Box, Simplex

OPTIMIZERS = {
    "sgd": SGD(0.3),
    "momentum": Momentum(0.2, 0.5),
    "adam": Adam(0.3),
    "rmsprop": RMSProp(0.1),
    "adamw": TorchOpt(lambda: torchopt.adamw(0.3, weight_decay=0.1)),
}
HALTING = {"never": (Never(), 5), "halting": (GradientNorm(0.8), 12)}


def check(solve, inputs):
    assert torch.autograd.gradcheck(lambda *_: solve(), tuple(inputs), eps=1e-6, atol=1e-6, rtol=1e-4)


def inputs_of(energy, x):
    return [x, *energy.parameters()]


def solution_of(energy, optimizer, differentiation, halting, max_steps, x, y, **options):
    solver = EnergySolver(
        energy, optimizer, halting=halting, differentiation=differentiation, max_steps=max_steps, **options
    )
    return solver.minimize(x, y)


@pytest.mark.parametrize("ends", HALTING)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_unroll_dense(name, ends):
    energy, x, y = Convex(), randn(3, 2, seed=0).requires_grad_(), randn(3, 2, seed=1)
    halting, max_steps = HALTING[ends]

    def solve():
        return solution_of(energy, OPTIMIZERS[name], Unroll(), halting, max_steps, x, y)

    if ends == "halting":  # through samples that halt at different steps
        assert len(solve().steps.unique()) > 1
        assert solve().converged.all()
    check(lambda: solve().y, inputs_of(energy, x))


@pytest.mark.parametrize("ends", HALTING)
def test_unroll_segment(ends):
    energy, x, y = ConvexRows(), randn(5, 2, seed=0).requires_grad_(), randn(5, 2, seed=1)
    halting, max_steps = HALTING[ends]

    def solve():
        return solution_of(
            energy, Momentum(0.1, 0.5), Unroll(), halting, max_steps, x, y, layout=lambda x: ConvexRows.layout
        )

    check(lambda: solve().y, inputs_of(energy, x))


def test_unroll_reaches_the_initial_point():
    energy, x = Convex(), randn(2, 2, seed=0)
    y = randn(2, 2, seed=1).requires_grad_()
    check(lambda: solution_of(energy, Adam(0.05), Unroll(), Never(), 4, x, y).y, [y])


@pytest.mark.parametrize("optimizer", [SGD(0.5), Momentum(0.4, 0.3)], ids=repr)
@pytest.mark.parametrize("energy_type", [Convex, ConvexRows])
def test_implicit(energy_type, optimizer):
    energy, x = energy_type(), randn(5, 2, seed=0).requires_grad_()
    options = {"layout": lambda x: ConvexRows.layout} if energy_type is ConvexRows else {}
    tight = optimizer, Implicit(), GradientNorm(1e-12), 300
    # Each solve starts beside the answer: where it starts makes no difference, but it makes the check quick.
    near = solution_of(energy, *tight, x, randn(5, 2, seed=1), **options).y.detach() + 1e-5

    def solve():
        return solution_of(energy, *tight, x, near, **options)

    assert solve().converged.all()
    check(lambda: solve().y, inputs_of(energy, x))


def tree_energy(x, y, z):
    """Problem, answer and scratchpad all count; y is a tree, z a tensor, and both interact."""
    a, (b,) = y["a"], y["b"]
    fit = (a - x["p"]).square().sum(-1) + (b - x["q"].sin()).square()
    return fit + (z - a.sum(-1, keepdim=True) * b.unsqueeze(1)).square().sum(-1) + F.softplus(a * x["p"]).sum(-1)


@pytest.mark.parametrize(
    ("differentiation", "halting", "max_steps"),
    [(Unroll(), Never(), 4), (Unroll(), GradientNorm(2.5), 12), (Implicit(), GradientNorm(1e-11), 1000)],
    ids=["unroll-never", "unroll-halting", "implicit"],
)
def test_trees_and_scratchpads(differentiation, halting, max_steps):
    x = {"p": randn(2, 2, seed=0).requires_grad_(), "q": randn(2, seed=1).requires_grad_()}
    start = {"a": randn(2, 2, seed=2), "b": (randn(2, seed=3),)}, randn(2, 1, seed=4)
    solver = EnergySolver(
        tree_energy, Momentum(0.1, 0.6), halting=halting, differentiation=differentiation, max_steps=max_steps
    )
    if isinstance(differentiation, Implicit):
        near = solver.minimize(x, *start)
        start = optree.tree_map(lambda leaf: leaf.detach() + 1e-5, (near.y, near.z))

    def solve():
        solution = solver.minimize(x, *start)
        assert solution.converged.all() or isinstance(halting, Never)
        return solution.y["a"], solution.y["b"][0], solution.z

    check(solve, x.values())


CONSTRAINTS = {
    "box-inactive": (Box(-50.0, 50.0), False),
    "box-active": (Box(-0.2, 0.3), True),
    "ball-inactive": (Ball(50.0), False),
    "ball-active": (Ball(0.3), True),
    "simplex": (Simplex(), True),
}


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_unroll_projected(name):
    projection, active = CONSTRAINTS[name]
    energy, x, y = Convex(), randn(3, 2, seed=0).requires_grad_(), randn(3, 2, seed=1) / 5

    def solve(optimizer):
        return solution_of(energy, optimizer, Unroll(), Never(), 6, x, y).y

    plain, projected = solve(SGD(0.2)), solve(Projected(SGD(0.2), projection))
    assert torch.equal(plain, projected) != active
    check(lambda: solve(Projected(SGD(0.2), projection)), inputs_of(energy, x))


def test_truncated_to_all_the_steps():
    energy, x, y = Convex(), randn(3, 2, seed=0).requires_grad_(), randn(3, 2, seed=1)
    halting, max_steps = HALTING["halting"]
    check(
        lambda: solution_of(energy, SGD(0.3), Truncated(12), halting, max_steps, x, y).y,
        inputs_of(energy, x),
    )


def test_truncated_leaves_out_the_earlier_steps():
    energy, x, y = Convex(), randn(3, 2, seed=0).requires_grad_(), randn(3, 2, seed=1)
    with pytest.raises(GradcheckError, match="Jacobian mismatch"):
        check(lambda: solution_of(energy, SGD(0.1), Truncated(1), Never(), 5, x, y).y, inputs_of(energy, x))
