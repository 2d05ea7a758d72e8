"""The results of ``docs/experiments/scale.py`` as Markdown, and what they say about 10^9 problems."""

import json
from pathlib import Path
from typing import Any

PROBLEMS, CORES, PRICE = 10**9, 64, 0.04
"""The worked plan: problems, cores of a machine, and dollars for an hour of a core, which readers replace by theirs."""


def scale(folder: Path) -> str:
    """All parts, from ``scale.json`` in a folder of results."""
    result = json.loads((folder / "scale.json").read_text())
    parts = [memory(result["memory"]), sizes(result["sizes"]), steps(result["steps"])]
    if "workers" in result:
        parts.append(workers(result["workers"]))
    parts.append(plan(result["sizes"]))
    where = f"torch {result['versions']['torch']}, {result['hardware']['cpu']}, one thread"
    return "\n\n".join([*parts, f"`{result['command']}`: {where}, {result['date'][:10]}."])


def table(columns: list[str], rows: list[list[Any]]) -> str:
    """Rows under their columns."""
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)])


def memory(found: list[dict[str, Any]]) -> str:
    """Files of growing length."""
    rows = [
        [each["engine"], f"{each['problems']:,}", each["memory_MB"], each["worker_MB"] or "", f"{each['error']:.0e}"]
        for each in found
    ]
    columns = ["engine", "problems", "memory, MB", "of a worker, MB", "largest error of 2,000 answers"]
    return (
        "**Problems.** Memory does not grow with the file (quadratics of 8 numbers, Parquet in and out):\n\n"
        + table(columns, rows)
    )


def sizes(found: list[dict[str, Any]]) -> str:
    """Shipped energies at several sizes."""
    rows = [[each["task"], each["size"], each["steps"], f"{each['rate']:,}"] for each in found]
    return "**Sizes.** Problems a second on one core, 256 at a time, with the shipped energies:\n\n" + table(
        ["task", "size", "steps", "problems/s"], rows
    )


def steps(found: list[dict[str, Any]]) -> str:
    """A fixed number of steps."""
    rows = [[each["steps"], f"{each['rate']:,}"] for each in found]
    return "**Steps.** Time is proportional to the steps (quadratics of 8 numbers, none halts):\n\n" + table(
        ["steps", "problems/s"], rows
    )


def workers(found: list[dict[str, Any]]) -> str:
    """One worker and two."""
    rows = [[each["workers"], f"{each['rate']:.2f}", f"{each['rate'] / found[0]['rate']:.2f}"] for each in found]
    return "**Workers.** Chunks a second on Ray, start-up aside, for chunks that take a second:\n\n" + table(
        ["workers", "chunks/s", "relative"], rows
    )


def plan(found: list[dict[str, Any]]) -> str:
    """Machines, time and cost of 10^9 additions of the paper's size."""
    [rate] = [each["rate"] for each in found if (each["task"], each["size"]) == ("addition", 400)]
    hours = PROBLEMS / rate / 3600
    rows = [
        [machines, machines * CORES, f"{hours / (machines * CORES):.1f} h", f"${hours * PRICE:,.0f}"]
        for machines in (1, 4, 16)
    ]
    return (
        f"**10⁹ problems.** Additions of the paper's size, {rate:,} a second on a core: {hours:,.0f} core-hours. With "
        f"machines of {CORES} cores at ${PRICE} for a core-hour, start-up and efficiency aside:\n\n"
        + table(["machines", "cores", "time", "cost"], rows)
    )
