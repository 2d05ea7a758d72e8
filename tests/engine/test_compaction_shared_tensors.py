"""Compaction where samples depend on each other, or on tensors that all of them share: all samples stay."""

import pytest
import torch
from compaction_cases import assert_same, bowl, problems, solver
from torch import nn

from energysolve import (
    SGD,
    Dense,
    Trajectory,
)
from energysolve.engine.compaction import CompactionWarning


def codebook(x, y):
    """The distance to the nearest of the rows that all samples share."""
    gap = (y[:, None] - x["book"][None]).square().sum(-1).min(1).values
    return gap * x["width"][:, 0]


def matrix(x, y):
    """A least-squares problem with a matrix that all samples share."""
    return (x["width"] * (y @ x["book"] - 1).square()).sum(-1)


def scaled(x, y):
    """Weights of the features that all samples share."""
    return (x["width"] * x["weights"] * (y - 1).square()).sum(-1)


def offset(x, y):
    """Row by row, but with a term that all samples share, and which the answers do not change."""
    return bowl(x["width"], y) + x["book"].square().sum()


def outside(x, y):
    """Bowls with targets that are not part of the problem."""
    return (x["width"][:, :1] * (y - problems(len(x["book"]))[1].roll(1, 0)).square()).sum(-1)


@pytest.mark.parametrize("energy", [codebook, matrix, scaled, offset, outside])
@pytest.mark.parametrize("features", [8, 3])
@pytest.mark.parametrize("start", ["random", "zero"])
def test_a_tensor_as_large_as_the_batch_that_all_samples_share(energy, features, start):
    """Samples cannot be told apart from what they share, so all of them stay, under a warning."""
    width, y = problems(8, features)
    if energy is outside:
        features, (width, y) = 3, problems(8)
    book = torch.randn(8, features, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    weights = torch.linspace(0.5, 2, features, dtype=torch.float64)
    x = {"width": width[:, :1] if energy is not offset else width, "book": book / 3, "weights": weights}
    if energy is matrix:
        x["book"] = torch.eye(features, dtype=torch.float64) + 0.1 * book[:features]
    y = y if start == "random" else torch.zeros_like(y)
    solve = solver(energy, layout=lambda x: Dense(len(x["width"])), optimizer=SGD(0.05), recorder=Trajectory())
    plain = solve.minimize(x, y)
    assert plain.steps.unique().numel() > 2
    shared = {codebook: True, offset: True, outside: True, matrix: features == 8, scaled: features == 8}[energy]
    if shared:
        with pytest.warns(CompactionWarning, match="(?s)compact=True is without effect.*one row per sample"):
            compact = solve.replace(compact=True).minimize(x, y)
    else:
        compact = solve.replace(compact=True).minimize(x, y)
    assert_same(compact, plain)


@pytest.mark.parametrize("outward", [True, False])
def test_a_shared_tensor_that_is_felt_only_at_the_end_or_only_at_the_start(outward):
    near, far = problems()[0], torch.full((8, 3), 2.0, dtype=torch.float64)

    def energy(x, y):
        wall = (y.square().sum(-1) - 9).relu()  # zero near the origin
        return x["width"][:, 0] * (y - x["target"]).square().sum(-1) + 0.1 * x["book"].square().mean() * wall

    width, book = near[:, :1], torch.linspace(0.1, 1, 8, dtype=torch.float64)
    x = {"width": width, "target": far if outward else near / 4, "book": book}
    solve = solver(energy)
    plain = solve.minimize(x, near / 4 if outward else far)
    assert plain.steps.unique().numel() > 2
    with pytest.warns(CompactionWarning, match="another energy or gradient alone"):
        compact = solve.replace(compact=True).minimize(x, near / 4 if outward else far)
    assert_same(compact, plain)


def test_a_shared_tensor_that_only_the_gradient_tells():
    """Zero answers do not feel the weights, and the one sample that stays has a part of them that fits all features."""
    targets = torch.tensor([[0.0, 0, 0], [0, 0, 0], [1, 2, 3]], dtype=torch.float64)
    x = {"target": targets, "weights": torch.tensor([1.0, 0.5, 0.8], dtype=torch.float64)}
    solve = solver(lambda x, y: (x["target"] - x["weights"] * y).square().sum(-1))
    y = torch.zeros(3, 3, dtype=torch.float64)
    plain = solve.minimize(x, y)
    assert (plain.steps[:2] == 0).all()
    with pytest.warns(CompactionWarning, match="another energy or gradient alone"):
        compact = solve.replace(compact=True).minimize(x, y)
    assert_same(compact, plain)


def test_an_energy_with_dropout_is_solved_as_ever():
    class Dropped(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop = nn.Dropout(0.2)

        def forward(self, x, y):
            return bowl(x, x + self.drop(y - x))

    x, y = problems()
    solve = solver(Dropped())
    torch.manual_seed(0)
    plain = solve.minimize(x, y)
    assert plain.steps.unique().numel() > 2
    torch.manual_seed(0)
    with pytest.warns(CompactionWarning, match="evaluation mode"):
        compact = solve.replace(compact=True).minimize(x, y)
    assert_same(compact, plain)
    assert torch.equal(torch.rand(3), _after(solve, x, y))
    solve.eval()
    assert_same(solve.replace(compact=True).minimize(x, y), solve.minimize(x, y))


def _after(solve, x, y):
    """What the generator gives after an ordinary solve."""
    torch.manual_seed(0)
    solve.minimize(x, y)
    return torch.rand(3)
