"""The library's own parts as plain JSON, and back.

A part becomes ``{"type": "SGD", "lr": 10.0}``, nested where parts hold parts. Only registered types are written or
read: nothing is unpickled, and nothing is imported by name.
"""

import math
import types
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from typing import Any, Union, get_args, get_origin, get_type_hints

from ..differentiation import CG, Detached, Implicit, Truncated, Unroll
from ..halting import (
    After,
    Both,
    Either,
    EnergyChange,
    EnergyIncrease,
    GradientNorm,
    Never,
    Patience,
    StepNorm,
    TargetEnergy,
)
from ..initializers import FromInput, Normal, Symmetric, Uniform, Zeros
from ..optimizers import (
    SGD,
    Adam,
    Backtracking,
    Ball,
    Box,
    Clipped,
    FixedPoint,
    Momentum,
    Projected,
    RMSProp,
    Simplex,
)
from ..recorders import BestSoFar, Nothing, Trajectory

_PROJECTIONS = (Box, Ball, Simplex)

_TYPES: dict[str, type] = {
    part.__name__: part
    for part in (
        *(SGD, Momentum, Adam, RMSProp, Backtracking, Clipped, FixedPoint, Projected, *_PROJECTIONS),
        *(EnergyChange, GradientNorm, StepNorm, TargetEnergy, EnergyIncrease, After, Never, Either, Both, Patience),
        *(Detached, Unroll, Truncated, Implicit, CG),
        *(Uniform, Symmetric, Normal, Zeros, FromInput),
        *(Nothing, BestSoFar, Trajectory),
    )
}

_INFINITIES = {"inf": math.inf, "-inf": -math.inf}
"""JSON has no infinities; they are written as these strings. No field of a part is a string otherwise."""


def register(*parts: type) -> None:
    """Let `to_config` and `from_config` handle these dataclasses too, by the names of the classes.

    Raises:
        ValueError: if another class of the same name is registered.
    """
    for part in parts:
        known = _TYPES.setdefault(part.__name__, part)
        if (known.__module__, known.__qualname__) != (part.__module__, part.__qualname__):
            raise ValueError(f"The name {part.__name__!r} is taken by {known.__module__}.{known.__qualname__}.")
        _TYPES[part.__name__] = part


def to_config(part: Any) -> dict[str, Any]:
    """A part of a solver as plain JSON: ``to_config(SGD(lr=10.0)) == {"type": "SGD", "lr": 10.0}``.

    Args:
        part: an optimizer, projection, halting criterion, differentiation mode, linear solver, initializer or recorder
            of the library.

    Raises:
        TypeError: if the part, or one inside it, is not one of the library's own: a subclass, a function, `TorchOpt`.
    """
    if type(part) not in _TYPES.values():
        raise TypeError(
            f"{_shown(part)} cannot be written as JSON: only the library's own parts can, since code is never stored. "
            "Exchange it before saving and give it back after loading, in a solver with solver.replace(...)."
        )
    config: dict[str, Any] = {"type": type(part).__name__}
    for field in fields(part):
        config[field.name] = _encode(getattr(part, field.name), f"{type(part).__name__}.{field.name}")
    return config


def from_config(config: Any) -> Any:
    """The part that `to_config` wrote.

    Raises:
        ValueError: if the type is unknown, or a field is missing, unknown, of the wrong kind or out of range.
    """
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
    if not _fits(value, hint):
        raise ValueError(f"{where} must be {_described(hint)}; got {value!r}.")
    return value


def _fits(value: Any, hint: Any) -> bool:
    """Whether a decoded value is of the kind that the field's annotation asks for."""
    if get_origin(hint) in (Union, types.UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if get_origin(hint) is Sequence:
        return isinstance(value, tuple) and all(_fits(item, get_args(hint)[0]) for item in value)
    if get_origin(hint) is Callable:
        return isinstance(value, _PROJECTIONS)
    if hint in (int, float):
        # JSON does not tell 1.0 from 1, Python's booleans are integers, and NaN is no setting.
        kinds = (int, float) if hint is float else int
        return isinstance(value, kinds) and not isinstance(value, bool) and value == value
    return isinstance(value, hint)


def _described(hint: Any) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_described(option) for option in get_args(hint))
    if get_origin(hint) is Sequence:
        return f"a list of {_described(get_args(hint)[0])}"
    if get_origin(hint) is Callable:
        return f"one of {', '.join(projection.__name__ for projection in _PROJECTIONS)}"
    named = {int: "a whole number", float: "a number", type(None): "null"}
    return named.get(hint, f"a part of kind {getattr(hint, '__name__', hint)}")


def _shown(part: Any) -> str:
    if isinstance(part, type):
        return f"The class {part.__name__}"
    return f"The function {part.__name__}" if isinstance(part, types.FunctionType) else f"{part!r}"
