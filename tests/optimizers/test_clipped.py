"""Gradients clipped sample by sample."""

import pytest
import torch

from energysolve import LBFGS, SGD, Adam, Backtracking, Box, Clipped, EnergySolver, Momentum, Never, Projected, Segment
from energysolve.testing import check_optimizer


def bowl(x, y):
    return (x * y).sum(1)  # the gradient is x


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_steps_are_no_longer_than_the_norm(dtype):
    x = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0], [3e25, 4e25]], dtype=dtype)
    y = EnergySolver(bowl, Clipped(SGD(1.0), 2.0), halting=Never(), max_steps=1).minimize(x, torch.zeros_like(x)).y
    expected = torch.tensor([[-1.2, -1.6], [-0.3, -0.4], [0.0, 0.0], [-1.2, -1.6]], dtype=dtype)
    torch.testing.assert_close(y, expected)


def test_the_norm_is_that_of_a_sample_over_rows_and_leaves():
    index = torch.tensor([0, 1, 0])
    x = {"slope": torch.tensor([[3.0], [0.5], [0.0]]), "index": index}

    def energy(x, y):
        total = x["slope"] * y["a"] + 4.0 * (x["index"].view(-1, 1) == 0) * y["b"]
        return torch.zeros(2).index_add(0, x["index"], total.sum(1))

    y = {"a": torch.zeros(3, 1), "b": torch.zeros(3, 1)}
    solver = EnergySolver(
        energy, Clipped(SGD(1.0), 1.0), halting=Never(), max_steps=1, layout=lambda x: Segment(x["index"], 2)
    )
    found = solver.minimize(x, y).y
    length = (9 + 16 + 16) ** 0.5
    torch.testing.assert_close(found["a"], torch.tensor([[-3 / length], [-0.5], [0.0]]))
    torch.testing.assert_close(found["b"], torch.tensor([[-4 / length], [0.0], [-4 / length]]))


def test_criteria_see_the_gradient_as_it_is():
    x = torch.tensor([[3.0, 4.0]])
    solution = EnergySolver(bowl, Clipped(SGD(1.0), 1.0), halting=Never(), max_steps=2).minimize(x, torch.zeros(1, 2))
    torch.testing.assert_close(solution.gradient_norm, torch.tensor([5.0]))


@pytest.mark.parametrize("inner", [SGD(0.1), Momentum(0.1), Adam(0.1)])
def test_the_contract_of_optimizers(inner):
    check_optimizer(Clipped(inner, 0.5))
    check_optimizer(Projected(Clipped(inner, 0.5), Box(-1.0, 1.0)))


@pytest.mark.parametrize("norm", [0.0, -1.0, float("inf"), float("nan"), True])
@pytest.mark.usefixtures("no_type_checks")
def test_a_norm_out_of_range(norm):
    with pytest.raises(ValueError, match="Clipped needs a positive, finite norm"):
        Clipped(SGD(0.1), norm)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Clipped(LBFGS(), 1.0), "LBFGS chooses its steps itself. Write LBFGS"),
        (lambda: Clipped(Backtracking(SGD(1.0)), 1.0), r"write Backtracking\(Clipped"),
        (lambda: Clipped(Projected(SGD(1.0), Box(0.0)), 1.0), r"write Projected\(Clipped"),
        (lambda: Clipped(SGD, 1.0), "Clipped needs an inner optimizer"),
    ],
)
@pytest.mark.usefixtures("no_type_checks")
def test_what_cannot_be_nested(make, words):
    with pytest.raises(TypeError, match=words):
        make()
