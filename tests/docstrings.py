"""The examples in the docstrings of public names."""

import doctest
import importlib
import importlib.util
import inspect
import pkgutil
from pathlib import Path

import energysolve

REFERENCE = Path(__file__).parents[1] / "docs" / "hooks" / "reference.py"

INTERNAL = ("energysolve.engine", "energysolve.experiments.limits")
"""Modules that list their names, but that users do not import: the insides of one solve, the bounds of the paper."""
ON_RAY = ("energysolve.streaming.cluster.Ray", "energysolve.streaming.cluster.solve_dataset")
"""Names whose examples run on a cluster; its tests run them."""
OPTIONAL = ("dash", "pyarrow", "ray")
"""Packages that may be missing where tests run."""
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def public_names():
    """The functions and classes that modules list in ``__all__``, and those of the API reference, by path."""
    modules = [module.name for module in pkgutil.walk_packages(energysolve.__path__, "energysolve.")]
    users = (path for path in modules if not path.startswith(INTERNAL) and "._" not in path)
    found = {}
    for path in ["energysolve", *users, *_of_reference()]:
        name, _, names = path.partition(":")
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            if error.name not in OPTIONAL:
                raise
            continue
        for each in names.split(",") if names else getattr(module, "__all__", ()):
            value = getattr(module, each)
            if callable(value):
                found.setdefault(id(value), (f"{name}.{each}", value))
    return dict(found.values())


def _of_reference():
    """The names that the API reference adds to those of ``__all__``, ``module:Name,Name``."""
    if importlib.util.find_spec("mkdocs") is None:
        return []
    spec = importlib.util.spec_from_file_location("reference", REFERENCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return [path for topic in module.TOPICS for path in topic.modules if ":" in path]


def methods_with_examples(names):
    """The methods of public classes whose docstrings have examples, by path."""
    found = {}
    for path, value in names.items():
        for base in value.__mro__ if inspect.isclass(value) else ():
            for name, member in vars(base).items():
                function = getattr(member, "__func__", getattr(member, "fget", member))
                own = inspect.isfunction(function) and base.__module__.startswith("energysolve")
                if own and ">>>" in (function.__doc__ or ""):
                    found.setdefault(id(function), (f"{path}.{name}", function))
    return dict(found.values())


def check_example(path, value):
    """Check that the docstring of a name has an example, which runs and gives what it shows."""
    text = inspect.getdoc(value) or ""
    assert "\nExamples:\n" in text, f"{path} has no section Examples: in its docstring."
    test = doctest.DocTestParser().get_doctest(text, {"__name__": "__main__"}, path, inspect.getsourcefile(value), None)
    shown = any(each.want or doctest.SKIP in each.options for each in test.examples)
    assert shown, f"The example of {path} shows no result."
    said = []
    doctest.DocTestRunner(optionflags=FLAGS).run(test, out=said.append)
    assert not said, "".join(said)
