"""Samples of different sizes, against lists with one tensor a sample."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from energysolve.ragged import Ragged, rows_cat, rows_count, rows_select

SIZES = st.lists(st.integers(0, 4), max_size=6)
FEATURES = st.sampled_from([(), (2,), (2, 3)])


def parts(sizes, features=(), first=0):
    """One tensor a sample, no two entries alike."""
    found = []
    for size in sizes:
        count = size * torch.Size(features).numel()
        found.append(torch.arange(first, first + count, dtype=torch.float64).view(size, *features))
        first += count
    return found


def ragged(samples, features=()):
    lengths = torch.tensor([len(sample) for sample in samples], dtype=torch.int64)
    return Ragged(torch.cat([torch.zeros(0, *features, dtype=torch.float64), *samples]), lengths)


def listed(leaf):
    return list(leaf.values.split(leaf.lengths.tolist()))


def same(ours, theirs):
    return len(ours) == len(theirs) and all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@given(SIZES, FEATURES, st.data())
def test_selection(sizes, features, data):
    samples = parts(sizes, features)
    leaf = ragged(samples, features)
    assert len(leaf) == len(sizes)
    assert leaf.longest == max(sizes, default=0)
    indices = data.draw(st.lists(st.integers(-len(sizes), len(sizes) - 1), max_size=8)) if sizes else []
    tree = {"many": leaf, "none": None, "one": torch.arange(len(sizes))}
    chosen = rows_select(tree, torch.tensor(indices, dtype=torch.int64))
    assert same(listed(chosen["many"]), [samples[i] for i in indices])
    assert chosen["one"].tolist() == [range(len(sizes))[i] for i in indices]
    assert chosen["none"] is None
    window = data.draw(st.slices(len(sizes)).filter(lambda window: (window.step or 1) > 0))
    chosen = rows_select(tree, window)
    assert same(listed(chosen["many"]), samples[window])
    assert chosen["one"].tolist() == list(range(len(sizes)))[window]


@given(SIZES, SIZES, FEATURES)
def test_joining(sizes, others, features):
    one, two = parts(sizes, features), parts(others, features, first=1000)
    a = (ragged(one, features), torch.zeros(len(one)), None)
    b = (ragged(two, features), torch.ones(len(two)), None)
    many, dense, nothing = rows_cat(a, b)
    assert same(listed(many), one + two)
    assert dense.tolist() == [0.0] * len(one) + [1.0] * len(two)
    assert nothing is None
    assert rows_count((many, dense, nothing)) == len(one) + len(two)


@given(SIZES, FEATURES, st.integers(0, 2))
def test_padding(sizes, features, more):
    samples = parts(sizes, features, first=1)
    leaf = ragged(samples, features)
    longest = max(sizes, default=0) + more
    padded = leaf.padded(longest)
    assert padded.shape == (len(sizes), longest, *features)
    for row, sample in zip(padded, samples, strict=True):
        assert torch.equal(row[: len(sample)], sample)
        assert not row[len(sample) :].any()
    # What stands in the padding plays no part on the way back.
    noisy = torch.where(padded == 0, torch.nan, padded)
    assert same(listed(Ragged.from_padded(noisy, leaf.lengths)), samples)
    if longest > more > 0:
        with pytest.raises(ValueError, match=f"{longest - more} rows, more than the {longest - more - 1}"):
            leaf.padded(longest - more - 1)


def test_gradients_pass_and_are_cut():
    values = torch.rand(4, 2, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([3, 0, 1])

    def function(values):
        back = Ragged.from_padded(Ragged(values, lengths).padded(3), lengths)
        return back.select(torch.tensor([2, 0, 0])).values.square()

    assert torch.autograd.gradcheck(function, values)


@pytest.mark.parametrize(
    ("values", "lengths", "message"),
    [
        (torch.zeros(3), torch.tensor([1, 1]), "3 rows of values; these add up to 2"),
        (torch.zeros(3), torch.tensor([4, -1]), "least is -1"),
        (torch.zeros(3), torch.tensor([1.0, 2.0]), "float32 lengths"),
        (torch.zeros(3), torch.tensor(3), r"lengths of \(\)"),
        (torch.tensor(1.0), torch.tensor([1]), r"values of shape \(\)"),
    ],
)
def test_what_does_not_fit_together(values, lengths, message):
    with pytest.raises(ValueError, match=message):
        Ragged(values, lengths)


def test_what_is_no_rows_tree():
    leaf = Ragged(torch.zeros(3), torch.tensor([1, 2]))
    for tree, message in [
        ((None, {}), "no tensor"),
        ((torch.zeros(2), "graph"), "got a str.*Task.split"),
        ((torch.zeros(2), torch.tensor(1.0)), r"shape \(\)"),
        ((torch.zeros(3), leaf), r"\[3, 2\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            rows_count(tree)
    with pytest.raises(ValueError, match="dense tensor in the other"):
        rows_cat((leaf,), (torch.zeros(3),))
    with pytest.raises(ValueError, match="length is 2"):
        Ragged.from_padded(torch.zeros(2, 1), leaf.lengths)
