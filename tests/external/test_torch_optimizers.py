"""The inner optimizers take the steps of `torch.optim` (after torchopt's comparisons of its aliases with torch)."""

import optree
import pytest
import torch

from energysolve import SGD, Adam, EnergySolver, Momentum, Never, RMSProp, TorchOpt, Trajectory
from energysolve.energies import Bowl, Himmelblau, Rosenbrock

torchopt = pytest.importorskip("torchopt")

PAIRS = {
    "sgd": (SGD(1e-3), lambda leaves: torch.optim.SGD(leaves, lr=1e-3)),
    "momentum": (Momentum(1e-3, momentum=0.8), lambda leaves: torch.optim.SGD(leaves, lr=1e-3, momentum=0.8)),
    "adam": (Adam(0.02), lambda leaves: torch.optim.Adam(leaves, lr=0.02)),
    "rmsprop": (RMSProp(0.01), lambda leaves: torch.optim.RMSprop(leaves, lr=0.01)),
    "nesterov": (
        TorchOpt(lambda: torchopt.sgd(1e-3, momentum=0.8, nesterov=True)),
        lambda leaves: torch.optim.SGD(leaves, lr=1e-3, momentum=0.8, nesterov=True),
    ),
    "adamw": (
        TorchOpt(lambda: torchopt.adamw(0.02, weight_decay=0.1)),
        lambda leaves: torch.optim.AdamW(leaves, lr=0.02, weight_decay=0.1),
    ),
}
STEPS = 30


def randn(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


PROBLEMS = {
    "himmelblau": (Himmelblau(), torch.zeros(4, 2, dtype=torch.float64), randn(4, 2, seed=0)),
    "rosenbrock": (Rosenbrock(4), randn(3, 4, seed=1), randn(3, 4, seed=1) + 0.5 * randn(3, 4, seed=2)),
    "bowl": (
        Bowl(),
        {"a": randn(2, 3, seed=3), "b": (randn(2, seed=4),)},
        {"a": randn(2, 3, seed=5), "b": (randn(2, seed=6),)},
    ),
}


@pytest.fixture(autouse=True)
def double_precision():
    # torchopt computes Adam's bias correction in the default dtype, whichever dtype the answers have.
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("name", PAIRS)
def test_every_iterate_is_that_of_torch_optim(name, problem):
    ours, make_theirs = PAIRS[name]
    energy, x, y = PROBLEMS[problem]
    solver = EnergySolver(energy, ours, halting=Never(), recorder=Trajectory(), max_steps=STEPS)
    path = solver.minimize(x, y).record
    assert len(path.y) == STEPS + 1

    theirs = optree.tree_map(lambda leaf: leaf.clone().requires_grad_(), y)
    optimizer = make_theirs(optree.tree_leaves(theirs))
    for iterate, recorded in zip(path.y, path.energy, strict=True):
        optimizer.zero_grad()
        reference = energy(x, theirs)
        torch.testing.assert_close(recorded, reference.detach(), rtol=1e-10, atol=1e-13)
        for leaf, expected in zip(optree.tree_leaves(iterate), optree.tree_leaves(theirs), strict=True):
            torch.testing.assert_close(leaf, expected.detach(), rtol=1e-11, atol=1e-13)
        reference.sum().backward()  # samples do not interact: the gradient of the sum is that of each
        optimizer.step()
