"""The shape of the package: which parts import which, how long the chains are, and how large each part is."""

from collections import defaultdict
from functools import cache
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1] / "energysolve"
LONGEST_CHAIN = 13
LARGEST_SHARE = 0.15


def part(module: str) -> str:
    """The top-level module or package that a module belongs to; empty for the package itself."""
    return module.partition(".")[2].partition(".")[0]


@pytest.fixture(scope="module")
def graph():
    """All imports, those inside functions and for type checkers included."""
    return grimp.build_graph("energysolve", cache_dir=None)


@pytest.fixture(scope="module")
def imports(graph):
    found = defaultdict(set)
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            if part(module) and part(imported) and part(module) != part(imported):
                found[part(module)].add(part(imported))
    return found


def circles(edges):
    """The nodes from which a walk along the edges comes back."""

    def reached(start):
        seen, waiting = set(), list(edges[start])
        while waiting:
            node = waiting.pop()
            if node not in seen:
                seen.add(node)
                waiting += edges[node]
        return seen

    return sorted(node for node in list(edges) if node in reached(node))


def test_modules_import_each_other_in_no_circle(graph):
    """A package's own ``__init__``, which collects the names of its modules, stands for them."""
    edges = defaultdict(set)
    for module in graph.modules:
        edges[module] = set(graph.find_modules_directly_imported_by(module))
    assert not circles(edges)


def test_parts_import_each_other_in_no_circle(imports):
    assert not circles(imports)


def test_chains_of_imports_are_short(imports):
    @cache
    def longest(node):
        return max(([node, *longest(imported)] for imported in imports[node]), key=len, default=[node])

    chain = max((longest(node) for node in list(imports)), key=len)
    assert len(chain) <= LONGEST_CHAIN, " -> ".join(chain)


def test_no_part_is_too_large():
    """The experiments, one module for each table and figure, may be larger."""
    lines = defaultdict(int)
    for path in ROOT.rglob("*.py"):
        lines[path.relative_to(ROOT).parts[0]] += len(path.read_text().splitlines())
    whole = sum(lines.values())
    large = {name: count / whole for name, count in lines.items() if count > LARGEST_SHARE * whole}
    assert set(large) <= {"experiments"}, large


def test_nothing_above_asks_which_task_or_energy_it_has():
    """Only the domains' own modules name them: adding one changes no other file."""
    domain_names = {"MLPEnergy", "SharedQuadratic", "PreconditionedInverse", "FactoredCompletion"}
    domain_names |= {"Addition", "Completion", "Inverse"}
    domain_names |= {"GINEEnergy", "TripleEnergy", "ConvEnergy", "Denoising", "EdgeCopy", "Components", "ShortestPath"}
    allowed = {"energies", "tasks", "presets", "benchmarks", "__init__.py"}  # benchmarks measure one task
    allowed |= {"pretrained/registry.py"}  # the energies that it can build by name
    found = {}
    for path in ROOT.rglob("*.py"):
        place = path.relative_to(ROOT)
        if place.parts[0] not in allowed and str(place) not in allowed:
            lines = (line for line in path.read_text().splitlines() if ">>> " not in line)  # examples may name them
            code = [line for line in lines if "isinstance(" in line or " import " in line]
            named = {name for name in domain_names for line in code if name in line}
            if named:
                found[str(place)] = sorted(named)
    assert not found
