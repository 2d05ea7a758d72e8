"""The docstring of every public name has an example, which runs and shows what it says."""

import doctest
import importlib
import inspect
import pkgutil

import numpy as np
import pytest
import torch

import energysolve
from energysolve.presets import DOMAINS
from energysolve.pretrained import serialization
from energysolve.pretrained.registry import ENERGIES

INTERNAL = ("energysolve.engine", "energysolve.experiments.limits", "energysolve.explore")
"""Modules that list their names, but that users do not import: the insides of one solve, the bounds of the paper, and
the page of a command, which needs an extra."""
RAY = ("energysolve.streaming.cluster.Ray", "energysolve.streaming.cluster.solve_dataset")
"""Names whose examples run a local cluster."""
UNFINISHED = tuple(
    f"energysolve.{part}"
    for part in (
        *("images", "landscape", "presets", "pretrained", "streaming", "testing"),
        "user_graphs",
    )
)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def public_names():
    """The functions and classes that modules list in ``__all__``, each by its shortest path."""
    found = {}
    modules = [module.name for module in pkgutil.walk_packages(energysolve.__path__, "energysolve.")]
    for path in ["energysolve", *modules]:
        if path.startswith(INTERNAL) or "._" in path:
            continue
        module = importlib.import_module(path)
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            if callable(value) and id(value) not in found:
                found[id(value)] = (f"{path}.{name}", value)
    return dict(found.values())


def example_of(path, value):
    """The example in the docstring of a name, as a test."""
    return doctest.DocTestParser().get_doctest(
        inspect.getdoc(value) or "", {"__name__": "__main__"}, path, inspect.getsourcefile(value), None
    )


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


NAMES = public_names()


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=pytest.mark.ray if path in RAY else ())
        for path in sorted(NAMES)
        if not path.startswith(UNFINISHED)
    ],
)
def test_the_example_of_a_public_name_runs(path, alone):
    test = example_of(path, NAMES[path])
    assert "\nExamples:\n" in (inspect.getdoc(NAMES[path]) or ""), "an example in a section Examples:"
    assert any(example.want for example in test.examples), "the example shows a result"
    said = []
    doctest.DocTestRunner(optionflags=FLAGS).run(test, out=said.append)
    assert not said, "".join(said)
