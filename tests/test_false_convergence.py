"""The default criterion is not fooled: what it calls CONVERGED has a small slope, on problems made to fool it.

Among them: step sizes at which gradient descent jumps from one side of a minimum to the other at the same energy,
kinks, plateaus, valleys, minima at infinity, offsets that hide every change of the energy in float32, and gradients
whose squares overflow or underflow there.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from energysolve import LBFGS, SGD, Adam, EnergyChange, EnergySolver, Momentum
from energysolve.optimizers import InnerOptimizer

F32, F64 = torch.float32, torch.float64


@dataclass(frozen=True, eq=False)
class Family:
    """Problems of one kind, one per row of ``x`` and ``y``, with the gradient in closed form."""

    name: str
    energy: Callable[[Tensor, Tensor], Tensor]
    slope: Callable[[Tensor, Tensor], Tensor]
    x: Tensor
    y: Tensor

    def slopes(self, y: Tensor) -> Tensor:
        """``(batch,)``: the norm of the gradient at ``y``, by the closed form in float64."""
        return self.slope(self.x.double(), y.double()).norm(dim=1)


def quadratic(x, y):
    return (x * y.square()).sum(1) / 2


def quadratic_slope(x, y):
    return x * y


def families() -> list[Family]:
    """300 problems, for steps of size 1 and less."""
    generator = torch.Generator().manual_seed(11)

    def uniform(low, high, *shape):
        return low + (high - low) * torch.rand(*shape, generator=generator, dtype=F64)

    def curvatures(rows, steepest):
        """Of condition 10 to 1e6, the steepest one given."""
        x = 10 ** (-uniform(1.0, 6.0, rows, 1) * uniform(0.0, 1.0, rows, 6))
        x[:, 0] = steepest
        return x

    def starts(rows, columns, scale=1.0):
        return scale * torch.randn(rows, columns, generator=generator, dtype=F64)

    # At 2/L, gradient descent jumps to the other side for ever; close to it, its energy hardly changes.
    shares = torch.cat([torch.full((10,), 2.0, dtype=F64), 2 - 10 ** -uniform(1.0, 9.0, 15), uniform(0.1, 2.0, 15)])
    steep = curvatures(40, shares)
    single = starts(40, 6) * torch.tensor([1.0, 0, 0, 0, 0, 0], dtype=F64)  # in the steepest direction alone
    far = uniform(3.0, 6.0, 40, 2) * uniform(-1.0, 1.0, 40, 2).sign()
    made = [
        Family("quadratics", quadratic, quadratic_slope, steep, starts(40, 6)),
        Family("steepest directions", quadratic, quadratic_slope, steep, single),
        Family(
            "kinks",
            lambda x, y: (x * y.abs()).sum(1),
            lambda x, y: x * y.sign(),
            10 ** uniform(-2.0, 1.0, 40, 2),
            starts(40, 2, 3.0),
        ),
        Family(
            "plateaus",
            lambda x, y: (1 - (-x * y.square() / 2).exp()).sum(1),
            lambda x, y: x * y * (-x * y.square() / 2).exp(),
            uniform(0.5, 2.0, 40, 1),
            far,
        ),
        Family(
            "stairs",  # ever slower onto each step, and over its edge
            lambda x, y: (y + x * y.sin()).square().sum(1) / 2,
            lambda x, y: (y + x * y.sin()) * (1 + x * y.cos()),
            1 - 10 ** -uniform(1.0, 6.0, 20, 1),
            uniform(4.0, 12.0, 20, 2),
        ),
        Family(
            "valleys",
            lambda x, y: x[:, 0] * (y[:, 1] - y[:, 0].square()).square() + (1 - y[:, 0]).square(),
            lambda x, y: torch.stack([
                -4 * x[:, 0] * y[:, 0] * (y[:, 1] - y[:, 0].square()) - 2 * (1 - y[:, 0]),
                2 * x[:, 0] * (y[:, 1] - y[:, 0].square()),
            ], 1),
            10 ** uniform(-2.0, 2.0, 20, 1),
            starts(20, 2),
        ),
        Family(
            "quartics",
            lambda x, y: (x * y.square().square()).sum(1) / 4,
            lambda x, y: x * y.pow(3),
            uniform(0.1, 1.0, 20, 3),
            starts(20, 3, 0.5),
        ),
        Family(
            "minima at infinity",
            lambda x, y: (-x * y).exp().sum(1),
            lambda x, y: -x * (-x * y).exp(),
            uniform(0.1, 2.0, 20, 1),
            uniform(-1.0, 2.0, 20, 2),
        ),
    ]  # fmt: skip
    hidden = Family(
        "hidden by an offset", lambda x, y: quadratic(x, y) + 1e8, quadratic_slope, curvatures(40, 1.0), starts(40, 6)
    )
    scales = 10 ** torch.linspace(-36, 36, 20, dtype=F64).unsqueeze(1)
    extreme = Family("extreme units", quadratic, quadratic_slope, scales * curvatures(20, 1.0), starts(20, 6))
    return [*made, hidden, extreme]


IN_FLOAT32_ALONE = ("hidden by an offset", "extreme units")


AT_LEAST: dict[InnerOptimizer, int] = {SGD(1.0): 30, SGD(0.02): 0, Momentum(1.0, 0.9): 5, Adam(0.1): 1, LBFGS(): 400}
"""How many solves should converge: without any, the test would be empty."""


def falsely_converged(family: Family, optimizer: InnerOptimizer, dtype: torch.dtype, **parts) -> tuple[Tensor, Tensor]:
    """Which samples converged, and which of these have a slope above 1e-2 of the initial one."""
    solver = EnergySolver(family.energy, optimizer, **parts)
    found = solver.minimize(family.x.to(dtype), family.y.to(dtype))
    return found.converged, found.converged & (family.slopes(found.y) > 1e-2 * family.slopes(family.y))


@pytest.mark.parametrize("optimizer", AT_LEAST, ids=repr)
def test_what_the_default_criterion_calls_converged_has_a_small_slope(optimizer):
    converged, drawn = 0, families()
    assert sum(len(family.x) for family in drawn) == 300
    for family in drawn:
        for dtype in [F32] if family.name in IN_FLOAT32_ALONE else [F32, F64]:
            fired, wrong = falsely_converged(family, optimizer, dtype)
            assert not wrong.any(), f"{family.name} in {dtype}: {wrong.nonzero().flatten().tolist()}"
            converged += int(fired.sum())
    assert converged >= AT_LEAST[optimizer]


def test_the_change_of_the_energy_alone_is_fooled_by_problems_of_every_kind():
    """So the problems above can tell a false convergence from a true one."""
    for family in families()[:-1]:
        fooled = sum(
            int(falsely_converged(family, optimizer, F32, halting=EnergyChange(rtol=1e-2))[1].sum())
            for optimizer in (SGD(1.0), SGD(0.02))
        )
        assert fooled >= 10, family.name
