"""What can be chosen on the page. Whatever the page sends is checked here, and nowhere else is it trusted."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..halting import EnergyChange, GradientNorm, Halting, Never, StepNorm, TargetEnergy
from ..optimizers import (
    LBFGS,
    SGD,
    Adam,
    Backtracking,
    InnerOptimizer,
    LevenbergMarquardt,
    Momentum,
    NewtonCG,
    RMSProp,
)

OWN = "own"
PRINCIPAL, COORDINATES = "principal", "coordinates"
OPTIMIZERS: dict[str, Callable[[float], InnerOptimizer]] = {
    "LBFGS": lambda step: LBFGS(),
    "Backtracking": lambda step: Backtracking(SGD(step)),
    "NewtonCG": lambda step: NewtonCG(),
    "LevenbergMarquardt": lambda step: LevenbergMarquardt(),
    "SGD": SGD,
    "Momentum": Momentum,
    "Adam": Adam,
    "RMSProp": RMSProp,
}
"""Optimizers by name, made from a step size, which those that choose their steps do not use."""
STEPPED = ("Backtracking", "SGD", "Momentum", "Adam", "RMSProp")
CRITERIA: dict[str, Callable[[float], Halting]] = {
    "GradientNorm": GradientNorm,
    "EnergyChange": lambda tolerance: EnergyChange(atol=tolerance),
    "StepNorm": StepNorm,
    "TargetEnergy": TargetEnergy,
    "Never": lambda tolerance: Never(),
}
"""Halting criteria by name, made from a tolerance."""
SLOTS = ("A", "B", "C")
MOST_STEPS = 2000
_LARGEST = 1e12


class Method(NamedTuple):
    """An optimizer by name, with its step size."""

    name: str
    step: float


@dataclass(frozen=True)
class Settings:
    """Everything that decides what the page shows. They can be compared and hashed.

    Attributes:
        problem: the number of the problem.
        plane: the elements of the answer on the two axes, counted from 1; None for the principal directions.
        methods: an optimizer for each slot; None for an empty one.
        criterion: the name of the halting criterion, or `OWN`.
        tolerance: of the criterion.
        max_steps: the largest number of steps.
        start: coordinates of the initial answer in the plane; None for the solver's own.
        view: the shown ranges of the coordinates, ``(left, right, bottom, top)``; None for all that is of interest.

    Examples:
        >>> from energysolve.explore import Settings
        >>> sent = {"problem": 0, "optimizers": ["SGD", None, None], "steps": [0.1, None, None], "max_steps": 50}
        >>> sent |= {"criterion": "GradientNorm", "tolerance": 1e-6}
        >>> Settings.of(sent, problems=1, size=2, own=False).methods[0]
        Method(name='SGD', step=0.1)
        >>> Settings.of(sent | {"max_steps": 0}, problems=1, size=2, own=False)
        Traceback (most recent call last):
        ...
        ValueError: The number of steps must be a whole number from 1 to 2000, got 0.
    """

    problem: int = 0
    plane: tuple[int, int] | None = None
    methods: tuple[Method | None, ...] = (Method("LBFGS", 0.1), None, None)
    criterion: str = "GradientNorm"
    tolerance: float = 1e-6
    max_steps: int = 200
    start: tuple[float, float] | None = None
    view: tuple[float, float, float, float] | None = None

    @classmethod
    def of(cls, page: Mapping[str, Any], *, problems: int | None, size: int, own: bool) -> "Settings":
        """The settings that the page sent.

        Args:
            page: what it sent, by name: the fields, with ``kind``, ``first`` and ``second`` for the plane, and
                ``optimizers`` and ``steps`` for the methods.
            problems: the number of problems; None for any.
            size: the number of elements of an answer.
            own: whether the solver's own optimizer and criterion may be chosen.

        Raises:
            ValueError: if something is missing, not of the list, not finite or out of range; the message says what.
        """
        names = (*OPTIMIZERS, *([OWN] if own else []))
        optimizers, steps = (_listed(page.get(name), len(SLOTS), name) for name in ("optimizers", "steps"))
        methods = tuple(_method(*each, names) for each in zip(SLOTS, optimizers, steps, strict=True))
        if not any(methods):
            raise ValueError("Choose an optimizer.")
        criterion = _one_of("halting criterion", page.get("criterion"), (*CRITERIA, *([OWN] if own else [])))
        used = criterion not in (OWN, "Never")
        least = None if criterion == "TargetEnergy" else 0.0
        return cls(
            problem=_whole("problem", page.get("problem"), 0, 2**31 - 1 if problems is None else problems - 1),
            plane=_plane(page, size),
            methods=methods,
            criterion=criterion,
            tolerance=_number("tolerance", page.get("tolerance"), least) if used else 0.0,
            max_steps=_whole("number of steps", page.get("max_steps"), 1, MOST_STEPS),
            start=_numbers("start", page.get("start"), 2),  # pyright: ignore[reportArgumentType]
            view=_view(page.get("view")),
        )


def _plane(page: Mapping[str, Any], size: int) -> tuple[int, int] | None:
    if size == 2:
        return 1, 2
    if _one_of("plane", page.get("kind"), (PRINCIPAL, COORDINATES)) == PRINCIPAL:
        return None
    first, second = (_whole(f"{name} element", page.get(name), 1, size) for name in ("first", "second"))
    if first == second:
        raise ValueError(f"The plane needs two different elements of the answer, got {first} twice.")
    return first, second


def _method(slot: str, name: Any, step: Any, names: Sequence[str]) -> Method | None:
    if name in (None, ""):
        return None
    chosen = _one_of(f"optimizer {slot}", name, names)
    if chosen not in STEPPED:
        return Method(chosen, 0.0)
    return Method(chosen, _number(f"step size of {slot}", step, 0.0))


def _view(value: Any) -> tuple[float, float, float, float] | None:
    ranges = _numbers("view", value, 4)
    if ranges is None:
        return None
    left, right, bottom, top = ranges
    if not (left < right and bottom < top):
        raise ValueError(f"The view must be (left, right, bottom, top), got {list(ranges)}.")
    return left, right, bottom, top


def _numbers(what: str, value: Any, count: int) -> tuple[float, ...] | None:
    if value is None:
        return None
    return tuple(_number(what, each, None) for each in _listed(value, count, what))


def _listed(value: Any, count: int, what: str) -> list[Any]:
    if not isinstance(value, list | tuple) or len(value) != count:
        raise ValueError(f"The page must send {count} values as {what}.")
    return list(value)


def _one_of(what: str, value: Any, names: Sequence[str]) -> str:
    if not isinstance(value, str) or value not in names:
        raise ValueError(f"There is no {what} {_shown(value)}; choose one of {', '.join(names)}.")
    return value


def _whole(what: str, value: Any, least: int, most: int) -> int:
    whole = isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer()
    if not whole or not least <= value <= most:
        raise ValueError(f"The {what} must be a whole number from {least} to {most}, got {_shown(value)}.")
    return int(value)


def _number(what: str, value: Any, least: float | None) -> float:
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not good or abs(value) > _LARGEST or (least is not None and value < least):
        wanted = "a number" if least is None else f"a number of {least:g} or more"
        raise ValueError(f"The {what} must be {wanted}, got {_shown(value)}.")
    return float(value)


def _shown(value: Any) -> str:
    return "nothing" if value is None else repr(value)[:80]
