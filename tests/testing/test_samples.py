"""What the checks share."""

import pytest
import torch

from energysolve.testing.samples import copied, same, wells

A, B = torch.tensor([1.0, torch.nan]), torch.tensor([2.0, 3.0])


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((A, "name"), (A.clone(), "other"), True),
        ({"a": A, "b": (B,)}, {"a": A.clone(), "b": (B.clone(),)}, True),
        (A, B, False),
        (B, A, False),
        (torch.tensor([1.0, 2.0]), A, False),
        ((A, B), (A, A), False),
        (B, B[:1], False),
        (B, B.unsqueeze(0), False),
        ((A,), (A, B), False),
        ((A, B), (A,), False),
    ],
)
def test_same_compares_trees_of_tensors_nan_equal_to_nan(a, b, expected):
    assert same(a, b) is expected


def test_copies_are_apart():
    copy = copied(B)
    copy += 1
    assert B.tolist() == [2, 3]
    assert copied("name") == "name"


def test_wells_are_different_bowls_with_a_scratchpad_and_the_same_every_time():
    objective, (y, z) = wells(5)
    again, _ = wells(5)
    at = objective((y, z))
    assert torch.equal(at.energy, again((y, z)).energy)
    x = objective.context
    assert len(x["width"].unique()) == 5
    assert (x["width"] >= 0.5).all()
    torch.testing.assert_close(
        at.energy, (x["width"] * (y - x["target"]).square()).sum(1) + 0.3 * (z - y).square().sum(1)
    )
    assert objective((x["target"], x["target"])).energy.tolist() == [0] * 5
