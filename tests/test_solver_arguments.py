"""Bad input raises an exception that says what was wrong."""

import operator
import re

import pytest
import torch

from energysolve import (
    SGD,
    After,
    BestSoFar,
    Dense,
    Energy,
    EnergyChange,
    EnergySolver,
    GradientNorm,
    Halting,
    Implicit,
    MLPEnergy,
    Never,
    Normal,
    Segment,
    StepNorm,
    TargetEnergy,
    Truncated,
    Uniform,
    Unroll,
    Zeros,
    halting,
)
from energysolve.engine.linear import CG
from energysolve.initializers import Symmetric

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
        (lambda: solver().minimize(X, Y, max_steps=-1), ["minimize", "max_steps", "-1"]),
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


def test_arguments_of_the_solver_have_names_and_parts_have_no_position():
    assert solver().max_steps == EnergySolver(energy=bowl, optimizer=SGD(0.1)).max_steps
    with raises(TypeError, "positional"):
        EnergySolver(bowl, SGD(0.1), Zeros((3,)))


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
        (Y.long(), ["z must consist of floating-point tensors", "torch.int64", "z.float()"]),
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


@pytest.mark.usefixtures("no_type_checks")
def test_criteria_do_not_combine_with_other_things():
    for combine in (operator.or_, operator.and_):
        with raises(TypeError, "unsupported operand"):
            combine(Never(), 3)
    with raises(NotImplementedError, "Empty must override fires(info), or init and update"):
        solver(halting=type("Empty", (Halting,), {})()).minimize(X, Y)


@pytest.mark.usefixtures("no_type_checks")
def test_a_criterion_that_returns_no_tensor():
    with raises(ValueError, "criterion", "returned bool", "one decision per sample"):
        solver(halting=halting(lambda info: False)).minimize(X, Y)


def test_an_energy_without_evaluate_or_config():
    class Blank(Energy):
        pass

    with raises(NotImplementedError, "Blank must override evaluate(context, y)"):
        solver(Blank()).minimize(X, Y)
    with raises(NotImplementedError, "Blank has no config()"):
        Blank().config()
