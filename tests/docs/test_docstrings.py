"""The docstring of every public name has an example, which runs and gives what it shows; so do those of methods."""

import numpy as np
import pytest
import torch
from docstrings import ON_RAY, check_example, methods_with_examples, public_names

from energysolve.presets import DOMAINS
from energysolve.pretrained import serialization
from energysolve.pretrained.registry import ENERGIES

NAMES = public_names()
METHODS = methods_with_examples(NAMES)


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """A folder of its own and fixed random numbers; what the example registers is forgotten."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  (that of libraries)
    kept = [(known, dict(known)) for known in (DOMAINS, ENERGIES, serialization._TYPES)]
    yield
    for known, before in kept:
        known.clear()
        known.update(before)


@pytest.mark.parametrize("path", sorted({*NAMES, *METHODS} - {*ON_RAY}))
def test_the_example_of_a_public_name_runs(path, alone):
    check_example(path, {**NAMES, **METHODS}[path])


def test_an_example_that_is_missing_or_wrong_is_found():
    def without():
        """Nothing."""

    def silent():
        """Says nothing.

        Examples:
            >>> 1 + 1 == 2 or None
        """

    def wrong():
        """Is wrong.

        Examples:
            >>> 1 + 1
            3
        """

    for function, message in ((without, "no section"), (silent, "shows no result"), (wrong, "Expected:")):
        with pytest.raises(AssertionError, match=message):
            check_example(function.__name__, function)
