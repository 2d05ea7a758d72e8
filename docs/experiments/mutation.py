"""Mutation testing: change the library in one place at a time and see whether the tests notice.

Needs Python 3.11 or newer and ``pip install cosmic-ray``, whose operators make the mutants. ``mutation.toml`` says
which operators, what to leave out, and which tests cover which module. Mutants are written to copies of the repository
in a temporary folder. Each costs a fork of a process that has imported what the tests need, but not energysolve.

    python docs/experiments/mutation.py energysolve/halting.py --jobs 2
    python docs/experiments/mutation.py --share 0.2 --seed 0 --output docs/results/mutation.json
    python docs/experiments/mutation.py --share 0  # only counts the mutants and times the tests
"""

import argparse
import ast
import gc
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import cosmic_ray.plugins
import hypothesis
import parso
import pytest
import tomllib
from cosmic_ray.ast import ast_nodes
from cosmic_ray.mutating import mutate_code

ROOT = Path(__file__).resolve().parents[2]
SETTING = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
PYTEST = ["-x", "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]


class Mutant(NamedTuple):
    """A module with one change."""

    module: str
    line: int
    operator: str
    source: str
    stamp: int
    """The time of change that its file gets, another one for each mutant, so that no stale .pyc is taken for it."""

    def change(self) -> dict[str, Any]:
        """The first line that differs, before and after."""
        pairs = zip((ROOT / self.module).read_text().splitlines(), self.source.splitlines(), strict=False)
        number, old, new = next((number, a.strip(), b.strip()) for number, (a, b) in enumerate(pairs, 1) if a != b)
        return {"line": number, "operator": self.operator, "old": old, "new": new}


class DeleteStatement:
    """A cosmic-ray operator: leave out a call, a ``raise`` or an augmented assignment."""

    def mutation_positions(self, node):
        """From where to where ``node`` can be changed."""
        if node.type == "simple_stmt":
            first = node.children[0]
            call = first.type == "atom_expr" and first.children[-1].get_code().startswith("(")
            update = first.type == "expr_stmt" and first.children[1].type == "operator"
            if call or (update and first.children[1].value != "=") or first.type == "raise_stmt":
                yield first.start_pos, first.end_pos

    def mutate(self, node, index):
        """What to put in the place of ``node``."""
        return parso.parse(node.get_first_leaf().prefix + "pass\n")


def mutants(module: str) -> list[Mutant]:
    """The mutants of a module that are worth a run of the tests."""
    source = (ROOT / module).read_text()
    skipped, lines = skipped_spans(ast.parse(source)), source.splitlines()
    found = []
    for name in ["DeleteStatement", *SETTING["operators"]]:
        operator = DeleteStatement() if name == "DeleteStatement" else cosmic_ray.plugins.get_operator(f"core/{name}")()
        spots = [spot for node in ast_nodes(parso.parse(source)) for spot in operator.mutation_positions(node)]
        for number, (start, end) in enumerate(spots):
            within = any(first <= start and end <= last for first, last in skipped)
            if within or any(re.search(pattern, lines[start[0] - 1]) for pattern in SETTING["skip_lines"]):
                continue
            mutated = mutate_code(source, operator, number)
            if mutated not in (None, source):
                found.append(Mutant(module, start[0], name, mutated, 10**9 + len(found)))
    return sorted(found, key=lambda mutant: mutant.line)


def skipped_spans(tree: ast.AST) -> list:
    """From where to where there is nothing that a test should notice: annotations, messages, type aliases."""
    nodes: list = []
    for node in ast.walk(tree):
        if isinstance(node, ast.arg | ast.AnnAssign):
            nodes.append(node.annotation)
        elif isinstance(node, ast.FunctionDef):
            nodes += [node.returns, *([node] if node.name in SETTING["skip_functions"] else [])]
        elif isinstance(node, ast.Raise):
            nodes.append(node.exc and getattr(node.exc, "args", [None])[0])
        elif isinstance(node, ast.JoinedStr):
            nodes.append(node)
        elif isinstance(node, ast.Module):
            aliases = (ast.Subscript, ast.List, ast.Tuple)  # and tables of names
            nodes += [part.value for part in node.body if isinstance(getattr(part, "value", None), aliases)]
        elif isinstance(node, ast.Assert):  # for the type checker
            nodes.append(node)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in SETTING["skip_arguments"]:
            nodes += node.args[SETTING["skip_arguments"][ast.unparse(node.func)] :]
    return [((n.lineno, n.col_offset), (n.end_lineno, n.end_col_offset)) for n in nodes if n is not None]


class FewExamples:
    """A pytest plugin that caps the examples of property-based tests."""

    def pytest_collection_modifyitems(self, items):
        """Called by pytest with the tests that it found."""
        for test in [item.obj for item in items if hasattr(item.obj, "_hypothesis_internal_use_settings")]:
            given = test._hypothesis_internal_use_settings
            most = min(given.max_examples, SETTING["max_examples"])
            test._hypothesis_internal_use_settings = hypothesis.settings(given, max_examples=most)


def start_worker() -> None:
    """Stay in a copy of the repository of this process's own."""
    os.chdir(tempfile.mkdtemp(prefix="mutation-"))
    for name in ("energysolve", "tests", "docs/experiments", "pyproject.toml"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy2)(ROOT / name, name)


def run(tests: list[str], limit: int, mutant: Mutant | None) -> tuple[Mutant | None, str, float]:
    """What became of the mutant, ``survived``, ``killed`` or ``timeout``, and the seconds of the processor it took."""
    if mutant is not None:
        Path(mutant.module).write_text(mutant.source)
        os.utime(mutant.module, times=(mutant.stamp, mutant.stamp))
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))  # other work on the machine does not count
        signal.alarm(20 * limit)
        sys.path.insert(0, os.getcwd())
        os.dup2(os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
        os.dup2(1, 2)
        os._exit(int(pytest.main([*PYTEST, *tests], plugins=[FewExamples()])))
    _, status, usage = os.wait4(child, 0)
    if mutant is not None:
        shutil.copy2(ROOT / mutant.module, mutant.module)
    elif status:
        raise SystemExit(f"The tests fail without a mutant: {Path('output.txt').read_text()}")
    outcome = "timeout" if os.WIFSIGNALED(status) else "killed" if status else "survived"
    return mutant, outcome, usage.ru_utime + usage.ru_stime


def measure(module: str, jobs: int, share: float, seed: int) -> dict[str, Any]:
    """Run the tests of a module on a share of its mutants."""
    tests, every = SETTING["tests"][module], mutants(module)
    chosen = random.Random(f"{seed} {module}").sample(every, round(share * len(every)))
    result: dict[str, Any] = {"mutants": len(every), "tried": len(chosen), "share": share, "seed": seed, "alive": []}
    outcomes, total = Counter(), 0.0
    with ProcessPoolExecutor(jobs, get_context("fork"), start_worker) as workers:
        workers.submit(run, tests, 600, None).result()  # compiles the tests
        clean = workers.submit(run, tests, 600, None).result()[2]
        sys.stdout.write(f"{module}: {len(every)} mutants, {len(chosen)} tried, {clean:.1f} s without any\n")
        for mutant, outcome, seconds in workers.map(partial(run, tests, int(4 * clean + 5)), chosen):
            outcomes[outcome] += 1
            total += seconds
            if outcome == "survived":
                result["alive"].append(mutant.change())
                sys.stdout.write("    {line}: {operator}\n      - {old}\n      + {new}\n".format(**mutant.change()))
            sys.stdout.flush()
    sys.stdout.write(f"    {dict(outcomes)} in {total:.0f} s\n")
    result["alive"].sort(key=lambda change: change["line"])
    return result | {"killed": outcomes["killed"], "timeout": outcomes["timeout"], "tests": tests}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", default=list(SETTING["tests"]), help="by default all in mutation.toml")
    parser.add_argument("--jobs", type=int, default=1, help="processes, each with a copy of its own")
    parser.add_argument("--share", type=float, default=1.0, help="of the mutants of each module, chosen at random")
    parser.add_argument("--seed", type=int, default=0, help="of the choice")
    parser.add_argument("--output", type=Path, help="a result file; other modules in it are kept")
    options = parser.parse_args()
    for name in SETTING["imports"]:
        __import__(name)
    os.environ["CI"] = "true"  # repeatable examples
    gc.freeze()  # pytest collects garbage, and should not look at all that was imported
    modules: dict[str, Any] = {}
    if options.output and options.output.exists():
        modules = json.loads(options.output.read_text())["modules"]
    for module in options.modules:
        modules[module] = measure(module, options.jobs, options.share, options.seed)
        if options.output:  # in a process of its own: later forks must not have imported energysolve
            with ProcessPoolExecutor(1, get_context("fork")) as worker:
                worker.submit(write, options.output, modules).result()


def write(path: Path, modules: dict[str, Any]) -> None:
    """Write the result file."""
    sys.path.insert(0, str(ROOT))
    from energysolve.provenance import environment

    origin = environment()
    origin["versions"] |= {name: version(name) for name in ("cosmic-ray", "pytest", "hypothesis")}
    shares, seeds = ({module[key] for module in modules.values()} for key in ("share", "seed"))
    command = f"python docs/experiments/mutation.py --share {max(shares)} --seed {max(seeds)}"
    modules = {name: modules[name] for name in SETTING["tests"] if name in modules}
    path.write_text(json.dumps({"kind": "mutation", "command": command, **origin, "modules": modules}, indent=1) + "\n")


if __name__ == "__main__":
    main()
