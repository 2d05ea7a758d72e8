"""The solver: unusual good input, modes of use, and its parts."""

import re
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from energysolve import (
    SGD,
    Adam,
    After,
    Dense,
    EnergyChange,
    EnergySolver,
    GradientNorm,
    Implicit,
    MLPEnergy,
    Never,
    Projected,
    Trajectory,
    Truncated,
    Uniform,
    Unroll,
    Zeros,
)
from energysolve.optimizers import Ball, Simplex

X, Y = torch.randn(4, 3), torch.randn(4, 3)
FIELDS = ("energy", "optimizer", "init", "halting", "differentiation", "recorder", "max_steps", "layout")
FIELDS += ("scratchpad", "compile", "compact", "sync_every")


def bowl(x, y):
    return ((x - y) ** 2).sum(-1)


def padded(x, y, z):
    return ((x - y) ** 2).sum(-1) + ((y - z) ** 2).sum(-1)


def solver(energy=bowl, **parts) -> EnergySolver:
    return EnergySolver(energy, parts.pop("optimizer", SGD(0.1)), **parts)


def raises(kind, *words):
    return pytest.raises(kind, match="(?s)" + ".*".join(re.escape(word) for word in words))


def one_batch(x):
    return Dense(len(x))


def test_answers_without_features_and_leaves_of_one_dimension():
    nothing = solver(lambda x, y: y.sum(-1) + x.sum(-1)).minimize(X, torch.zeros(4, 0))
    assert nothing.converged.all()
    flat = solver(lambda x, y: (x[:, 0] - y) ** 2, halting=GradientNorm(1e-4)).minimize(X, torch.zeros(4))
    torch.testing.assert_close(flat.y, X[:, 0], atol=1e-3, rtol=0)


def test_the_inputs_and_the_solver_are_left_as_they_were():
    x, y = X.clone(), Y.clone().requires_grad_()
    solver(recorder=Trajectory(), differentiation=Unroll()).minimize(x, y)
    assert torch.equal(x, X)
    assert torch.equal(y, Y)
    assert y.grad is None


def test_it_works_inside_no_grad_and_inference_mode():
    expected = solver().minimize(X, Y)
    with torch.no_grad():
        assert torch.equal(solver().minimize(X, Y).y, expected.y)
    with torch.inference_mode():
        solution = solver(differentiation=Truncated(1)).minimize(X * 1, Y * 1)
        assert torch.equal(solution.y, expected.y)


def test_the_solver_is_a_module_that_shares_its_energy():
    first = EnergySolver(MLPEnergy(3, 3, width=4), SGD(0.1), init=Zeros((3,)))
    second = first.eval().replace(optimizer=Adam(0.1), max_steps=7)
    assert second.energy is first.energy
    assert not second.training
    first.energy.train()
    assert second.replace(max_steps=3).energy.training  # the shared energy keeps its mode
    assert second.max_steps == 7
    assert first.max_steps == 100
    assert set(first.state_dict()) == {f"energy.{name}" for name in first.energy.state_dict()}
    assert first.double()(X.double()).y.dtype == torch.float64
    assert isinstance(first, nn.Module)
    assert "SGD(lr=0.1)" in repr(first)


def test_a_printed_solver_shows_what_differs_from_the_defaults():
    plain = repr(solver())
    assert "energy=bowl" in plain
    assert "max_steps=100" in plain
    for part in ("layout", "select", "scratchpad", "compile", "compact", "sync_every"):
        assert part not in plain
    changed = repr(solver(padded, scratchpad=Zeros((3,)), layout=one_batch, compact=True, sync_every=3))
    for shown in ("energy=padded", "scratchpad=Zeros(shape=(3,))", "layout=one_batch", "compact=True", "sync_every=3"):
        assert shown in changed
    assert "compile=True" in repr(solver(compile=True))
    assert "select=one_batch" in repr(solver(select=one_batch))


def test_a_task_supplies_what_the_solver_does_not_state():
    class Task:
        init = Zeros((3,))
        layout = staticmethod(one_batch)

    suited = solver().suited(Task)
    assert (suited.init, suited.layout) == (Task.init, one_batch)
    own = solver(init=Uniform((3,)), layout=lambda x: Dense(2)).suited(Task)
    assert own.init == Uniform((3,))
    assert own.layout_of(X) == Dense(2)
    assert solver().layout_of(X) == suited.layout_of(X) == Dense(4)
    with raises(TypeError, "layout(x) must be a Layout"):
        solver(layout=len).layout_of(X)


@pytest.mark.parametrize("mode", [Truncated(1), Unroll(), Implicit()], ids=repr)
def test_bfloat16_autocast_solves_and_trains(mode):
    torch.manual_seed(0)
    energy = MLPEnergy(3, 3, width=8)
    solve = EnergySolver(
        energy, SGD(0.1), init=Zeros((3,)), halting=EnergyChange(rtol=1e-1) | After(3), differentiation=mode
    )
    with torch.autocast("cpu", torch.bfloat16), pytest.warns() if mode == Implicit() else nullcontext():
        solution = solve.minimize(X)
        solution.y.square().sum().backward()
    assert solution.y.dtype == solution.energy.dtype == torch.float32
    assert all(p.grad is None or p.grad.isfinite().all() for p in energy.parameters())


def test_simplex_and_ball_reach_the_constrained_minimum():
    x = torch.randn(5, 4, dtype=torch.float64)
    start = torch.full((5, 4), 0.25, dtype=torch.float64)
    on_simplex = solver(optimizer=Projected(SGD(0.2), Simplex()), halting=GradientNorm(1e-9)).minimize(x, start)
    assert on_simplex.converged.all()
    torch.testing.assert_close(on_simplex.y.sum(-1), torch.ones(5, dtype=torch.float64))
    in_ball = solver(optimizer=Projected(SGD(0.2), Ball(0.5)), halting=GradientNorm(1e-9)).minimize(x, start)
    norm = x.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(in_ball.y, torch.where(norm > 0.5, x * 0.5 / norm, x), atol=1e-7, rtol=0)


@pytest.mark.parametrize(
    "parts",
    [
        {"energy": padded, "scratchpad": Zeros((3,))},
        {"optimizer": Adam(0.3)},
        {"init": Zeros((3,))},
        {"halting": After(3)},
        {"differentiation": Unroll()},
        {"recorder": Trajectory()},
        {"max_steps": 7},
        {"layout": lambda x: Dense(len(x))},
        {"compile": True},
        {"compact": True},
        {"sync_every": 3},
    ],
    ids=lambda parts: next(iter(parts)),
)
def test_replace_exchanges_the_parts_named_and_keeps_the_others(parts):
    first = solver(bowl, init=Uniform((3,)))
    second = first.replace(**parts)
    third = second.replace()
    for name in FIELDS:
        assert getattr(second, name) == parts.get(name, getattr(first, name))
        assert getattr(third, name) == getattr(second, name)
    assert second.training
    assert not first.eval().replace().training


def test_the_default_criterion_reaches_a_minimum():
    solution = EnergySolver(bowl, SGD(0.1)).minimize(X, Y)
    assert solution.converged.all()
    torch.testing.assert_close(solution.y, X, atol=0.02, rtol=0)


def test_initial_scratchpads_come_from_the_scratchpad_unless_given():
    pads = solver(padded, scratchpad=Uniform((3,), 1.0, 2.0), max_steps=0)
    found = pads.minimize(X, Y, generator=torch.Generator().manual_seed(3)).z
    assert torch.equal(found, Uniform((3,), 1.0, 2.0)(X, Dense(4), torch.Generator().manual_seed(3)))
    assert torch.equal(pads.minimize(X, Y, X).z, X)
    y, z = pads.replace(init=Zeros((3,))).descend(X, z=X)
    assert torch.equal(y, torch.zeros(4, 3))
    assert torch.equal(z, X)
    assert solver(max_steps=0).descend(X, Y)[1] is None


def test_solve_is_minimize_and_the_limit_of_a_call_replaces_that_of_the_solver():
    plain = solver(init=Uniform((3,)), halting=Never(), max_steps=4)
    found = [call(X, max_steps=2, generator=torch.Generator().manual_seed(3)) for call in (plain.solve, plain.minimize)]
    assert torch.equal(found[0].y, found[1].y)
    assert found[0].steps.tolist() == found[1].steps.tolist() == [2] * 4
    assert plain.solve(X).steps.tolist() == [4] * 4
    with pytest.raises(TypeError, match="positional"):
        plain.minimize(X, Y, None, 2)
    assert torch.equal(plain.minimize(x=X, y=Y, z=None).y, plain(X, Y).y)
