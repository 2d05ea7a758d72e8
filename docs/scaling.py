"""The results of ``docs/experiments/scale.py`` as Markdown, and what they say about 10^9 problems."""

import json
from pathlib import Path
from typing import Any

PROBLEMS, CORES, PRICE, DISK = 10**9, 64, 0.04, 10**9
"""The worked plan: problems, cores of a machine, dollars for an hour of a core, bytes a second of a machine; all
but the first are assumptions, which readers replace by theirs."""
BYTES = (800 + 400) * 4
"""Of an addition and its answer, in single precision."""


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
    rows = []
    for machines in (1, 4, 16):
        cores = machines * CORES
        solving, moving = PROBLEMS / rate / cores / 60, PROBLEMS * BYTES / DISK / machines / 60
        cost = max(solving, moving) / 60 * cores * PRICE
        rows.append([machines, cores, f"{solving:,.0f} min", f"{moving:,.0f} min", f"${cost:,.0f}"])
    return (
        f"**10⁹ problems.** Additions of the paper's size, {rate:,} a second on a core, or "
        f"{PROBLEMS / rate / 3600:,.0f} core-hours. Assumed: machines of {CORES} cores, ${PRICE} for a core-hour, and "
        f"{DISK // 10**9} GB/s of reading and writing for a machine. Start-up and losses come on top:\n\n"
        + table(["machines", "cores", "solving", "reading and writing", "cost"], rows)
        + "\n\nSo cheap problems are bound by their files, and expensive ones by their steps."
    )
