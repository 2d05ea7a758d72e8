"""``energysolve solve completion --table``: the gaps of one table."""

from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from ..files import write_atomic
from ..presets.tables import CompletedTable, complete_table
from ..seeding import stream
from ..solver import EnergySolver
from ..streaming.problems import ProblemFile, TableFile
from .common import CommandError, command_errors


def complete_file(solver: EnergySolver, opened: ProblemFile, output: Path, seed: int, overwrite: bool) -> None:
    """Complete the table in a file, and write it in the same order, with the names of its rows and columns."""
    if output.suffix.lower() not in (".csv", ".npz"):
        raise CommandError(f"A completed table is written to a .csv or .npz file; got {output}.")
    if output.exists() and not overwrite:
        raise CommandError(f"{output} exists. Choose another --output, or pass --overwrite.")
    if output.exists() and isinstance(opened.path, Path) and output.samefile(opened.path):
        raise CommandError(f"{output} is the input; choose another --output.")
    if len(opened.row_shape) != 1 or not opened.rows:
        shape = (opened.rows, *opened.row_shape)
        raise CommandError(f"--table takes one table, (rows, columns); {opened.path} holds an array of shape {shape}.")
    with command_errors(ValueError):
        table = np.concatenate(list(opened.blocks(0, 1024))).astype(np.float64)
        with command_errors(ValueError, prefix=f"{opened.path}: "):
            found = complete_table(torch.from_numpy(table), solver=solver, generator=stream("complete table", seed))
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.suffix.lower() == ".csv":
        write_atomic(output, _as_csv(opened, table, found).encode())
    else:
        np.savez(output, y=found.values.numpy(), fitted=found.fitted.numpy())
    _print(found, table, opened, output)


def _as_csv(opened: ProblemFile, table: np.ndarray, found: CompletedTable) -> str:
    names = opened.names if isinstance(opened, TableFile) else None
    labels = opened.labels() if isinstance(opened, TableFile) else []
    lines = [",".join(names)] if names else []
    for number, (given, values) in enumerate(zip(table, found.values.numpy(), strict=True)):
        fields = [
            f"{value:.6g}" if np.isnan(entry) else str(entry).removesuffix(".0")
            for entry, value in zip(given, values, strict=True)
        ]
        lines.append(",".join([*labels[number : number + 1], *fields]))
    return "\n".join(lines) + "\n"


def _print(found: CompletedTable, table: np.ndarray, opened: ProblemFile, output: Path) -> None:
    gaps = int(np.isnan(table).sum())
    rows, columns = table.shape
    lines = [f"Completed {gaps:,} of the {table.size:,} entries of a table of {rows} x {columns}; zeros are values."]
    if isinstance(opened, TableFile):
        first = "a row of numbers" if opened.names is None else "the names of the columns"
        lines.append(f"The first line of {opened.path} was taken for {first}.")
    empty = int(np.isnan(table).all(1).sum()), int(np.isnan(table).all(0).sum())
    if any(empty):
        lines.append(f"{empty[0]} rows and {empty[1]} columns have no entry, and got the mean and the other effects.")
    if np.isfinite(found.error):
        lines.append(
            f"Root mean square error for entries held out: {found.error:.3g}; of the mean of all: "
            f"{found.mean_error:.3g}. Noise: {found.noise:.3g}."
        )
    if found.solution is None:
        lines.append("Row and column means explain the table as well as more would.")
    elif not found.solution.converged.all():
        lines.append("The solver used up its steps: allow more with --max-steps.")
    Console().print("\n".join([*lines, f"Saved {output}"]), soft_wrap=True, highlight=False)
