"""Sums of messages in chunks, against all messages at once and finite differences."""

import pytest
import torch

from energysolve.energies import messages
from energysolve.energies.messages import messages_at_once, sum_of_messages


@pytest.fixture(autouse=True)
def chunks_of_three(monkeypatch):
    monkeypatch.setattr(messages, "CHUNK", 3)


def problem(width, edges=8, nodes=4):
    generator = torch.Generator().manual_seed(0)
    ends = tuple(torch.randint(nodes, (edges,), generator=generator) for _ in range(2))
    shapes = ((nodes, width), (edges, 2), (2, 5), (5,))
    return ends, [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("width", [1, 5], ids=["one feature for all channels", "one for each"])
def test_values_and_derivatives_are_those_of_all_messages_at_once(width):
    ends, inputs = problem(width)
    expected, found = messages_at_once(ends, *inputs), sum_of_messages(ends, *inputs)
    assert torch.allclose(found, expected)
    weights = torch.randn_like(expected)
    derivatives = (torch.autograd.grad(each, inputs, weights) for each in (found, expected))
    assert all(map(torch.allclose, *derivatives))


@pytest.mark.parametrize("width", [1, 5], ids=["one feature for all channels", "one for each"])
def test_derivatives_are_differentiable(width):
    ends, inputs = problem(width)
    assert torch.autograd.gradcheck(lambda *each: sum_of_messages(ends, *each), inputs)
    assert torch.autograd.gradgradcheck(lambda *each: sum_of_messages(ends, *each).square(), inputs)


def test_inputs_without_gradients_get_none():
    ends, (features, given, slopes, constant) = problem(5)
    fixed = (features.detach(), given, slopes.detach(), constant.detach())
    (found,) = torch.autograd.grad(sum_of_messages(ends, *fixed).square().sum(), given, create_graph=True)
    (expected,) = torch.autograd.grad(messages_at_once(ends, *fixed).square().sum(), given, create_graph=True)
    assert torch.allclose(found, expected)
    assert found.requires_grad
    assert not sum_of_messages(ends, *(each.detach() for each in fixed)).requires_grad
