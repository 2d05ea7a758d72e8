"""Checks of arguments."""

import math


def check_nonnegative(owner: str, **values: float) -> None:
    """Raise a ValueError for an argument that is negative, infinite, NaN or no number."""
    for name, value in values.items():
        if isinstance(value, bool) or not (isinstance(value, int | float) and math.isfinite(value) and value >= 0):
            raise ValueError(f"{owner} needs a finite {name} of 0 or more, got {value!r}.")


def check_whole(owner: str, *, least: int, **values: int) -> None:
    """Raise a ValueError for an argument that is not a whole number of ``least`` or more."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{owner} needs a whole number of {least} or more as {name}, got {value!r}.")
