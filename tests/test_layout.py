"""Layouts against loops over the samples, and their agreement with each other."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from energysolve import Dense, Segment
from energysolve.engine.objective import Objective
from energysolve.layout import check_free, layout_of, select_problems
from energysolve.optimizers.base import Evaluation

TREES = st.sampled_from([((),), ((3,),), ((2, 2),), ((4,), ()), ((0,), (2,))])


@st.composite
def layouts(draw):
    batch = draw(st.integers(1, 5))
    if draw(st.booleans()):
        return Dense(batch), torch.arange(batch)
    rows = draw(st.integers(0, 9))
    index = torch.randint(batch, (rows,), generator=torch.Generator().manual_seed(draw(st.integers(0, 99))))
    return Segment(index, batch), index


def leaf(rows, shape, seed):
    return torch.randn(rows, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=200, deadline=None)
@given(layouts(), TREES, st.integers(0, 99))
def test_against_a_loop_over_the_samples(case, shapes, seed):
    layout, index = case
    tree = tuple(leaf(layout.rows, shape, seed + i) for i, shape in enumerate(shapes))
    other = tuple(leaf(layout.rows, shape, seed + 50 + i) for i, shape in enumerate(shapes))
    own = [torch.cat([part[index == i].flatten() for part in tree]) for i in range(layout.batch)]
    others = [torch.cat([part[index == i].flatten() for part in other]) for i in range(layout.batch)]
    torch.testing.assert_close(sum(map(layout.sum, tree)), torch.stack([entries.sum() for entries in own]))
    torch.testing.assert_close(layout.norm(tree), torch.stack([entries.norm() for entries in own]))
    torch.testing.assert_close(layout.dot(tree, other), torch.stack([a @ b for a, b in zip(own, others, strict=True)]))
    mask = torch.arange(layout.batch) % 2 == 0
    for new, a, b in zip(layout.where(mask, tree, other), tree, other, strict=True):
        for row in range(layout.rows):
            assert torch.equal(new[row], (a if mask[index[row]] else b)[row])
    value = torch.arange(layout.batch, dtype=torch.float64)
    for scaled, part in zip(layout.scale(value, tree), tree, strict=True):
        for row in range(layout.rows):
            assert torch.equal(scaled[row], part[row] * value[index[row]])


@settings(max_examples=200, deadline=None)
@given(layouts(), st.integers(0, 99), st.sampled_from([torch.nan, torch.inf, -torch.inf, 1e308]))
def test_what_is_not_finite_is_found_and_nothing_else(case, seed, value):
    layout, index = case
    part = leaf(layout.rows, (3,), seed)
    if layout.rows:
        part[seed % layout.rows] = value  # three of 1e308 overflow in a sum, and are finite all the same
    energy = torch.zeros(layout.batch, dtype=torch.float64)
    energy[0] = value
    objective, at = Objective(lambda x, y: y, None, layout), Evaluation((part,), energy, (part,))
    expected = torch.stack([part[index == i].isfinite().all() & energy[i].isfinite() for i in range(layout.batch)])
    assert torch.equal(objective.finite(at), expected)
    assert not (objective.surely_finite(at) & ~expected).any()


@settings(max_examples=200, deadline=None)
@given(layouts(), st.data())
def test_selection_keeps_the_rows_of_the_chosen_samples(case, data):
    layout, _ = case
    chosen = torch.tensor(data.draw(st.permutations(range(layout.batch)))[: data.draw(st.integers(1, layout.batch))])
    part = leaf(layout.rows, (2,), 0)
    selected, rows = layout.select(chosen)
    assert selected.batch == len(chosen)
    assert selected.rows == len(rows)
    torch.testing.assert_close(selected.sum(part[rows]), layout.sum(part)[chosen])


@pytest.mark.parametrize(
    ("x", "batch"),
    [
        (torch.zeros(4, 2), 4),
        ({"b": torch.zeros(3, 1), "a": torch.zeros(7)}, 3),
        ((None, [torch.zeros(2)]), 2),
    ],
)
def test_the_default_is_the_leading_size_of_the_first_tensor(x, batch):
    assert layout_of(x) == Dense(batch)


def test_problems_are_selected_by_samples_by_rows_or_not_at_all():
    index = torch.tensor([1, 0, 2, 1, 0])
    layout, samples = Segment(index, 3), torch.tensor([2, 1])
    x = {
        "index": index,
        "a copy of the index": index.clone(),  # belongs to the rows like any other tensor
        "rows": torch.arange(10.0).view(5, 2),
        "samples": torch.arange(6.0).view(3, 2),
        "shared": torch.arange(4),
        "number": torch.tensor(3.0),
        "name": "problem",
    }
    found = select_problems(x, samples, layout)
    assert found["index"].tolist() == [1, 0, 1]  # rows 0, 2 and 3, of samples 1, 2 and 1
    assert found["a copy of the index"].tolist() == [1, 2, 1]
    assert torch.equal(found["rows"], x["rows"][[0, 2, 3]])
    assert torch.equal(found["samples"], x["samples"][[2, 1]])
    assert all(found[name] is x[name] for name in ("shared", "number", "name"))
    dense = select_problems((x["samples"], index, 3), samples, Dense(3))
    assert torch.equal(dense[0], x["samples"][[2, 1]])
    assert dense[1:] == (index, 3)


def test_a_selection_has_its_samples_in_the_order_asked_for():
    layout = Segment(torch.tensor([1, 0, 2, 1]), 3)
    part, rows = layout.select(torch.tensor([2, 1]))
    assert (part.index.tolist(), part.batch, rows.tolist()) == ([1, 0, 1], 2, [0, 2, 3])
    part, rows = Dense(3).select(torch.tensor([2, 1]))
    assert (part, rows.tolist()) == (Dense(2), [2, 1])


def test_selection_of_problems_takes_rows_by_their_number():
    index = torch.tensor([0, 0, 1, 2, 2])
    x = {
        "index": index,
        "edges": (leaf(5, (2,), 0), index.clone()),
        "samples": leaf(3, (4,), 1),
        "shared": leaf(4, (2,), 2),
        "scalar": torch.tensor(1.0),
        "name": "problem",
    }
    found = select_problems(x, torch.tensor([2, 0]), Segment(index, 3))
    rows = [0, 1, 3, 4]
    assert found["index"].tolist() == [1, 1, 0, 0]
    assert torch.equal(found["edges"][0], x["edges"][0][rows])
    assert torch.equal(found["edges"][1], index[rows])  # only the index of the layout is numbered anew
    assert torch.equal(found["samples"], x["samples"][[2, 0]])
    for name in ("shared", "scalar", "name"):
        assert found[name] is x[name]


def test_dense_selection_may_repeat_samples():
    x = (leaf(3, (2,), 0), leaf(3, (), 1), leaf(2, (3,), 2))
    found = select_problems(x, torch.tensor([1, 1]), Dense(3))
    assert torch.equal(found[0], x[0][[1, 1]])
    assert torch.equal(found[1], x[1][[1, 1]])
    assert found[2] is x[2]


def test_a_function_that_selects_replaces_the_default():
    select = lambda x, samples: (x, samples.tolist())  # noqa: E731
    assert select_problems("x", torch.tensor([1]), Dense(2), select) == ("x", [1])


def test_stand_ins_are_valid_samples_and_valid_samples_stay():
    valid = torch.tensor([False, True, False, True])
    assert Dense(4).stand_in(valid).tolist() == [1, 1, 1, 3]
    assert Segment(torch.tensor([0, 1, 2, 3]), 4).stand_in(valid) is None


def test_answers_on_several_devices():
    meta = torch.empty(2, device="meta")
    with pytest.raises(ValueError, match=r"y is on meta and x on cpu"):
        check_free("y", (torch.zeros(2), meta), torch.zeros(2), Dense(2))
    with pytest.raises(ValueError, match=r"y is on meta and x on cpu"):
        check_free("y", (torch.zeros(2), meta), "no tensor", Dense(2))
    with pytest.raises(ValueError, match=r"y is on cpu and x on meta"):
        check_free("y", (torch.zeros(2),), meta, Dense(2))
    check_free("y", (meta, meta), meta, Dense(2))
    check_free("y", (meta, meta), "no tensor", Dense(2))
