"""Completion of a block of a matrix from its own entries: the limit of energies that see few numbers of a problem.

    python docs/experiments/blocks.py --output docs/results/blocks.json

Let the energy be a function ``f(P x + Q y)`` of ``w`` linear functions of problem and answer, like a network with
``w`` units in its first layer. A change of the problem whose image under ``P`` lies in the image of ``Q`` only shifts
the energy landscape: if ``P d = Q e``, then ``E(x + d, y - e) = E(x, y)``. So if ``Q`` is injective and the minimum is
unique, it is a linear function of ``x`` plus some function of ``w - y_dim`` numbers, the part of ``P x`` outside the
image of ``Q``: 112 numbers for 20 x 20 matrices and the paper's 512 units, however deep the network is.

Here these numbers are the entries of a block, half of them missing, and the function is the best possible one: the
posterior mean of the block, by Gibbs sampling. All other entries are copied.
"""

from collections.abc import Sequence
from typing import Any

import torch
from measured import measured

from energysolve.experiments.limits.gibbs import posterior_mean
from energysolve.seeding import stream
from energysolve.tasks import Completion

BLOCKS = ((6, 19), (8, 14), (10, 11))
"""Rows and columns of blocks with about 112 entries."""
_GIBBS: dict[str, Any] = {"sweeps": 1000, "burn_in": 200, "chains": 4}
_CHUNK = 50


def measure(problems: int, seed: int) -> dict[str, Any]:
    """Errors of the block and of the whole matrix, relative to copying, by block and difficulty, JSON-able."""
    rows = []
    for shape in BLOCKS:
        row: dict[str, Any] = {"block": list(shape)}
        for difficulty in Completion.difficulties:
            row[difficulty] = _judged(shape, difficulty, problems, seed)
        rows.append(row)
    return {"problems": problems, "seed": seed, "gibbs": _GIBBS, "rows": rows}


def _judged(shape: tuple[int, int], difficulty: str, problems: int, seed: int) -> dict[str, float]:
    """The errors, less the part that is expected from the finite length of the chains."""
    whole, block = Completion(), Completion(*shape)
    generator = stream(f"blocks {shape} {difficulty}", seed)
    errors, copying = [], []
    for begin in range(0, problems, _CHUNK):
        x, target = block.sample(min(_CHUNK, problems - begin), difficulty, generator)
        scale = block.scale(difficulty)
        sampled = posterior_mean(
            x, x != 0, scale=scale, noise=block.noise, rank=block.rank, generator=generator, **_GIBBS
        )
        errors.append(sampled.error(target)[-1] - sampled.monte_carlo_variance()[-1])
        copying.append((x - target).square().mean((-1, -2)))
    error, copied = torch.cat(errors), torch.cat(copying)
    ratio = error.mean() / copied.mean()
    share = shape[0] * shape[1] / (whole.rows * whole.columns)
    standard_error = (error - ratio * copied).std() / problems**0.5 / copied.mean()
    return {
        "block": ratio.item(),
        "all": 1 - (1 - ratio.item()) * share,
        "standard_error": standard_error.item() * share,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    measured("blocks", measure, __doc__, arguments)


if __name__ == "__main__":
    main()
