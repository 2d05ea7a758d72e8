"""The command line of small experiments whose only arguments are the number of problems and the seed."""

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from energysolve.experiments.runs import Laboratory


def measured(
    name: str, measure: Callable[[int, int], dict[str, Any]], description: str | None, arguments: Sequence[str] | None
) -> None:
    """Parse ``--output``, ``--problems`` and ``--seed``, measure, and write the result file.

    Args:
        name: name of the script beside this module, and the kind of its results.
        measure: computes JSON-able results from the number of problems and the seed.
        description: text for ``--help``.
        arguments: arguments; None for those of the command line.
    """
    parser = argparse.ArgumentParser(prog=f"python docs/experiments/{name}.py", description=description)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--problems", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    command = f"{parser.prog} {shlex.join(sys.argv[1:] if arguments is None else arguments)}"
    laboratory = Laboratory(given.output.parent, given.output.parent, command)
    result = measure(given.problems, given.seed)
    laboratory.write(given.output, {"kind": name, "command": command, **result})
