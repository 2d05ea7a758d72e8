"""Completion of tables as users have them: with means, noise and scale that nobody has told.

A table is modelled as ``mean + row effect + column effect + U V' + noise``. The effects are estimated by empirical
Bayes, with variances from the table itself. The part of low rank is completed by the energy `FactoredCompletion`, in
units in which the noise is that of the energy. How much of what the effects leave is noise is chosen by the error on
entries that are held out.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..checks import check_whole
from ..energies import FactoredCompletion
from ..solution import Solution
from ..solver import EnergySolver
from .registry import at_size

RATIOS = (1.05, 1.2, 1.4, 1.8, 2.5, 4.0, 8.0)
"""Root mean squares of what the effects leave, in units of the noise, among which the best is chosen."""
_LEAST = 20
"""With fewer observed entries there is no part of low rank."""
_TINY = 1e-7
"""In place of an observed zero, which the energy would take for a missing entry; in units of the noise."""
_ROUNDS = 30
_CHOOSING_STEPS = 400
"""The most steps of a solve that only serves to choose the noise."""


@dataclass(frozen=True, eq=False)
class CompletedTable:
    """A table without gaps, and what was found on the way; in the units of the table.

    Attributes:
        values: ``(rows, columns)``, the observed entries as they were given and the model's elsewhere.
        fitted: ``(rows, columns)``, the model's values of all entries, free of noise.
        mean: the mean of all.
        row_effects: ``(rows,)``, what is added in each row; 0 for a row without an entry.
        column_effects: ``(columns,)``, what is added in each column.
        noise: standard deviation of the noise that was assumed.
        error: root mean square error of the model for the entries that were held out to choose the noise; a little
            optimistic, since it was the lowest of several. NaN for a table with too few entries to hold any out.
        mean_error: that of the mean of the other entries, for comparison.
        solution: of the part of low rank; None if there is none.
    """

    values: Float[Tensor, "rows columns"]
    fitted: Float[Tensor, "rows columns"]
    mean: float
    row_effects: Float[Tensor, " rows"]
    column_effects: Float[Tensor, " columns"]
    noise: float
    error: float
    mean_error: float
    solution: Solution | None


def complete_table(
    table: Float[Tensor, "rows columns"],
    *,
    solver: EnergySolver | None = None,
    held_out: float = 0.1,
    generator: torch.Generator | None = None,
) -> CompletedTable:
    """Fill the gaps of one table of numbers, such as ratings; NaN marks what is missing, and zeros are zeros.

    Args:
        table: the table. Scale and origin do not matter.
        solver: with an energy `FactoredCompletion`, of any size; by default the one that comes with the library.
        held_out: the fraction of the observed entries on which the noise is chosen.
        generator: source of random numbers, on the CPU; by default seeded with 0.

    Raises:
        ValueError: if the table has no number, or an infinity.

    Examples:
        >>> import torch
        >>> from energysolve.presets import complete_table
        >>> table = torch.tensor([[1.0, 2.0, 3.0], [2.0, 3.0, 4.0], [3.0, 4.0, torch.nan]])
        >>> complete_table(table).values.round(decimals=2)  # a row effect and a column effect
        tensor([[1., 2., 3.],
                [2., 3., 4.],
                [3., 4., 5.]])
    """
    seen, generator = _checked(table, held_out), generator or torch.Generator().manual_seed(0)
    x = table.detach().double().nan_to_num(0.0)
    solver = EnergySolver.from_pretrained("completion") if solver is None else solver
    if not isinstance(solver.energy, FactoredCompletion):
        raise ValueError(
            f"A table is completed by a solver of FactoredCompletion, such as the shipped completion; got one of "
            f"{type(solver.energy).__name__}."
        )
    solver = at_size(solver, tuple(table.shape)).replace(compact=not solver.compile)
    ratio, error, mean_error = _choose(solver, x, seen, held_out, generator)
    mean, rows, columns = effects(x, seen)
    fitted, solution = mean + rows + columns, None
    rms = _rms(x - fitted, seen)
    if ratio is not None:
        (low_rank,), solution = _low_rank(solver, x - fitted, seen, (ratio,), generator)
        fitted = fitted + low_rank
    return CompletedTable(
        values=torch.where(seen, x, fitted).to(table.dtype),
        fitted=fitted.to(table.dtype),
        mean=mean,
        row_effects=rows[:, 0].to(table.dtype),
        column_effects=columns[0].to(table.dtype),
        noise=rms / (ratio or 1.0),
        error=error,
        mean_error=mean_error,
        solution=solution,
    )


def effects(x: Tensor, seen: Tensor) -> tuple[float, Tensor, Tensor]:
    """The mean, the row effects ``(rows, 1)`` and the column effects ``(1, columns)`` of the entries that are ``seen``.

    Effects are normal with mean zero and variances that are estimated too, so those of rows with few entries are small.
    """
    in_rows, in_columns = seen.sum(1, keepdim=True), seen.sum(0, keepdim=True)
    rows, columns = x.new_zeros(len(x), 1), x.new_zeros(1, x.shape[1])
    mean = x[seen].mean()
    noise = (x - mean)[seen].square().mean()
    if not noise > 0:
        return mean.item(), rows, columns
    of_rows = of_columns = noise / 4
    for _ in range(_ROUNDS):  # expectation and maximization
        rows = _sum(x - mean - columns, seen, 1) / (in_rows + noise / of_rows)
        columns = _sum(x - mean - rows, seen, 0) / (in_columns + noise / of_columns)
        mean = (x - rows - columns)[seen].mean()
        noise = (x - mean - rows - columns)[seen].square().mean().clamp(min=1e-12 * noise)
        of_rows = _variance(rows, in_rows, noise, of_rows)
        of_columns = _variance(columns, in_columns, noise, of_columns)
    return mean.item(), rows, columns


def _choose(
    solver: EnergySolver, x: Tensor, seen: Tensor, fraction: float, generator: torch.Generator
) -> tuple[float | None, float, float]:
    """The best of `RATIOS`, or None for the effects alone; its error on held-out entries, and that of the mean."""
    places = seen.nonzero()
    if len(places) < _LEAST:
        return None, math.nan, math.nan
    drawn = places[torch.randperm(len(places), generator=generator)[: max(1, round(fraction * len(places)))]]
    known, hidden = seen.clone(), torch.zeros_like(seen)
    known[tuple(drawn.T)], hidden[tuple(drawn.T)] = False, True
    mean, rows, columns = effects(x, known)
    base = mean + rows + columns
    fits: list[Any] = [torch.zeros_like(x)]
    if _rms(x - base, known) > 1e-9 * _rms(x, known):
        short = solver.replace(max_steps=min(solver.max_steps, _CHOOSING_STEPS))
        fits += _low_rank(short, x - base, known, RATIOS, generator)[0]
    errors = [_rms(x - base - fit, hidden) for fit in fits]
    best = min(range(len(fits)), key=errors.__getitem__)
    return RATIOS[best - 1] if best else None, errors[best], _rms(x - x[known].mean(), hidden)


def _low_rank(
    solver: EnergySolver, residual: Tensor, seen: Tensor, ratios: tuple[float, ...], generator: torch.Generator
) -> tuple[list[Tensor], Solution]:
    """The part of low rank of a residual, for each of several assumptions on the noise, solved as one batch."""
    energy = solver.energy
    assert isinstance(energy, FactoredCompletion)
    rms = _rms(residual, seen)
    scales = torch.tensor([ratio * energy.noise / rms for ratio in ratios], dtype=residual.dtype).view(-1, 1, 1)
    scaled = scales * residual
    like = energy.log_penalty
    x = torch.where(seen, torch.where(scaled == 0, _TINY * energy.noise, scaled), 0.0).to(like.dtype)
    with torch.no_grad():
        solution = solver.minimize(x.to(like.device), generator=generator)
        found = energy.completed(x.to(like.device), solution.z)
    return list(found.cpu().double() / scales), solution


def _checked(table: Tensor, held_out: float) -> Tensor:
    """Where the table has an entry."""
    check_whole("complete_table", least=1, rows=table.shape[0], columns=table.shape[1])
    seen = ~table.isnan()
    if not seen.any():
        raise ValueError("The table has no number: NaN marks what is missing, and everything is.")
    if table.isinf().any():
        raise ValueError("The table has an infinite entry; mark what is missing with NaN.")
    if not 0 < held_out < 1:
        raise ValueError(f"complete_table needs held_out in (0, 1), got {held_out!r}.")
    return seen


def _sum(x: Tensor, seen: Tensor, axis: int) -> Tensor:
    return torch.where(seen, x, 0.0).sum(axis, keepdim=True)


def _variance(found: Tensor, counts: Tensor, noise: Tensor, before: Tensor) -> Tensor:
    """The variance of effects: the mean of their squares, with what is uncertain about each."""
    return (found.square() + 1 / (counts / noise + 1 / before)).mean().clamp(min=1e-9 * noise)


def _rms(x: Tensor, where: Tensor) -> float:
    return x[where].square().mean().sqrt().item()
