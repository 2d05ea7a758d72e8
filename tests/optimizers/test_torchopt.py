"""Adapted torchopt transformations."""

import pytest
import torch

from energysolve import Adam, EnergySolver, Never, RMSProp


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Adam(0.1), lambda leaves: torch.optim.Adam(leaves, lr=0.1)),
        (RMSProp(0.1), lambda leaves: torch.optim.RMSprop(leaves, lr=0.1)),
    ],
    ids=["adam", "rmsprop"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_counts_are_as_precise_as_the_answers(ours, theirs, dtype):
    """Whatever torch's default dtype is: bias corrections are powers of the decays."""
    x = torch.linspace(1, 3, 8, dtype=dtype).view(2, 4)
    y = torch.zeros(2, 4, dtype=dtype)
    solver = EnergySolver(lambda x, y: ((y - x) ** 4).sum(1), ours, halting=Never(), max_steps=25)
    found = solver.minimize(x, y).y
    leaf = y.clone().requires_grad_()
    optimizer = theirs([leaf])
    for _ in range(25):
        optimizer.zero_grad()
        ((leaf - x) ** 4).sum().backward()
        optimizer.step()
    torch.testing.assert_close(found, leaf.detach(), rtol=50 * torch.finfo(dtype).eps, atol=0)
