"""Several initial answers for each problem: the lowest energy wins, sample by sample."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from energysolve import LBFGS, SGD, BestSoFar, EnergySolver, FromInput, GradientNorm, Normal, Segment, Uniform


def ripples(x, y):
    """Many minima, the lowest at 0."""
    return (y.square() - x * torch.cos(6 * y) + x).sum(-1)


def problems(batch):
    return torch.linspace(1, 4, batch, dtype=torch.float64).unsqueeze(1)


@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**31))
@settings(max_examples=30)
def test_restarts_are_as_good_as_the_best_of_their_starts(batch, restarts, seed):
    x = problems(batch)
    solver = EnergySolver(ripples, init=Normal((2,), std=2.0), restarts=restarts)
    found = solver.minimize(x, generator=torch.Generator().manual_seed(seed))
    many = x.repeat_interleave(restarts, 0)
    each = solver.replace(restarts=1).minimize(many, generator=torch.Generator().manual_seed(seed))
    best = each.energy.view(batch, restarts)
    assert torch.equal(found.energy, best.min(1).values)
    chosen = best.argmin(1) + restarts * torch.arange(batch)
    for name in ("y", "steps", "status", "evaluations", "gradient_norm"):
        assert torch.equal(getattr(found, name), getattr(each, name)[chosen]), name


def test_scratchpads_and_gradients_follow_the_winner():
    x = problems(3)
    solver = EnergySolver(
        lambda x, y, z: ripples(x, y) + (z - y).square().sum(-1),
        init=Uniform((1,), -3, 3),
        scratchpad=Uniform((1,)),
        restarts=6,
        halting=GradientNorm(1e-9),
    )
    found = solver.minimize(x, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(found.z, found.y, atol=1e-5, rtol=0)
    torch.testing.assert_close(ripples(x, found.y), found.energy, atol=1e-8, rtol=0)


def test_rows_of_several_kinds():
    """Samples that own different numbers of rows, as the edges of graphs do."""
    index = torch.tensor([0, 0, 0, 1, 2, 2])
    x = {"index": index, "height": problems(3)}

    def energy(x, y):
        rows = ripples(x["height"][x["index"]], y)
        return torch.zeros(len(x["height"]), dtype=y.dtype).index_add(0, x["index"], rows)

    solver = EnergySolver(
        energy, init=Uniform((1,), -3, 3), restarts=8, layout=lambda x: Segment(x["index"], len(x["height"]))
    )
    found = solver.minimize(x, generator=torch.Generator().manual_seed(0))
    single = solver.replace(restarts=1).minimize(x, generator=torch.Generator().manual_seed(0))
    assert found.y.shape == (6, 1)
    assert (found.energy <= single.energy).all()
    torch.testing.assert_close(energy(x, found.y), found.energy)


def test_one_start_that_is_not_finite_does_not_win():
    def barrier(x, y):
        return (y - torch.log(y)).sum(-1) * x[:, 0]  # NaN for negative answers

    solver = EnergySolver(barrier, init=Uniform((1,), -1, 3), restarts=16)
    found = solver.minimize(problems(2), generator=torch.Generator().manual_seed(0))
    assert found.converged.all()
    torch.testing.assert_close(found.y, torch.ones(2, 1, dtype=torch.float64), atol=1e-4, rtol=0)


def test_what_restarts_cannot_do():
    with pytest.raises(ValueError, match="whole number of 1 or more as restarts"):
        EnergySolver(ripples, restarts=0)
    with pytest.raises(ValueError, match="BestSoFar"):
        EnergySolver(ripples, restarts=2, recorder=BestSoFar())
    solver = EnergySolver(ripples, init=FromInput(), restarts=2)
    with pytest.raises(ValueError, match="leave out y"):
        solver.minimize(problems(2), problems(2))


def test_without_a_word_about_optimizer_or_step_size():
    solver = EnergySolver(ripples, init=Uniform((3,)))
    assert solver.optimizer == LBFGS()
    solution = solver.minimize(problems(4), generator=torch.Generator().manual_seed(0))
    assert solution.converged.all()
    assert (solution.evaluations <= solver.max_steps + 1).all()
    fixed = solver.replace(optimizer=SGD(0.01), max_steps=7).minimize(problems(4))
    assert (fixed.evaluations == fixed.steps + 1).all()
    assert fixed.gradient_norm.shape == (4,)
