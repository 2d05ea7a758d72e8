"""Parts as JSON: what is written is read back equal, and nothing else is written or read."""

import json
import math
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from energysolve import (
    SGD,
    Adam,
    After,
    BestSoFar,
    Detached,
    EnergyChange,
    EnergyIncrease,
    FromInput,
    GradientNorm,
    Implicit,
    Momentum,
    Never,
    Normal,
    Nothing,
    Projected,
    RMSProp,
    StepNorm,
    TargetEnergy,
    TorchOpt,
    Trajectory,
    Truncated,
    Uniform,
    Unroll,
    Zeros,
    halting,
)
from energysolve.differentiation import NanGradient, RaiseError, ZeroGradient
from energysolve.engine.linear import CG
from energysolve.optimizers import Ball, Box, Simplex
from energysolve.pretrained import serialization
from energysolve.pretrained.serialization import from_config, register, to_config

positive = st.floats(1e-30, 1e30)
values = st.floats(allow_nan=False)
shapes = st.lists(st.integers(0, 50), max_size=3).map(tuple)
bounds = st.tuples(values, values).map(sorted)
projections = st.one_of(
    bounds.map(lambda pair: Box(*pair)), st.builds(Box), st.builds(Ball, positive), st.builds(Simplex)
)
plain_optimizers = st.one_of(
    st.builds(SGD, positive),
    st.builds(Momentum, positive, st.floats(0, 0.99)),
    st.builds(Adam, positive),
    st.builds(RMSProp, positive),
)
optimizers = st.recursive(plain_optimizers, lambda inner: st.builds(Projected, inner, projections), max_leaves=3)
simple_criteria = st.one_of(
    st.builds(EnergyChange, positive, positive),
    st.builds(GradientNorm, positive),
    st.builds(StepNorm, positive),
    st.builds(TargetEnergy, values),
    st.builds(EnergyIncrease),
    st.builds(After, st.integers(0, 1000)),
    st.builds(Never),
)
criteria = st.recursive(
    simple_criteria,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda pair: pair[0] | pair[1]),
        st.tuples(inner, inner).map(lambda pair: pair[0] & pair[1]),
        st.builds(lambda criterion, n: criterion.patience(n), inner, st.integers(1, 9)),
    ),
    max_leaves=5,
)
linear_solvers = st.builds(CG, st.none() | st.floats(0, 1), st.none() | st.integers(1, 100))
modes = st.one_of(
    st.builds(Detached),
    st.builds(Unroll),
    st.builds(Truncated, st.integers(1, 9)),
    st.builds(Implicit, linear_solvers, st.sampled_from([ZeroGradient(), NanGradient(), RaiseError()])),
)
initializers = st.one_of(
    st.builds(lambda shape, pair: Uniform(shape, *pair), shapes, bounds),
    st.builds(Normal, shapes, positive),
    st.builds(Zeros, shapes),
    st.builds(FromInput),
    st.builds(FromInput, projections),
)
recorders = st.sampled_from([Nothing(), BestSoFar(), Trajectory()])
parts = st.one_of(optimizers, projections, criteria, modes, linear_solvers, initializers, recorders)


# The run-time type checker looks at a random entry of the shapes.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module")
@settings(max_examples=400, deadline=None)
@given(parts)
def test_round_trip_through_strict_json(part):
    text = json.dumps(to_config(part), allow_nan=False)
    again = from_config(json.loads(text))
    assert again == part
    assert type(again) is type(part)


def test_format():
    assert to_config(SGD(lr=10.0)) == {"type": "SGD", "lr": 10.0}
    assert to_config(Box(high=1.0)) == {"type": "Box", "low": "-inf", "high": 1.0}
    assert to_config(Never().patience(2)) == {"type": "Patience", "criterion": {"type": "Never"}, "n": 2}


def test_fields_with_defaults_may_be_absent():
    assert from_config({"type": "Box"}) == Box(-math.inf, math.inf)
    assert from_config({"type": "Implicit"}) == Implicit()


@dataclass(frozen=True)
class Faster(SGD):
    """A subclass: code of the user's, which is not the library's SGD."""


def own_init(x, layout, generator):
    return x


@pytest.mark.parametrize(
    "part",
    [
        TorchOpt(lambda: None),
        halting(lambda info: info.energy < 1),
        halting(lambda info: info.energy < 1) | Never(),
        FromInput(lambda x: x),
        Projected(SGD(1.0), lambda y: y),
        Faster(1.0),
        own_init,
        SGD,
        "SGD",
        None,
    ],
)
def test_other_parts_are_refused(part):
    with pytest.raises(TypeError, match=r"(?s)cannot be written as JSON.*solver\.replace"):
        to_config(part)


def test_the_message_names_the_field():
    with pytest.raises(TypeError, match=r"FromInput\.function: The function own_function"):
        to_config(FromInput(own_function))


def own_function(x):
    return x


def test_nan_is_refused():
    broken = TargetEnergy(1.0)
    object.__setattr__(broken, "value", math.nan)
    with pytest.raises(TypeError, match=r"TargetEnergy\.value is NaN"):
        to_config(broken)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "Expected a part as an object"),
        ([], "Expected a part"),
        ({}, "Expected a part"),
        ({"type": 3}, "Expected a part"),
        ({"type": "os.system"}, "Unknown type 'os.system'; known are LBFGS"),
        ({"type": "TorchOpt", "factory": None}, "Unknown type"),
        ({"type": "SGD"}, "SGD needs lr"),
        ({"type": "SGD", "lr": 1.0, "momentum": 0.9}, "SGD has no momentum; its fields are lr"),
        ({"type": "Never", "tol": 1.0}, r"Never has no tol; its fields are \(none\)"),
        ({"type": "SGD", "lr": -1.0}, "lr of 0 or more"),
        ({"type": "SGD", "lr": "fast"}, r"SGD\.lr must be a number"),
        ({"type": "SGD", "lr": True}, r"SGD\.lr must be a number"),
        ({"type": "SGD", "lr": None}, r"SGD\.lr must be a number"),
        ({"type": "SGD", "lr": "inf"}, "finite lr"),
        ({"type": "TargetEnergy", "value": math.nan}, r"TargetEnergy\.value must be a number"),
        ({"type": "After", "n": 1.5}, r"After\.n must be a whole number"),
        ({"type": "Uniform", "shape": "ab"}, r"Uniform\.shape must be a list of"),
        ({"type": "Uniform", "shape": [1, "a"]}, r"Uniform\.shape must be a list of"),
        ({"type": "Uniform", "shape": [-1]}, "shape of whole numbers"),
        ({"type": "Either", "a": {"type": "Never"}, "b": 3}, r"Either\.b must be a part of kind Halting"),
        (
            {"type": "Either", "a": {"type": "Never"}, "b": {"type": "SGD", "lr": 1.0}},
            r"Either\.b must be a part of kind",
        ),
        (
            {"type": "Projected", "optimizer": {"type": "SGD", "lr": 1.0}, "projection": {"type": "FromInput"}},
            "one of Box",
        ),
        ({"type": "Patience", "criterion": {"type": "Later"}, "n": 1}, "Unknown type 'Later'"),
        ({"type": "CG", "rtol": None, "max_steps": 0}, "1 or more as max_steps"),
    ],
)
def test_broken_configurations_are_explained(config, message):
    with pytest.raises(ValueError, match=message):
        from_config(config)


@dataclass(frozen=True)
class Own:
    value: float


def test_registered_parts_are_written_and_read():
    with pytest.raises(TypeError, match="cannot be written"):
        to_config(Own(2.0))
    register(Own)
    try:
        register(Own)  # as in a notebook cell that runs twice
        assert to_config(Own(2.0)) == {"type": "Own", "value": 2.0}
        assert from_config({"type": "Own", "value": 2.0}) == Own(2.0)
    finally:
        del serialization._TYPES["Own"]
    with pytest.raises(ValueError, match=r"'SGD' is taken by energysolve\.optimizers"):
        register(type("SGD", (), {}))
    assert from_config({"type": "SGD", "lr": 1.0}) == SGD(1.0)
