"""Parts of solvers as plain JSON, such as ``{"type": "SGD", "lr": 10.0}``, nested where parts contain parts.

Only registered types are written or read: nothing is unpickled, and nothing is imported by name.
"""

import math
import types
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from typing import Any, Union, get_args, get_origin, get_type_hints

from ..differentiation import CG, Detached, Implicit, NanGradient, RaiseError, Truncated, Unroll, ZeroGradient
from ..halting import (
    After,
    Both,
    Either,
    EnergyChange,
    EnergyIncrease,
    GradientNorm,
    Never,
    Patience,
    Stationary,
    StepNorm,
    TargetEnergy,
)
from ..initializers import EdgeValues, FromInput, Normal, Symmetric, Uniform, Zeros
from ..optimizers import (
    LBFGS,
    SGD,
    Adam,
    Backtracking,
    Ball,
    Box,
    Clipped,
    FixedPoint,
    LevenbergMarquardt,
    Momentum,
    NewtonCG,
    Projected,
    RMSProp,
    Simplex,
)
from ..recorders import BestSoFar, Nothing, Trajectory

_PROJECTIONS = (Box, Ball, Simplex)

_TYPES: dict[str, type] = {
    part.__name__: part
    for part in (
        *(LBFGS, NewtonCG, LevenbergMarquardt, FixedPoint, Backtracking),
        *(SGD, Momentum, Adam, RMSProp, Clipped, Projected, *_PROJECTIONS),
        *(EnergyChange, GradientNorm, Stationary, StepNorm, TargetEnergy, EnergyIncrease, After, Never),
        *(Either, Both, Patience),
        *(Detached, Unroll, Truncated, Implicit, CG, ZeroGradient, NanGradient, RaiseError),
        *(Uniform, Symmetric, Normal, Zeros, FromInput, EdgeValues),
        *(Nothing, BestSoFar, Trajectory),
    )
}

_INFINITIES = {"inf": math.inf, "-inf": -math.inf}
"""JSON has no infinities; they are written as these strings. No field of a part is a string otherwise."""


def register(*parts: type) -> None:
    """Let `to_config` and `from_config` handle these dataclasses too; a ValueError if a class's name is taken."""
    for part in parts:
        known = _TYPES.setdefault(part.__name__, part)
        if (known.__module__, known.__qualname__) != (part.__module__, part.__qualname__):
            raise ValueError(f"The name {part.__name__!r} is taken by {known.__module__}.{known.__qualname__}.")
        _TYPES[part.__name__] = part


def to_config(part: Any) -> dict[str, Any]:
    """A part of a solver as plain JSON: ``to_config(SGD(lr=10.0)) == {"type": "SGD", "lr": 10.0}``.

    Raises:
        TypeError: if the part, or one inside it, is not of a registered type: a subclass, a function, `TorchOpt`.
    """
    if type(part) not in _TYPES.values():
        kind = "class" if isinstance(part, type) else "function"
        shown = f"The {kind} {part.__name__}" if isinstance(part, type | types.FunctionType) else repr(part)
        raise TypeError(
            f"{shown} cannot be written as JSON: only the library's own parts can, since code is never stored. "
            "Exchange it before saving and restore it after loading, in a solver with solver.replace(...)."
        )
    config: dict[str, Any] = {"type": type(part).__name__}
    for field in fields(part):
        config[field.name] = _encode(getattr(part, field.name), f"{type(part).__name__}.{field.name}")
    return config


def from_config(config: Any) -> Any:
    """The part that `to_config` wrote; a ValueError if the type or a field is missing, unknown or invalid."""
    if not isinstance(config, dict) or not isinstance(config.get("type"), str):
        raise ValueError(f'Expected a part as an object with a "type", such as {{"type": "Never"}}; got {config!r}.')
    name = config["type"]
    if name not in _TYPES:
        raise ValueError(
            f"Unknown type {name!r}; known are {', '.join(_TYPES)}. If a later version of the library wrote it, "
            "upgrade."
        )
    cls = _TYPES[name]
    known = {field.name: field for field in fields(cls)}
    unknown = sorted(set(config) - set(known) - {"type"})
    if unknown:
        raise ValueError(f"{name} has no {', '.join(unknown)}; its fields are {', '.join(known) or '(none)'}.")
    required = [key for key, field in known.items() if field.default is field.default_factory is MISSING]
    missing = [key for key in required if key not in config]
    if missing:
        raise ValueError(f"{name} needs {', '.join(missing)}; got {config!r}.")
    hints = get_type_hints(cls)
    values = {key: _decode(config[key], hints[key], f"{name}.{key}") for key in known if key in config}
    try:
        return cls(**values)
    except TypeError as error:
        raise ValueError(f"{name} cannot be built from {values!r}: {error}") from error


def _encode(value: Any, where: str) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        if math.isnan(value):
            raise TypeError(f"{where} is NaN, which cannot be written as JSON.")
        return float(value) if math.isfinite(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, tuple | list):
        return [_encode(item, where) for item in value]
    try:
        return to_config(value)
    except TypeError as error:
        raise TypeError(f"{where}: {error}") from None


def _decode(value: Any, hint: Any, where: str) -> Any:
    if isinstance(value, str) and value in _INFINITIES:
        value = _INFINITIES[value]
    elif isinstance(value, dict):
        value = from_config(value)
    elif isinstance(value, list):
        value = tuple(value)
    fits, expected = _kind(hint)
    if not fits(value):
        raise ValueError(f"{where} must be {expected}; got {value!r}.")
    return value


def _kind(hint: Any) -> tuple[Callable[[Any], bool], str]:
    """Whether a decoded value is of the kind that a field's annotation asks for, and the name of that kind."""
    kinds = [_kind(option) for option in get_args(hint)] if get_origin(hint) is not Callable else []
    if get_origin(hint) in (Union, types.UnionType):
        return lambda value: any(fits(value) for fits, _ in kinds), " or ".join(name for _, name in kinds)
    if get_origin(hint) is Sequence:
        fits, name = kinds[0]
        return lambda value: isinstance(value, tuple) and all(map(fits, value)), f"a list of {name}"
    if get_origin(hint) is Callable:
        names = ", ".join(projection.__name__ for projection in _PROJECTIONS)
        return lambda value: isinstance(value, _PROJECTIONS), f"one of {names}"
    if hint in (int, float):
        # JSON does not distinguish 1.0 from 1, Python's booleans are integers, and NaN is no setting.
        classes = (int, float) if hint is float else (int,)
        name = "a number" if hint is float else "a whole number"
        return lambda value: isinstance(value, classes) and not isinstance(value, bool) and value == value, name
    return lambda value: isinstance(value, hint), "null" if hint is type(None) else f"a part of kind {hint.__name__}"
