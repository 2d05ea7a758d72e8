"""Tables with gaps, as users have them: means, noise and scale come from the table, and zeros are values."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from energysolve import EnergySolver
from energysolve.presets.tables import complete_table, effects


def ratings(rows=60, columns=40, seed=0, taste=0.8, noise=0.6):
    """Ratings 1 to 5 of which half are missing, and all of them."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    taste = taste * normal(rows, 3) @ normal(3, columns) / 3**0.5
    table = 3.3 + 0.35 * normal(rows, 1) + 0.4 * normal(1, columns) + taste + noise * normal(rows, columns)
    table = table.round().clamp(1, 5)
    seen = torch.rand(rows, columns, generator=generator) < 0.5
    return torch.where(seen, table, torch.nan), table


def error(values, table, full):
    return (values - full)[table.isnan()].square().mean().sqrt().item()


@pytest.mark.parametrize("seed", [0, 1])
def test_ratings_are_completed_better_than_by_means(seed):
    """Answering the mean is off by about 1.1, and row and column means, fitted by least squares, by more than ours."""
    table, full = ratings(seed=seed)
    found = complete_table(table)
    seen = ~table.isnan()
    row, column = seen.nonzero().numpy().T
    design = np.zeros((len(row), 60 + 40))
    design[np.arange(len(row)), row], design[np.arange(len(row)), 60 + column] = 1, 1
    fitted, *_ = np.linalg.lstsq(design, table[seen].numpy(), rcond=None)
    means = torch.from_numpy(fitted[:60, None] + fitted[None, 60:])
    of_mean = error(torch.full_like(full, table.nanmean().item()), table, full)
    assert 0.95 < of_mean < 1.25
    assert error(found.values, table, full) < min(0.85 * of_mean, 0.92 * error(means, table, full))
    assert torch.equal(found.values[seen], table[seen])
    assert not found.values.isnan().any()
    assert found.error == pytest.approx(error(found.values, table, full), rel=0.15)
    assert found.mean_error == pytest.approx(of_mean, rel=0.15)
    assert found.solution.converged.all()


def test_without_taste_nothing_is_made_of_the_noise():
    table, full = ratings(taste=0.0, noise=0.8)
    found = complete_table(table)
    of_mean = error(torch.full_like(full, table.nanmean().item()), table, full)
    assert error(found.values, table, full) < 0.95 * of_mean
    effects_alone = found.mean + found.row_effects[:, None] + found.column_effects
    assert error(found.fitted, table, full) < 1.01 * error(effects_alone, table, full)


@settings(max_examples=3, deadline=None)
@given(st.floats(-2, 3).map(lambda power: 10**power), st.floats(-1e3, 1e3))
def test_scale_and_origin_do_not_matter(scale, shift):
    table, _ = ratings(20, 14)
    plain, moved = complete_table(table), complete_table(scale * table + shift)
    torch.testing.assert_close((moved.fitted - shift) / scale, plain.fitted, rtol=0, atol=2e-3)
    assert moved.noise == pytest.approx(scale * plain.noise, rel=1e-3)


def test_zeros_are_values():
    """Counts with many zeros, against what the convention of the paper's task makes of them: gaps."""
    generator = torch.Generator().manual_seed(0)
    rate = (torch.randn(40, 2, generator=generator) @ torch.randn(2, 30, generator=generator)).exp().clamp(max=4) - 0.4
    full = rate.clamp(min=0).round().double()
    assert 0.3 < (full == 0).double().mean() < 0.7
    table = torch.where(torch.rand(40, 30, generator=generator) < 0.5, full, torch.nan)
    found = complete_table(table)
    assert torch.equal(found.values[table == 0], torch.zeros_like(full)[table == 0])
    assert error(found.values, table, full) < 0.9 * error(torch.full_like(full, table.nanmean().item()), table, full)


def test_effects_are_best_linear_predictions():
    """With many entries in each row and column, those are the means."""
    x = torch.tensor([[1.0, 2.0], [3.0, 5.0]]).double().repeat_interleave(60, 0).repeat_interleave(50, 1)
    x = x + 0.01 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mean, rows, columns = effects(x, torch.ones_like(x, dtype=torch.bool))
    assert mean == pytest.approx(x.mean().item(), abs=1e-6)
    torch.testing.assert_close(rows[:, 0], x.mean(1) - x.mean(), rtol=0, atol=2e-2)
    torch.testing.assert_close(columns[0], x.mean(0) - x.mean(), rtol=0, atol=2e-2)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ([[2.0, math.nan], [math.nan, 2.0]], [[2.0, 2.0], [2.0, 2.0]]),
        ([[7.0]], [[7.0]]),
        ([[math.nan, 0.0, 0.0]], [[0.0, 0.0, 0.0]]),
    ],
)
def test_small_and_constant_tables(table, expected):
    found = complete_table(torch.tensor(table))
    torch.testing.assert_close(found.values, torch.tensor(expected))
    assert found.solution is None


def test_a_row_without_an_entry_gets_the_column_means():
    table, _ = ratings(40, 20)
    table[3] = torch.nan
    found = complete_table(table)
    assert not found.values.isnan().any()
    assert found.row_effects[3] == pytest.approx(0, abs=1e-9)
    assert found.values[3] == pytest.approx((found.mean + found.column_effects).numpy(), abs=0.05)


@pytest.mark.parametrize(
    ("table", "options", "words"),
    [
        (torch.full((2, 2), torch.nan), {}, "has no number"),
        (torch.tensor([[1.0, torch.inf]]), {}, "infinite entry; mark what is missing with NaN"),
        (torch.ones(2, 2), {"held_out": 1.0}, r"held_out in \(0, 1\)"),
        (torch.ones(2, 2), {"solver": EnergySolver.from_pretrained("inverse")}, "solver of FactoredCompletion"),
    ],
)
def test_what_is_no_table_is_refused(table, options, words):
    with pytest.raises(ValueError, match=words):
        complete_table(table, **options)
