"""Bad input raises an exception that says what was wrong; unusual good input works."""

import operator
import re
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from energysolve import (
    SGD,
    Adam,
    After,
    BestSoFar,
    Dense,
    Energy,
    EnergyChange,
    EnergySolver,
    FromInput,
    GradientNorm,
    Halting,
    Implicit,
    MLPEnergy,
    Never,
    Normal,
    Projected,
    Segment,
    Solution,
    Status,
    StepNorm,
    TargetEnergy,
    Trajectory,
    Truncated,
    Uniform,
    Unroll,
    Zeros,
    halting,
)
from energysolve.engine.linear import CG
from energysolve.initializers import Symmetric
from energysolve.optimizers import Ball, Simplex
from energysolve.solution import NonfiniteError, NotConvergedError

NAN, INF = float("nan"), float("inf")
X, Y = torch.randn(4, 3), torch.randn(4, 3)


def bowl(x, y):
    return ((x - y) ** 2).sum(-1)


def padded(x, y, z):
    return ((x - y) ** 2).sum(-1) + ((y - z) ** 2).sum(-1)


class Padded(Energy):
    def evaluate(self, context, y, z):
        return padded(context, y, z)


def solver(energy=bowl, **parts) -> EnergySolver:
    return EnergySolver(energy, parts.pop("optimizer", SGD(0.1)), **parts)


def raises(kind, *words):
    return pytest.raises(kind, match="(?s)" + ".*".join(re.escape(word) for word in words))


@pytest.mark.parametrize(
    ("energy", "words"),
    [
        (lambda x, y: ((x - y) ** 2).sum(), ["shape ()", "(4,)", "never over the batch"]),
        (lambda x, y: ((x - y) ** 2).sum(-1, keepdim=True), ["shape (4, 1)", "(4,)"]),
        (lambda x, y: ((x - y) ** 2).sum(-1)[:2], ["shape (2,)", "(4,)"]),
        (lambda x, y: 1.0, ["a float", "(4,)"]),
        (lambda x, y: ((x - y) ** 2).sum(-1).long(), ["torch.int64", "floating"]),
        (lambda x, y: x.sum(-1), ["does not depend on y"]),
        (lambda x, y: bowl(x, y.detach()), ["does not depend on y"]),
        (lambda x, y: (x * torch.ones(3, requires_grad=True)).sum(-1), ["does not depend on y"]),
    ],
)
@pytest.mark.parametrize("mode", [None, Truncated(1), Truncated(200), Unroll()], ids=repr)
@pytest.mark.parametrize("criterion", [Never(), EnergyChange(atol=1e-6)], ids=["never", "halting"])
def test_an_energy_of_the_wrong_form(energy, words, mode, criterion):
    parts = {} if mode is None else {"differentiation": mode}
    with raises(ValueError, *words):
        solver(energy, halting=criterion, **parts).minimize(X, Y)


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (X, Y.long(), ["y", "floating", "torch.int64", "y.float()"]),
        (X, Y.bool(), ["floating", "torch.bool"]),
        (X, torch.zeros(4, 3, dtype=torch.complex64), ["floating", "complex64"]),
        (X, Y[:3], ["(3, 3)", "4 samples"]),
        (X, torch.tensor(1.0), ["shape ()", "4 samples"]),
        (X, torch.empty(4, 3, device="meta"), ["meta", "cpu", ".to()"]),
        (X, [1.0, 2.0], ["floating", "float"]),
        (X, {}, ["no tensor"]),
        (torch.tensor(1.0), Y, ["no batch dimension"]),
        ("problem", Y, ["No tensor", "str", "layout="]),
        (X, None, ["No initial y", "init="]),
        (X, (Y, Y[:3]), ["y has shape (3, 3)", "4 samples with 4 rows", "(4, ...)"]),
        (X, (Y, torch.empty(4, 3, device="meta")), ["y is on meta and x on cpu", ".to()"]),
    ],
)
@pytest.mark.usefixtures("no_type_checks")
def test_problems_and_answers_that_do_not_fit(x, y, words):
    with raises(ValueError, *words):
        solver().minimize(x, y)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: EnergyChange(atol=-1.0), ["EnergyChange", "atol", "-1"]),
        (lambda: EnergyChange(rtol=NAN), ["rtol", "nan"]),
        (lambda: EnergyChange(atol=INF), ["EnergyChange", "atol", "inf"]),
        (lambda: EnergyChange(rtol="small"), ["EnergyChange", "rtol", "small"]),
        (lambda: EnergyChange(), ["positive tolerance"]),
        (lambda: GradientNorm(-1e-3), ["GradientNorm", "tol"]),
        (lambda: GradientNorm(NAN), ["GradientNorm", "nan"]),
        (lambda: GradientNorm(None), ["GradientNorm", "None"]),
        (lambda: GradientNorm(True), ["GradientNorm", "True"]),
        (lambda: StepNorm(INF), ["StepNorm", "inf"]),
        (lambda: StepNorm(-1.0), ["StepNorm", "tol", "-1"]),
        (lambda: TargetEnergy(NAN), ["TargetEnergy", "NaN"]),
        (lambda: After(-1), ["After", "-1"]),
        (lambda: After(1.5), ["After", "whole number of 0 or more", "1.5"]),
        (lambda: After(True), ["After", "True"]),
        (lambda: Never().patience(0), ["patience", "whole number of 1 or more", "0"]),
        (lambda: Never().patience(2.0), ["patience", "2.0"]),
        (lambda: Truncated(0), ["Truncated", "whole number of 1 or more as k", "0"]),
        (lambda: Truncated(1.0), ["Truncated", "1.0"]),
        (lambda: CG(rtol=-1.0), ["CG", "rtol", "-1"]),
        (lambda: CG(rtol=NAN), ["CG", "rtol", "nan"]),
        (lambda: CG(max_steps=0), ["CG", "whole number of 1 or more as max_steps", "0"]),
        (lambda: CG(max_steps=10.0), ["CG", "max_steps", "10.0"]),
        (lambda: Uniform((3,), 1.0, -1.0), ["Uniform", "low <= high", "low=1.0", "high=-1.0"]),
        (lambda: Uniform((3,), NAN), ["Uniform", "low <= high", "nan"]),
        (lambda: Uniform((-3,)), ["Uniform", "shape of whole numbers", "-3"]),
        (lambda: Uniform(-3), ["Uniform", "shape of whole numbers", "-3"]),
        (lambda: Normal((3,), -1.0), ["Normal", "std of 0 or more", "-1"]),
        (lambda: Normal((3,), NAN), ["Normal", "std of 0 or more", "nan"]),
        (lambda: Normal((3, 2.0)), ["Normal", "shape of whole numbers", "2.0"]),
        (lambda: Zeros("ab"), ["Zeros", "shape of whole numbers", "ab"]),
        (lambda: Symmetric((-3, -3)), ["Symmetric", "shape of whole numbers", "-3"]),
        (lambda: Symmetric((3, 4)), ["square matrix", "(3, 4)"]),
        (lambda: Symmetric((3,)), ["square matrix", "(3,)"]),
        (lambda: Symmetric((3, 3, 3)), ["square matrix", "(3, 3, 3)"]),
        (lambda: Symmetric((3, 3), 1.0, -1.0), ["Symmetric", "low <= high"]),
        (lambda: Dense(-1), ["Dense", "batch size of 0 or more", "-1"]),
        (lambda: Segment(torch.tensor([0, 3]), 3), ["[0, 3)", "0 to 3"]),
        (lambda: Segment(torch.tensor([-1, 0]), 3), ["[0, 3)", "-1 to 0"]),
        (lambda: Segment(torch.tensor([0.0]), 3), ["int64", "(1,)", "float32"]),
        (lambda: Segment(torch.tensor([0], dtype=torch.int32), 3), ["int64", "int32"]),
        (lambda: Segment(torch.tensor([[0]]), 3), ["index vector", "(1, 1)"]),
        (lambda: MLPEnergy(3, 0), ["y_dim=0"]),
        (lambda: solver(max_steps=-1), ["EnergySolver", "whole number of 0 or more as max_steps", "-1"]),
        (lambda: solver(max_steps=10.0), ["EnergySolver", "max_steps", "10.0"]),
        (lambda: solver().replace(max_steps=-2), ["EnergySolver", "max_steps", "-2"]),
        (lambda: solver().minimize(X, Y, max_steps=-5), ["minimize", "max_steps", "-5"]),
        (lambda: solver().minimize(X, Y, max_steps=2.5), ["minimize", "max_steps", "2.5"]),
        (lambda: solver(sync_every=0), ["EnergySolver", "whole number of 1 or more as sync_every", "0"]),
        (lambda: solver(sync_every=1.5), ["EnergySolver", "sync_every", "1.5"]),
        (lambda: solver(compile=True, compact=True), ["compile=True and compact=True exclude each other"]),
        (lambda: solver(compile=True).replace(compact=True), ["compile=True and compact=True exclude each other"]),
        (lambda: solver(halting=Never(), differentiation=Implicit()), ["Implicit", "never fires", "GradientNorm"]),
        (lambda: solver(differentiation=Implicit()).replace(halting=Never()), ["Implicit", "never fires"]),
        (lambda: solver(halting=Never() & After(3), differentiation=Implicit()), ["Implicit", "never fires"]),
    ],
)
@pytest.mark.usefixtures("no_type_checks")
def test_an_argument_out_of_range(make, words):
    with raises(ValueError, *words):
        make()


def test_the_least_arguments_that_are_allowed():
    solver(max_steps=0, sync_every=1, compile=True).replace(compile=False, compact=True)
    assert (Segment(torch.tensor([0, 2]), 3).rows, Segment(torch.zeros(0, dtype=torch.int64), 0).rows) == (2, 0)
    assert (Dense(0).batch, After(0).n, Truncated(1).k, CG(0.0, 1).max_steps, Never().patience(1).n) == (0, 0, 1, 1, 1)
    assert Uniform((0,), 1.0, 1.0)(X, Dense(4), None).shape == Normal(0, 0.0)(X, Dense(4), None).shape == (4, 0)
    assert Symmetric((3, 3), 1.0, 1.0)(X, Dense(4), None).unique().tolist() == [1.0]
    assert [EnergyChange(atol=1.0), EnergyChange(rtol=1), GradientNorm(0.0), StepNorm(0), TargetEnergy(-INF)]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: EnergySolver("energy", SGD(0.1)), ["energy must be a function", "'energy'"]),
        (lambda: EnergySolver(bowl, torch.optim.SGD), ["optimizer must be an inner optimizer", "construct it first"]),
        (lambda: EnergySolver(bowl, SGD), ["optimizer must be", "SGD(lr=0.1)", "(the class; construct it first)"]),
        (lambda: EnergySolver(bowl, 0.1), ["optimizer must be", "got 0.1."]),
        (lambda: solver(halting=GradientNorm), ["halting must be a halting criterion", "construct it first"]),
        (lambda: solver(halting=bowl), ["halting must be a halting criterion", "bowl"]),
        (lambda: solver(differentiation=Unroll), ["differentiation must be an instance", "construct it first"]),
        (lambda: solver(differentiation=1), ["differentiation must be an instance such as Truncated(1); got 1."]),
        (lambda: solver(recorder=BestSoFar), ["recorder must be an instance", "construct it first"]),
        (lambda: solver(recorder=None), ["recorder must be an instance such as BestSoFar(); got None."]),
        (lambda: solver(init=Y), ["init must be a function, or None"]),
        (lambda: solver(layout=Dense(4)), ["layout must be a function, or None", "Dense(batch=4)"]),
        (lambda: solver(padded, scratchpad=3), ["scratchpad must be a function, or None", "3"]),
        (lambda: solver(layout=len).minimize(X, Y), ["layout(x) must be a Layout such as Dense(batch); got 4."]),
        (lambda: solver().replace(haltign=Never()), ["EnergySolver has no haltign", "halting"]),
        (lambda: solver().replace(b=1, a=2), ["EnergySolver has no a, b;"]),
        (lambda: solver().replace(optimizer=0.1), ["optimizer must be"]),
    ],
)
@pytest.mark.usefixtures("no_type_checks")
def test_a_part_of_the_wrong_kind(make, words):
    with raises(TypeError, *words):
        make()


@pytest.mark.parametrize(
    ("z", "words"),
    [
        (Y.long(), ["z must be made of floating-point tensors", "torch.int64", "z.float()"]),
        (Y[:3], ["z has shape (3, 3)", "(4, ...)"]),
        ([], ["z holds no tensor", "4 rows"]),
        (torch.empty(4, 3, device="meta"), ["z is on meta and x on cpu"]),
    ],
)
def test_scratchpads_that_do_not_fit(z, words):
    with raises(ValueError, *words):
        solver(padded).minimize(X, Y, z)


@pytest.mark.parametrize("energy", [bowl, MLPEnergy(3, 3, width=4)])
def test_a_scratchpad_for_an_energy_that_takes_none(energy):
    if energy is bowl:
        with raises(ValueError, "scratchpad", "takes none"):
            solver(energy).minimize(X, Y, Y)
        with raises(ValueError, "scratchpad", "takes none"):
            solver(energy, scratchpad=Zeros((3,)))
    else:
        with raises(ValueError, "scratchpad"):
            solver(energy).minimize(X, Y, Y)


@pytest.mark.parametrize("energy", [padded, Padded(), MLPEnergy(3, 3, z_dim=2, width=4)])
def test_no_scratchpad_for_an_energy_that_takes_one(energy):
    with raises(ValueError, "scratchpad"):
        solver(energy).minimize(X, Y)


def test_a_criterion_that_reduces_over_the_batch():
    with raises(ValueError, "criterion", "shape ()", "(4,)"):
        solver(halting=halting(lambda info: (info.energy < 1).all())).minimize(X, Y)
    with raises(ValueError, "criterion", "torch.float32 of shape (4,)", "expected torch.bool"):
        solver(halting=halting(lambda info: info.energy)).minimize(X, Y)


def test_an_empty_batch_gives_an_empty_solution():
    for mode in (Truncated(1), Unroll(), Implicit()):
        solution = solver(lambda x, y: 1 / 0, differentiation=mode, init=Uniform((3,))).minimize(X[:0])
        assert isinstance(solution, Solution)
        assert solution.y.shape == (0, 3)
        assert solution.energy.shape == solution.steps.shape == solution.status.shape == (0,)
        solution.raise_for_status(strict=True)
        assert "empty" in repr(solution)


def test_answers_without_features_and_leaves_of_one_dimension():
    nothing = solver(lambda x, y: y.sum(-1) + x.sum(-1)).minimize(X, torch.zeros(4, 0))
    assert nothing.converged.all()
    flat = solver(lambda x, y: (x[:, 0] - y) ** 2, halting=GradientNorm(1e-4)).minimize(X, torch.zeros(4))
    torch.testing.assert_close(flat.y, X[:, 0], atol=1e-3, rtol=0)


def test_raise_for_status_names_the_samples():
    def energy(x, y):
        return bowl(x, y) / (x[:, 0] > 0)

    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    solution = solver(energy, max_steps=1).minimize(x, torch.zeros(2, 2))
    assert solution.status.tolist() == [Status.MAX_STEPS, Status.NONFINITE]
    with raises(NonfiniteError, "1 of 2", "[1]"):
        solution.raise_for_status()
    unfinished = solver(max_steps=1).minimize(x, torch.zeros(2, 2))
    unfinished.raise_for_status()
    with raises(NotConvergedError, "2 of 2", "[0, 1]"):
        unfinished.raise_for_status(strict=True)


def test_initial_answers_follow_the_problem_and_the_generator():
    x = X.double()
    for init in (Uniform((2, 3)), Normal((2, 3)), Zeros((2, 3))):
        first, again = (init(x, Dense(4), torch.Generator().manual_seed(0)) for _ in range(2))
        assert first.shape == (4, 2, 3)
        assert first.dtype == torch.float64
        assert torch.equal(first, again)
    index = torch.tensor([0, 0, 1, 1, 1])
    assert Uniform((2,), 3.0, 4.0)(x, Segment(index, 2), None).shape == (5, 2)
    assert Uniform(2)((torch.ones(4, dtype=torch.int64),), Dense(4), None).dtype == torch.get_default_dtype()
    assert torch.equal(FromInput()(x, Dense(4), None), x)
    low, high = Uniform((1000,), 3.0, 4.0)(x, Dense(4), None).aminmax()
    assert 3 <= low < 3.05
    assert 3.95 < high <= 4


def test_symmetric_answers_are_spread_as_others():
    first, again = (Symmetric((30, 30), 1.0, 3.0)(X, Dense(4), torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(first, first.mT)
    rows, columns = torch.triu_indices(30, 30, 1)
    for entries in (first.diagonal(dim1=1, dim2=2), first[:, rows, columns]):
        assert abs(entries.mean() - 2) < 0.15
        assert abs(entries.std() - 2 / 12**0.5) < 0.1


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


@pytest.mark.usefixtures("no_type_checks")
def test_criteria_do_not_combine_with_other_things():
    for combine in (operator.or_, operator.and_):
        with raises(TypeError, "unsupported operand"):
            combine(Never(), 3)
    with raises(NotImplementedError, "Empty must override fires(info), or init and update"):
        solver(halting=type("Empty", (Halting,), {})()).minimize(X, Y)


@pytest.mark.usefixtures("no_type_checks")
def test_a_criterion_that_returns_no_tensor():
    with raises(ValueError, "criterion", "returned bool", "one decision for each sample"):
        solver(halting=halting(lambda info: False)).minimize(X, Y)


FIELDS = ("energy", "optimizer", "init", "halting", "differentiation", "recorder", "max_steps", "layout")
FIELDS += ("scratchpad", "compile", "compact", "sync_every")


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


def test_long_lists_of_samples_are_cut():
    failed = Solution(Y, None, torch.zeros(25), torch.zeros(25).long(), torch.full((25,), Status.NONFINITE))
    with raises(NonfiniteError, "25 of 25", "indices [0, 1, 2", "18, 19] and 5 more. Their y"):
        failed.raise_for_status()
    few = Solution(Y, None, torch.zeros(20), torch.zeros(20).long(), torch.full((20,), Status.MAX_STEPS))
    with raises(NotConvergedError, "20 of 20", "18, 19]. Allow more"):
        few.raise_for_status(strict=True)
    assert repr(few) == "Solution(batch=20: 20 MAX_STEPS)"


def test_an_energy_without_evaluate_or_config():
    class Blank(Energy):
        pass

    with raises(NotImplementedError, "Blank must override evaluate(context, y)"):
        solver(Blank()).minimize(X, Y)
    with raises(NotImplementedError, "Blank has no config()"):
        Blank().config()


def test_answers_on_two_devices_to_a_problem_without_tensors():
    with raises(ValueError, "y is on meta and x on cpu"):
        solver(layout=lambda x: Dense(4)).minimize("problem", (Y, torch.empty(4, 3, device="meta")))
