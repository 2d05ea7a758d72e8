"""Truncated backpropagation against hand-written steps of the paper, and against each sample solved alone."""

import pytest
import torch
import torchopt

from energysolve import (
    SGD,
    Adam,
    Dense,
    EnergyChange,
    EnergySolver,
    GradientNorm,
    MLPEnergy,
    Momentum,
    Never,
    Projected,
    RMSProp,
    Segment,
    TorchOpt,
    Truncated,
    halting,
)
from energysolve.optimizers import Box

OPTIMIZERS = {
    "sgd": SGD(0.3),
    "momentum": Momentum(0.1),
    "adam": Adam(0.05),
    "rmsprop": RMSProp(0.02),
    "adamw": TorchOpt(lambda: torchopt.adamw(0.05, weight_decay=0.1)),
    "projected": Projected(Momentum(0.1), Box(-0.4, 0.4)),
}
X_DIM, Y_DIM, MAX_STEPS = 3, 2, 9
COUNTS = torch.tensor([9, 1, 4, 0, 6])
ROWS = torch.tensor([2, 0, 4, 0, 1, 4, 3, 2, 0])  # the sample of each row, unordered


def randn(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def energy():
    torch.manual_seed(0)
    energy = MLPEnergy(X_DIM, Y_DIM, width=8, depth=2).double()
    with torch.no_grad():
        for parameter in energy.parameters():
            parameter.mul_(1.5)
    return energy


def irem(energy, x, y, step_size, steps, k):
    """``steps - k`` plain steps, then ``k`` that stay in the graph (the authors' choice is k = 1)."""
    for step in range(steps):
        tracked = step >= steps - k
        if step <= steps - k:
            y = y.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(energy(x, y).sum(), y, create_graph=tracked)
        y = y - step_size * gradient
    return y


def gradients(loss, energy):
    return torch.autograd.grad(loss, list(energy.parameters()), allow_unused=True, materialize_grads=True)


def assert_equal_gradients(got, expected):
    scale = max(leaf.abs().max() for leaf in expected)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12 * max(scale.item(), 1e-3))


@pytest.mark.parametrize("k", [1, 2, 5])
def test_where_nothing_halts_early_it_is_the_hand_written_step(energy, k):
    x, y, target = randn(6, X_DIM, seed=1), randn(6, Y_DIM, seed=2), randn(6, Y_DIM, seed=3)
    solver = EnergySolver(energy, SGD(0.3), halting=Never(), differentiation=Truncated(k), max_steps=MAX_STEPS)
    ours, theirs = solver.minimize(x, y).y, irem(energy, x, y, 0.3, MAX_STEPS, k)
    torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-14)
    expected = gradients((theirs - target).square().sum(), energy)
    assert_equal_gradients(gradients((ours - target).square().sum(), energy), expected)
    other = gradients((irem(energy, x, y, 0.3, MAX_STEPS, k + 1) - target).square().sum(), energy)
    assert max((a - b).abs().max() for a, b in zip(expected, other, strict=True)) > 1e-6  # k makes a difference


@halting
def after_its_own_count(info):
    """Fires, for each sample, at its own number of steps."""
    return info.step >= COUNTS


class RowEnergy(torch.nn.Module):
    """Energies of samples that own different numbers of rows: their rows' energies, and the square of their total."""

    def __init__(self, energy, layout):
        super().__init__()
        self.energy, self.layout = energy, layout

    def forward(self, x, y):
        per_row = self.layout.sum(self.energy(x, y).unsqueeze(1))
        return per_row + 0.1 * self.layout.sum(y).square()


def solve_alone(energy, optimizer, x, y, steps, k, layout=None):
    solver = EnergySolver(
        energy, optimizer, halting=Never(), differentiation=Truncated(k), max_steps=steps, layout=layout
    )
    solution = solver.minimize(x, y)
    assert solution.steps.tolist() == [steps]
    return solution.y


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_dense_samples_that_halt_early_get_their_own_last_steps(energy, name, k):
    x, y, weight = randn(5, X_DIM, seed=1), randn(5, Y_DIM, seed=2), randn(5, Y_DIM, seed=3)
    optimizer = OPTIMIZERS[name]
    solver = EnergySolver(
        energy, optimizer, halting=after_its_own_count, differentiation=Truncated(k), max_steps=MAX_STEPS
    )
    solution = solver.minimize(x, y)
    assert torch.equal(solution.steps, COUNTS)
    for i, steps in enumerate(COUNTS.tolist()):
        alone = solve_alone(energy, optimizer, x[i : i + 1], y[i : i + 1], steps, k)
        torch.testing.assert_close(solution.y[i : i + 1], alone, rtol=1e-12, atol=1e-13)
        got = torch.autograd.grad(
            (solution.y[i] * weight[i]).sum(),
            list(energy.parameters()),
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        expected = gradients((alone[0] * weight[i]).sum(), energy)
        assert_equal_gradients(got, expected)
        # The gradient is there where a step was taken that the box did not undo.
        moved = steps > 0 and not (name == "projected" and bool((alone.abs() == 0.4).all()))
        assert any(leaf.abs().max() > 1e-9 for leaf in expected) == moved


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_segments_that_halt_early_get_their_own_last_steps(energy, name):
    k = 2
    x, y, weight = randn(9, X_DIM, seed=1), randn(9, Y_DIM, seed=2), randn(9, Y_DIM, seed=3)
    optimizer, layout = OPTIMIZERS[name], Segment(ROWS, 5)
    solver = EnergySolver(
        RowEnergy(energy, layout),
        optimizer,
        halting=after_its_own_count,
        differentiation=Truncated(k),
        max_steps=MAX_STEPS,
        layout=lambda x: layout,
    )
    solution = solver.minimize(x, y)
    assert torch.equal(solution.steps, COUNTS)
    got = gradients((solution.y * weight).sum(), energy)
    total = [torch.zeros_like(parameter) for parameter in energy.parameters()]
    for i, steps in enumerate(COUNTS.tolist()):
        rows = (i == ROWS).nonzero().squeeze(1)
        own = Segment(torch.zeros_like(rows), 1)
        alone = solve_alone(
            RowEnergy(energy, own), optimizer, x[rows], y[rows], steps, k, layout=lambda x, own=own: own
        )
        torch.testing.assert_close(solution.y[rows], alone, rtol=1e-12, atol=1e-13)
        part = gradients((alone * weight[rows]).sum(), energy)
        total = [a + b for a, b in zip(total, part, strict=True)]
    assert_equal_gradients(got, total)


def test_the_papers_rule_halts_samples_at_different_steps(energy):
    x, y = randn(8, X_DIM, seed=1), 2 * randn(8, Y_DIM, seed=2)
    rule = EnergyChange(rtol=0.1)
    solver = EnergySolver(energy, SGD(0.5), halting=rule, differentiation=Truncated(2), max_steps=60)
    solution = solver.minimize(x, y)
    assert len(solution.steps.unique()) > 2
    got = gradients(solution.y.sum(), energy)
    alone = [
        solve_alone(energy, SGD(0.5), x[i : i + 1], y[i : i + 1], steps, 2)
        for i, steps in enumerate(solution.steps.tolist())
    ]
    torch.testing.assert_close(solution.y, torch.cat(alone), rtol=1e-12, atol=1e-13)
    assert_equal_gradients(got, gradients(torch.cat(alone).sum(), energy))


def test_one_segment_a_row_is_dense(energy):
    x, y = randn(5, X_DIM, seed=1), randn(5, Y_DIM, seed=2)

    def solve(layout):
        solver = EnergySolver(
            energy,
            Momentum(0.1),
            halting=after_its_own_count,
            differentiation=Truncated(2),
            max_steps=MAX_STEPS,
            layout=lambda x: layout,
        )
        solution = solver.minimize(x, y)
        return solution, gradients(solution.y.sum(), energy)

    (dense, dense_gradients), (segment, segment_gradients) = solve(Dense(5)), solve(Segment(torch.arange(5), 5))
    torch.testing.assert_close(dense.y, segment.y, rtol=1e-12, atol=1e-13)
    assert torch.equal(dense.steps, segment.steps)
    assert_equal_gradients(dense_gradients, segment_gradients)


@pytest.mark.parametrize("k", [1, 3])
def test_a_single_step_is_differentiated(k):
    """Also with a criterion that may fire, so that the step is repeated from where it began."""
    scale = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    x, y = torch.tensor([[2.0]], dtype=torch.float64), torch.tensor([[0.5]], dtype=torch.float64)
    solver = EnergySolver(lambda x, y: scale * ((y - x) ** 2).sum(1), SGD(0.1), halting=GradientNorm(1e-12))
    answer = solver.replace(differentiation=Truncated(k), max_steps=1).minimize(x, y).y
    answer.sum().backward()
    assert answer.item() == pytest.approx(0.5 - 0.1 * 2 * 0.7 * (0.5 - 2.0))
    assert scale.grad.item() == pytest.approx(-0.1 * 2 * (0.5 - 2.0))
