"""Mutation testing: change the library in one place at a time and see whether the tests notice.

Needs Python 3.11 or newer and ``pip install cosmic-ray``, whose operators make the mutants. ``mutation.toml`` says
which operators, what to leave out, and which tests cover which module. Mutants are written to copies of the repository
in a temporary folder. Each costs a fork of a process that has imported what the tests need, but not energysolve.

    python docs/experiments/mutation.py energysolve/halting.py --jobs 2
    python docs/experiments/mutation.py --share 0.2 --seed 0 --output docs/results/mutation.json
    python docs/experiments/mutation.py --share 0  # only counts the mutants and times the tests
"""

import argparse
import gc
import json
import os
import random
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
from typing import Any

import hypothesis
import pytest
from mutants import ROOT, SETTING, Mutant, mutants

PYTEST = ["-x", "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]


class FewExamples:
    """A pytest plugin that caps the examples of property-based tests."""

    def pytest_collection_modifyitems(self, items):  # noqa: D102
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
    """What became of the mutant, ``alive``, ``killed`` or ``timeout``, and the seconds of the processor it took."""
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
    outcome = "timeout" if os.WIFSIGNALED(status) else "killed" if status else "alive"
    return mutant, outcome, usage.ru_utime + usage.ru_stime


def log(line: str) -> None:
    """Print at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def measure(workers: ProcessPoolExecutor, module: str, chosen: list[Mutant]) -> dict[str, Any]:
    """Run the tests of a module on some of its mutants."""
    tests = SETTING["tests"][module]
    clean = workers.submit(run, tests, 600, None).result()[2]
    log(f"{module}: {len(chosen)} mutants, {clean:.1f} s without any")
    outcomes, alive = Counter(), []
    for mutant, outcome, _ in workers.map(partial(run, tests, int(4 * clean + 5)), chosen):
        outcomes[outcome] += 1
        if outcome == "alive":
            alive.append(mutant.change())
            log("    {line}: {operator}\n      - {old}\n      + {new}".format(**alive[-1]))
    log(f"    {dict(outcomes)}")
    return {
        "killed": outcomes["killed"],
        "timeout": outcomes["timeout"],
        "alive": sorted(alive, key=lambda change: change["line"]),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", default=list(SETTING["tests"]), help="by default all in mutation.toml")
    parser.add_argument("--jobs", type=int, default=1, help="processes, each with a copy of its own")
    parser.add_argument("--share", type=float, default=1.0, help="of the mutants of each module, chosen at random")
    parser.add_argument("--seed", type=int, default=0, help="of the choice")
    parser.add_argument("--output", type=Path, help="a result file; other modules in it are kept")
    parser.add_argument(
        "--alive", action="store_true", help="only those alive in the result file, after tests were added"
    )
    options = parser.parse_args()
    for name in SETTING["imports"]:
        __import__(name)
    os.environ["CI"] = "true"  # repeatable examples
    gc.freeze()  # pytest collects garbage, and should not look at all that was imported
    known = options.output and options.output.exists()
    results = json.loads(options.output.read_text())["modules"] if known else {}
    with ProcessPoolExecutor(options.jobs, get_context("fork"), start_worker) as workers:
        for module in options.modules:
            every, old = mutants(module), results.get(module, {})
            chosen = random.Random(f"{options.seed} {module}").sample(every, round(options.share * len(every)))
            if options.alive:
                chosen = [mutant for mutant in chosen if mutant.change() in old["alive"]]
            found = measure(workers, module, chosen)
            if options.alive:  # what older tests kill, more tests kill too
                found |= {outcome: old[outcome] + found[outcome] for outcome in ("killed", "timeout")}
            results[module] = {"mutants": len(every), "share": options.share, "seed": options.seed, **found}
            if options.output:  # by a process of its own: later forks must not have imported energysolve
                with ProcessPoolExecutor(1, get_context("fork")) as writer:
                    writer.submit(write, options.output, results).result()


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
