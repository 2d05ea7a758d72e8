"""Completion with cubes of probes of a matrix: how many cubes it takes to be better than copying.

    python docs/experiments/cubes.py --output docs/results/cubes.json

The missing entries of a low-rank matrix are uncorrelated with the observed ones; products of three observed entries,
``X X^T X``, are the lowest-order functions that carry information about them. Cubes ``(u^T X v)^3`` contain these
products: the mean of ``(u^T X v)^4`` over all directions is ``|X|^4 + 2 tr (X X^T)^2`` times a constant. (For inner
products with matrices in all directions it would be a multiple of ``|X|^4``, which carries no information.) The answer
here is the observed matrix plus ``c sum_k He_3(u_k^T X v_k) u_k v_k^T`` for random directions, with
``He_3(s) = s^3 - 3 s`` and a single coefficient ``c``, fitted by least squares on problems of the training difficulty;
once for all entries, and once with the observed entries unchanged.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from measured import measured
from torch import Tensor, nn

from energysolve.seeding import stream
from energysolve.tasks import Completion

COUNTS = (128, 512, 2048, 8192)
"""Numbers of directions."""
_FITTED = 20_000
_CHUNK = 1000


class Cubes:
    """The correction by cubes along some directions.

    Args:
        count: number of pairs of directions, uniform on the unit spheres.
        unit: standard deviation of an entry; it normalizes the probes to about one.
        shape: shape of the matrices.
        generator: source of randomness.
    """

    def __init__(self, count: int, unit: float, shape: tuple[int, int], generator: torch.Generator):
        self.of_rows, self.of_columns = (
            nn.functional.normalize(torch.randn(count, size, generator=generator), dim=1) for size in shape
        )
        self.unit = unit

    def __call__(self, x: Float[Tensor, "batch rows columns"]) -> Float[Tensor, "batch rows columns"]:
        """The sum of the corrections over all directions."""
        s = ((self.of_rows @ x) * self.of_columns).sum(-1) / self.unit
        return self.of_rows.T @ ((s**3 - 3 * s).unsqueeze(-1) * self.of_columns)


def measure(problems: int, seed: int) -> dict[str, Any]:
    """Errors on fresh problems relative to copying, by number of directions and difficulty, JSON-able."""
    task = Completion()
    unit = task.sample(_FITTED, "same", stream("cubes, unit", seed))[0].std().item()
    rows = []
    for count in COUNTS:
        cubes = Cubes(count, unit, (task.rows, task.columns), stream(f"cubes {count}", seed))
        coefficients = _fitted(cubes, task, seed)
        row: dict[str, Any] = {"directions": count, "coefficients": coefficients.tolist()}
        for difficulty in task.difficulties:
            errors = [0.0, 0.0]
            copying = 0.0
            for missing, corrections in _batches(cubes, task, problems, difficulty, f"cubes {difficulty}", seed):
                copying += missing.square().sum().item()
                for i, correction in enumerate(corrections):
                    errors[i] += (missing - coefficients[i] * correction).square().sum().item()
            row[difficulty] = {"all": errors[0] / copying, "missing": errors[1] / copying}
        rows.append(row)
    return {"problems": problems, "fitted": _FITTED, "seed": seed, "rows": rows}


def _fitted(cubes: Cubes, task: Completion, seed: int) -> Tensor:
    """The coefficient of each of the two corrections."""
    along, squares = torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    for missing, corrections in _batches(cubes, task, _FITTED, "same", "cubes, fitted", seed):
        for i, correction in enumerate(corrections):
            along[i] += (missing * correction).sum()
            squares[i] += correction.square().sum()
    return along / squares


def _batches(
    cubes: Cubes, task: Completion, problems: int, difficulty: str, purpose: str, seed: int
) -> Iterator[tuple[Tensor, tuple[Tensor, Tensor]]]:
    """The missing part of the targets, and the corrections of all entries and of the missing entries alone."""
    generator = stream(purpose, seed)
    for begin in range(0, problems, _CHUNK):
        x, target = task.sample(min(_CHUNK, problems - begin), difficulty, generator)
        correction = cubes(x)
        yield target - x, (correction, torch.where(x == 0, correction, 0))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    measured("cubes", measure, __doc__, arguments)


if __name__ == "__main__":
    main()
