"""Derivatives of the answers of optimizers that search: each mode follows the accepted steps."""

from functools import partial
from itertools import pairwise

import pytest
import torch
from convex_energies import Convex, ConvexRows, randn
from torch.nn import functional as F

from energysolve import (
    LBFGS,
    SGD,
    Backtracking,
    Detached,
    EnergySolver,
    GradientNorm,
    Implicit,
    Never,
    NewtonCG,
    Trajectory,
    Truncated,
    Unroll,
)
from energysolve.energies import Ridge

SEARCHING = [LBFGS(), NewtonCG()]
searching = pytest.mark.parametrize("optimizer", SEARCHING, ids=repr)


class Valley(Convex):
    """A curved valley, in which some candidates are refused."""

    def evaluate(self, context, y):
        bend = 10 * (y[:, 1] - y[:, 0].square() - context[:, 0]).square()
        return bend + (y[:, 0] - context[:, 1]).square() + F.softplus(y @ self.from_y).sum(-1)


ENERGIES = {name: partial(kind, 2.0) for name, kind in [("dense", Convex), ("segment", ConvexRows), ("valley", Valley)]}


def solve(energy, optimizer, mode, halting, max_steps, x, y, **options):
    layout = (lambda x: ConvexRows.layout) if isinstance(energy, ConvexRows) else None
    solver = EnergySolver(
        energy, optimizer, halting=halting, differentiation=mode, max_steps=max_steps, layout=layout, **options
    )
    return solver.minimize(x, y)


def check(function, energy, x, atol=1e-6):
    inputs = (x, *energy.parameters())
    assert torch.autograd.gradcheck(lambda *_: function(), inputs, atol=atol, rtol=1e-4, fast_mode=True)


@searching
@pytest.mark.parametrize("name", ENERGIES)
@pytest.mark.parametrize("mode", [Implicit(), Truncated(2), Unroll()], ids=repr)
def test_at_convergence(mode, name, optimizer):
    """The last steps make up for early lengths, which are constants of the derivative; two do so to some digits."""
    energy = ENERGIES[name]()
    rows = 5 if name == "segment" else 2
    x, y = randn(rows, 2, seed=0).requires_grad_(), randn(rows, 2, seed=1)

    def solution():
        return solve(energy, optimizer, mode, GradientNorm(1e-10), 100, x, y)

    assert solution().converged.all()
    check(lambda: solution().y, energy, x, atol=1e-3 if isinstance(mode, Truncated) else 1e-6)


@searching
@pytest.mark.parametrize("mode", [Truncated(4), Unroll()], ids=repr)
def test_few_steps(mode, optimizer):
    energy, x, y = Convex(2.0), randn(2, 2, seed=0).requires_grad_(), randn(2, 2, seed=5)

    def solution():
        return solve(energy, optimizer, mode, Never(), 4, x, y)

    assert (solution().steps == 4).all()  # no trial is refused, so no length changes within the finite difference
    check(lambda: solution().y, energy, x)


def test_unroll_reaches_the_initial_point():
    energy, x, y = Convex(2.0), randn(2, 2, seed=0), randn(2, 2, seed=5).requires_grad_()
    check(lambda: solve(energy, LBFGS(), Unroll(), Never(), 4, x, y).y, energy, y)


def followed(energy, path, first, memory):
    """One sample's last iterate by the textbook's two-loop recursion, tracked from step ``first`` on.

    Lengths are those between the accepted iterates ``path``, ``(steps + 1, features)``.
    """

    def slope(y):
        return torch.autograd.grad(energy(y), y, create_graph=True)[0]

    pairs, y, g = [], None, None
    for t, (point, after) in enumerate(pairwise(path)):
        before = y, g
        y = point.clone().requires_grad_() if t <= first or y is None else y
        y = y if t <= first else moved
        g = slope(y)
        if t > 0 and before[0] is not None:
            s, c = y - before[0], g - before[1]
            pairs = [*pairs, (s, c)][-memory:] if s @ c > 1e-10 * s.norm() * c.norm() else pairs
        q, weights = g, []
        for s, c in reversed(pairs):
            weights.append((s @ q) / (s @ c))
            q = q - weights[-1] * c
        if pairs:
            s, c = pairs[-1]
            q = q * (s @ c) / (c @ c)
        for (s, c), weight in zip(pairs, reversed(weights), strict=True):
            q = q + s * (weight - (c @ q) / (s @ c))
        length = (after - point).norm() / q.detach().norm()
        if t == 0 and abs((after - point).norm() - 1) < 1e-12:  # the first direction has the length 1
            q, length = q / q.norm(), 1
        moved = y - length * q
        if t < first:
            y, g, moved = y.detach(), g.detach(), moved.detach()
            pairs = [(s.detach(), c.detach()) for s, c in pairs]
    return moved


@pytest.mark.parametrize("memory", [1, 3, 10])
@pytest.mark.parametrize("mode", [Truncated(1), Truncated(2), Truncated(5), Unroll()], ids=repr)
def test_lbfgs_against_the_two_loop_recursion(mode, memory):
    """Steps whose candidates were refused before are repeated as long as they were."""
    energy, x, y = Valley(2.0), randn(6, 2, seed=0).requires_grad_(), 2 * randn(6, 2, seed=1)
    found = solve(energy, LBFGS(memory), mode, GradientNorm(1e-3), 12, x, y, recorder=Trajectory())
    assert (found.evaluations > found.steps + 1).any()
    inputs = (x, *energy.parameters())
    for sample, steps in enumerate(found.steps.tolist()):
        path = torch.stack(found.record.y)[: steps + 1, sample]
        first = max(steps - mode.k, 0) if isinstance(mode, Truncated) else 0
        own = followed(lambda y, i=sample: energy(x[i : i + 1], y.unsqueeze(0)).sum(), path, first, memory)
        torch.testing.assert_close(own, found.y[sample])
        direction = randn(2, seed=sample)
        got = torch.autograd.grad(found.y[sample] @ direction, inputs, retain_graph=True)
        expected = torch.autograd.grad(own @ direction, inputs)
        torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-9)


@searching
@pytest.mark.parametrize("mode", [Implicit(), Truncated(8), Unroll()], ids=repr)
def test_ridge_hypergradient(mode, optimizer):
    """With ``y* = (F'F + lI)^{-1} F't``, ``dy*/dl = -(F'F + lI)^{-1} y*``."""
    features, targets = torch.linalg.qr(randn(3, 8, 3, seed=0)).Q * torch.tensor([1.0, 1.7, 2.4]), randn(3, 8, seed=1)
    weight = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64, requires_grad=True)
    solver = EnergySolver(Ridge(), optimizer, halting=GradientNorm(1e-10), differentiation=mode, max_steps=200)
    found = solver.minimize((features, targets, weight), randn(3, 3, seed=2))
    found.raise_for_status(strict=True)
    (got,) = torch.autograd.grad((found.y * randn(3, 3, seed=3)).sum(), weight)
    matrix = features.mT @ features + weight.detach()[:, None, None] * torch.eye(3, dtype=torch.float64)
    answer = Ridge().solve((features, targets, weight)).detach()
    expected = -(torch.linalg.solve(matrix, answer.unsqueeze(-1)).squeeze(-1) * randn(3, 3, seed=3)).sum(1)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6 * expected.norm().item())


@searching
@pytest.mark.parametrize("name", ENERGIES)
def test_values_do_not_depend_on_the_mode(name, optimizer):
    energy, x, y = ENERGIES[name](), randn(5, 2, seed=0).requires_grad_(), 3 * randn(5, 2, seed=1)
    expected = solve(energy, optimizer, Detached(), GradientNorm(1e-6), 40, x.detach(), y)
    for mode in (Implicit(), Truncated(2), Unroll()):
        tracked = solve(energy, optimizer, mode, GradientNorm(1e-6), 40, x, y)
        with torch.no_grad():
            untracked = solve(energy, optimizer, mode, GradientNorm(1e-6), 40, x, y)
        assert tracked.y.requires_grad
        assert not untracked.y.requires_grad
        for found in (tracked, untracked):
            for part in ("y", "energy", "steps", "status", "evaluations"):
                assert torch.equal(getattr(found, part), getattr(expected, part)), part


@searching
@pytest.mark.parametrize("mode", [Truncated(2), Unroll()], ids=repr)
def test_samples_without_steps_get_no_gradient_and_harm_no_other(mode, optimizer):
    """One sample starts at NaN, one at its minimum, where no step lowers the energy."""
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)

    def energy(x, y):
        return (weight * (y - x).square() + (y - 1).square().square()).sum(-1)

    x, y = torch.ones(4, 2, dtype=torch.float64), randn(4, 2, seed=0)
    x[2:] = randn(2, 2, seed=1)
    y[0], y[1] = torch.nan, 1.0
    solver = EnergySolver(energy, optimizer, halting=GradientNorm(1e-9), differentiation=mode, max_steps=50)
    found, alone = solver.minimize(x, y), solver.minimize(x[2:], y[2:])
    assert found.steps[:2].tolist() == [0, 0]
    torch.testing.assert_close(
        torch.autograd.grad(found.y[2:].sum(), weight), torch.autograd.grad(alone.y.sum(), weight)
    )
    found = solver.minimize(x, y)
    (total,) = torch.autograd.grad(found.y[1:2].sum(), weight)
    assert total == 0


@pytest.mark.parametrize("optimizer", [*SEARCHING, Backtracking(SGD(0.1))], ids=repr)
@pytest.mark.parametrize("mode", [Truncated(9), Unroll()], ids=repr)
def test_first_steps_are_repeated_beside_a_sample_without_steps_that_cannot_be_left_out(mode, optimizer):
    """Each sample needs the table, which is as large as the batch; the step before the first has no length."""
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)

    def energy(x, y):
        return (weight * (y - x["goal"]).square() + (y - x["table"].sum(0)).square().square()).sum(-1)

    table, goal, y = randn(2, 2, seed=0), randn(2, 2, seed=1), randn(2, 2, seed=2)
    goal[0] = y[0] = table.sum(0)
    solver = EnergySolver(energy, optimizer, halting=GradientNorm(1e-2), differentiation=mode, max_steps=9)

    x, elsewhere = {"goal": goal, "table": table}, y + torch.tensor([[1.0], [0.0]])
    found, moving = solver.minimize(x, y), solver.minimize(x, elsewhere)
    assert found.steps[0] == 0 < found.steps[1] <= 9
    assert moving.steps[0] > 0
    got, expected = (torch.autograd.grad(each.y[1].sum(), weight)[0] for each in (found, moving))
    assert expected != 0
    torch.testing.assert_close(got, expected)


@searching
@pytest.mark.parametrize("mode", [Detached(), Truncated(1), Truncated(3), Unroll()], ids=repr)
def test_descend_takes_all_trials(mode, optimizer):
    energy, x, y = Convex(2.0), randn(3, 2, seed=0), randn(3, 2, seed=1)
    solver = EnergySolver(energy, optimizer, halting=GradientNorm(1e9), differentiation=mode, max_steps=4)
    found, _ = solver.descend(x, y)
    expected = solve(energy, optimizer, mode, Never(), 4, x, y).y
    assert torch.equal(found, expected)
    if not isinstance(mode, Detached):
        cotangent = randn(3, 2, seed=2)
        parameters = tuple(energy.parameters())
        got = torch.autograd.grad((found * cotangent).sum(), parameters)
        torch.testing.assert_close(got, torch.autograd.grad((expected * cotangent).sum(), parameters))
