"""A custom energy: the position of a receiver, given its distances to beacons.

An energy is any function of a batch of problems ``x`` and candidate answers ``y`` that returns one number per sample.
Here a problem is a dict of tensors, and an answer a position in the plane.
"""

import torch

from energysolve import SGD, EnergySolver, GradientNorm, Zeros
from energysolve.testing import check_energy


def ranging(x, y):
    """The misfit of the position ``y (batch, 2)`` to the measured distances from the beacons."""
    distance = (x["beacons"] - y.unsqueeze(1)).norm(dim=-1)
    return (distance - x["measured"]).square().sum(-1)


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    position = torch.rand(100, 2, generator=generator) * 2 - 1
    beacons = torch.tensor([[3.0, 0.0], [0.0, 3.0], [-3.0, 0.0], [0.0, -3.0], [3.0, 3.0]]).expand(100, 5, 2)
    x = {"beacons": beacons, "measured": (beacons - position.unsqueeze(1)).norm(dim=-1)}

    check_energy(ranging, x, position + 0.1)  # one energy per sample, independent samples, correct derivatives

    solver = EnergySolver(ranging, SGD(lr=0.1), init=Zeros((2,)), halting=GradientNorm(1e-5), max_steps=500)
    solution = solver.minimize(x)
    solution.raise_for_status(strict=True)
    error = (solution.y - position).norm(dim=-1).max().item()
    print(
        f"100 receivers found after {solution.steps.min()} to {solution.steps.max()} steps; largest error {error:.1e}"
    )


if __name__ == "__main__":
    main()
