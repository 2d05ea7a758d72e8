"""Initial answers follow the problem, the bounds and the generator."""

import torch

from energysolve import Dense, FromInput, Normal, Segment, Uniform, Zeros
from energysolve.initializers import Symmetric

X, Y = torch.randn(4, 3), torch.randn(4, 3)


def test_initial_answers_follow_the_problem_and_the_generator():
    x = X.double()
    for init in (Uniform((2, 3)), Normal((2, 3)), Zeros((2, 3))):
        first, again = (init(x, Dense(4), torch.Generator().manual_seed(0)) for _ in range(2))
        assert first.shape == (4, 2, 3)
        assert first.dtype == torch.float64
        assert torch.equal(first, again)
    index = torch.tensor([0, 0, 1, 1, 1])
    assert Uniform((2,), 3.0, 4.0)(x, Segment(index, 2), None).shape == (5, 2)
    assert Uniform(2)((torch.ones(4, dtype=torch.int64),), Dense(4), None).dtype == torch.get_default_dtype()
    assert torch.equal(FromInput()(x, Dense(4), None), x)
    low, high = Uniform((1000,), 3.0, 4.0)(x, Dense(4), None).aminmax()
    assert 3 <= low < 3.05
    assert 3.95 < high <= 4


def test_symmetric_answers_are_spread_as_others():
    first, again = (Symmetric((30, 30), 1.0, 3.0)(X, Dense(4), torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(first, first.mT)
    rows, columns = torch.triu_indices(30, 30, 1)
    for entries in (first.diagonal(dim1=1, dim2=2), first[:, rows, columns]):
        assert abs(entries.mean() - 2) < 0.15
        assert abs(entries.std() - 2 / 12**0.5) < 0.1
