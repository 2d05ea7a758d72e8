"""The inverse approximated by polynomials of the matrix: how nonlinear a method has to be.

    python docs/experiments/polynomials.py --output docs/results/polynomials.json

The answer is ``c_0 I + c_1 M + ... + c_d M^d`` with least-squares coefficients, from problems of the training
difficulty. Degree 0 is a multiple of the identity, degree 1 is linear in the problem.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from measured import measured
from torch import Tensor

from energysolve.seeding import stream
from energysolve.tasks import Inverse

DEGREES = 6
"""The highest degree."""
_FITTED = 10_000


def powers(x: Float[Tensor, "batch n n"], degree: int) -> Float[Tensor, "batch n n terms"]:
    """``I, M, ..., M^degree`` of scaled matrices, in double precision."""
    scaled = x.double() / (2 * x.shape[-1] / 3)  # the expected diagonal entry without the shift
    terms = [torch.eye(x.shape[-1], dtype=torch.float64).expand_as(scaled)]
    for _ in range(degree):
        terms.append(terms[-1] @ scaled)
    return torch.stack(terms, -1)


def measure(problems: int, seed: int, degrees: int = DEGREES) -> dict[str, Any]:
    """The errors of the polynomials on fresh problems, by degree and difficulty, JSON-able."""
    task = Inverse()
    x, target = task.sample(_FITTED, "same", stream("polynomials, fitted", seed))
    every = powers(x, degrees).flatten(0, 2)
    fresh = {d: task.sample(problems, d, stream(f"polynomials {d}", seed)) for d in task.difficulties}
    found = {}
    for degree in range(degrees + 1):
        coefficients = torch.linalg.lstsq(every[:, : degree + 1], target.double().flatten().unsqueeze(1)).solution
        errors = {
            d: (powers(some, degree) @ coefficients).squeeze(-1).sub(wanted).square().mean((-1, -2))
            for d, (some, wanted) in fresh.items()
        }
        found[str(degree)] = {
            d: {"error": each.mean().item(), "standard_error": (each.std() / problems**0.5).item()}
            for d, each in errors.items()
        }
    return {"problems": problems, "fitted": _FITTED, "seed": seed, "degrees": found}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    measured("polynomials", measure, __doc__, arguments)


if __name__ == "__main__":
    main()
