"""Checks of arguments."""

import difflib
import inspect
import math
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def names_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: the TypeError for an unknown keyword argument names the one that was probably meant."""
    known = tuple(inspect.signature(function).parameters)

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs:
            if name not in known:
                close = difflib.get_close_matches(name, known, 1)
                meant = f" Did you mean {close[0]}=?" if close else ""
                takes = ", ".join(name for name in known if name != "self")
                raise TypeError(f"{function.__name__} has no argument {name!r}; it takes {takes}.{meant}")
        return function(*args, **kwargs)

    return checked


def check_nonnegative(owner: str, **values: float) -> None:
    """Raise a ValueError for an argument that is negative, infinite, NaN or no number."""
    for name, value in values.items():
        if isinstance(value, bool) or not (isinstance(value, int | float) and math.isfinite(value) and value >= 0):
            raise ValueError(f"{owner} needs a finite {name} of 0 or more, got {value!r}.")


MOST_LAYERS = 10_000
"""Networks are not deeper, and files that say so are damaged: their layers alone would fill the memory."""


def check_whole(owner: str, *, least: int, most: int | None = None, **values: int) -> None:
    """Raise a ValueError for an argument that is not a whole number of ``least`` or more, and of ``most`` or less."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{owner} needs a whole number of {least} or more as {name}, got {value!r}.")
        if most is not None and value > most:
            raise ValueError(f"{owner} takes at most {most:,} as {name}, got {value:,}.")
