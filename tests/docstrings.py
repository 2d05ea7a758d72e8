"""The examples in the docstrings of public names."""

import doctest
import importlib
import inspect
import pkgutil

import energysolve

INTERNAL = ("energysolve.engine", "energysolve.experiments.limits", "energysolve.explore")
"""Modules that list their names, but that users do not import: the insides of one solve, the bounds of the paper."""
ON_RAY = ("energysolve.streaming.cluster.Ray", "energysolve.streaming.cluster.solve_dataset")
"""Names whose examples run on a cluster; its tests run them."""
OPTIONAL = ("dash", "pyarrow", "ray")
"""Packages that may be missing where tests run."""
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def public_names():
    """The functions and classes that modules list in ``__all__``, each by its shortest path."""
    found = {}
    modules = [module.name for module in pkgutil.walk_packages(energysolve.__path__, "energysolve.")]
    for path in ["energysolve", *modules]:
        if path.startswith(INTERNAL) or "._" in path:
            continue
        try:
            module = importlib.import_module(path)
        except ImportError as error:
            if error.name not in OPTIONAL:
                raise
            continue
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            if callable(value):
                found.setdefault(id(value), (f"{path}.{name}", value))
    return dict(found.values())


def check_example(path, value):
    """Check that the docstring of a name has an example, which runs and gives what it shows."""
    text = inspect.getdoc(value) or ""
    assert "\nExamples:\n" in text, f"{path} has no section Examples: in its docstring."
    test = doctest.DocTestParser().get_doctest(text, {"__name__": "__main__"}, path, inspect.getsourcefile(value), None)
    assert any(example.want for example in test.examples), f"The example of {path} shows no result."
    said = []
    doctest.DocTestRunner(optionflags=FLAGS).run(test, out=said.append)
    assert not said, "".join(said)
