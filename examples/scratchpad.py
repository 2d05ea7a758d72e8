"""A scratchpad: free variables besides the answer, minimized together with it.

Half of the entries of a matrix of rank 2 are observed. An energy of the answer alone does not depend on the others,
which keep their initial values. With factors as a scratchpad ``z``, the energy can express that the answer has rank 2.
"""

import torch

from energysolve import Adam, EnergyChange, EnergySolver, Normal, Zeros

SIZE, RANK = 16, 2


def observed(x, y):
    """The answer agrees with the observed entries."""
    return (x["mask"] * (y - x["entries"])).square().sum((-2, -1))


def low_rank(x, y, z):
    """The answer agrees with the observed entries and is the product of the factors ``z (batch, 2, SIZE, RANK)``."""
    product = z[:, 0] @ z[:, 1].transpose(-2, -1)
    return observed(x, y) + (y - product).square().sum((-2, -1))


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    factors = torch.randn(32, 2, SIZE, RANK, generator=generator)
    matrix = factors[:, 0] @ factors[:, 1].transpose(-2, -1)
    mask = (torch.rand(32, SIZE, SIZE, generator=generator) < 0.5).float()
    x = {"entries": matrix * mask, "mask": mask}

    without = EnergySolver(
        observed, Adam(lr=0.1), init=Zeros((SIZE, SIZE)), halting=EnergyChange(rtol=1e-7).patience(5), max_steps=2000
    )
    with_factors = without.replace(energy=low_rank, scratchpad=Normal((2, SIZE, RANK)))
    for name, solver in {"without": without, "with": with_factors}.items():
        solution = solver.minimize(x, generator=generator)
        squares = (solution.y - matrix).square() * (1 - mask)
        error = (squares.sum((-2, -1)) / (1 - mask).sum((-2, -1))).median().item()
        steps = solution.steps.float().mean().item()
        print(f"{name} scratchpad: median error {error:.1e} on unobserved entries, {steps:.0f} steps")


if __name__ == "__main__":
    main()
