"""Levenberg-Marquardt against known minima, closed forms and MINPACK."""

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares

from energysolve import (
    EnergyChange,
    EnergySolver,
    GradientNorm,
    LeastSquares,
    LevenbergMarquardt,
    Never,
    Segment,
    Status,
    Trajectory,
    Truncated,
    Unroll,
)
from energysolve.optimizers.jacobian import jacobian

T = torch.linspace(0, 4, 50, dtype=torch.float64)


def columns(y):
    return y.t().contiguous().unbind()


def rosenbrock(x, y):
    a, b = columns(y - x)
    return torch.stack([10 * (b - a * a), 1 - a], 1)


def beale(x, y):
    a, b = columns(y - x)
    return torch.stack([1.5 - a * (1 - b), 2.25 - a * (1 - b**2), 2.625 - a * (1 - b**3)], 1)


def powell_singular(x, y):
    a, b, c, d = columns(y - x)
    return torch.stack([a + 10 * b, 5**0.5 * (c - d), (b - 2 * c) ** 2, 10**0.5 * (a - d) ** 2], 1)


def brown_badly_scaled(x, y):
    a, b = columns(y - x)
    return torch.stack([a - 1e6, b - 2e-6, a * b - 2], 1)


KNOWN = {
    "rosenbrock": (rosenbrock, [-1.2, 1.0], [1.0, 1.0], 1e-8),
    "beale": (beale, [1.0, 1.0], [3.0, 0.5], 1e-8),
    "powell singular": (powell_singular, [3.0, -1.0, 0.0, 1.0], [0.0] * 4, 1e-3),
    "brown badly scaled": (brown_badly_scaled, [1.0, 1.0], [1e6, 2e-6], 1e-8),
}


def decay(x, y):
    return y[:, :1] * torch.exp(-y[:, 1:2] * T.to(y.dtype)) + y[:, 2:] - x


def curves(batch, noise=0.05, seed=0):
    generator = torch.Generator().manual_seed(seed)
    true = torch.rand(batch, 3, generator=generator, dtype=torch.float64) * torch.tensor([2, 1.5, 1])
    true = true + torch.tensor([1, 0.5, 0])
    signal = true[:, :1] * torch.exp(-true[:, 1:2] * T) + true[:, 2:]
    return signal + noise * torch.randn(batch, len(T), generator=generator, dtype=torch.float64)


def solver(residuals, **fields):
    fields = {"halting": GradientNorm(1e-12), "max_steps": 300, **fields}
    return EnergySolver(LeastSquares(residuals), LevenbergMarquardt(), **fields)


def fits(x, **fields):
    return solver(decay, **fields).minimize(x, torch.ones(len(x), 3, dtype=x.dtype))


@pytest.mark.parametrize("name", KNOWN)
def test_known_minima(name):
    residuals, start, minimum, tolerance = KNOWN[name]
    y = torch.tensor([start], dtype=torch.float64)
    solution = solver(residuals).minimize(torch.zeros_like(y), y)
    assert solution.status.item() in (Status.CONVERGED, Status.STALLED)
    minimum = torch.tensor([minimum], dtype=torch.float64)
    assert torch.allclose(solution.y, minimum, rtol=tolerance, atol=tolerance)


def test_curve_fits_agree_with_minpack_and_take_as_few_evaluations():
    x = curves(40)
    solution = fits(x, halting=EnergyChange(rtol=1e-12))
    assert solution.converged.all()
    t, ones = T.numpy(), np.ones(3)
    reference = [
        least_squares(
            lambda y, row=row: y[0] * np.exp(-y[1] * t) + y[2] - row, ones, method="lm", xtol=1e-12, ftol=1e-12
        )
        for row in x.numpy()
    ]
    assert np.allclose(solution.y, [found.x for found in reference], rtol=1e-5)
    assert solution.evaluations.double().mean() <= 10


def test_linear_residuals_take_one_step():
    generator = torch.Generator().manual_seed(1)
    matrix = torch.randn(4, 7, 3, dtype=torch.float64, generator=generator)
    right = torch.randn(4, 7, dtype=torch.float64, generator=generator)
    linear = solver(lambda x, y: (x[0] @ y.unsqueeze(2)).squeeze(2) - x[1], max_steps=1)
    solution = linear.minimize((matrix, right), torch.zeros(4, 3, dtype=torch.float64))
    assert torch.allclose(solution.y, torch.linalg.lstsq(matrix, right.unsqueeze(2)).solution.squeeze(2))


def test_units_change_nothing():
    """With variables in units of 1000 and 1e-6, the steps are the same: powers of two keep the rounding."""
    units = torch.tensor([2.0**10, 2.0**-20, 1.0], dtype=torch.float64)
    x, ones = curves(8), torch.ones(8, 3, dtype=torch.float64)
    plain = solver(decay).minimize(x, ones)
    scaled = solver(lambda x, y: decay(x, y / units)).minimize(x, ones * units)
    assert torch.allclose(scaled.y / units, plain.y, rtol=1e-9)


def test_samples_are_independent_of_their_batch():
    x = curves(12)
    together = fits(x, halting=EnergyChange(rtol=1e-9))
    for sample in range(len(x)):
        alone = fits(x[sample : sample + 1], halting=EnergyChange(rtol=1e-9))
        assert (alone.steps, alone.evaluations) == (together.steps[sample], together.evaluations[sample])
        assert torch.allclose(alone.y[0], together.y[sample], rtol=1e-12)


def test_energies_never_rise():
    y = torch.tensor([[-12.0, 10.0], [100.0, -3.0], [0.0, 0.0]], dtype=torch.float64)
    path = solver(rosenbrock, recorder=Trajectory(), halting=Never()).minimize(torch.zeros_like(y), y).record
    energy = torch.stack(path.energy)
    assert (energy[1:] <= energy[:-1] * (1 + 1e-14)).all()
    assert len(energy) > 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_samples_stall_at_the_rounding_of_the_energy(dtype):
    solution = fits(curves(50).to(dtype), halting=Never())
    assert (solution.status == Status.STALLED).all()
    assert solution.evaluations.max() < 40
    assert solution.gradient_norm.max() < 1e4 * torch.finfo(dtype).eps


def test_no_evaluation_is_spent_where_the_energy_is_zero():
    solution = solver(lambda x, y: y - x, halting=Never()).minimize(torch.ones(2, 3), torch.zeros(2, 3))
    assert torch.equal(solution.y, torch.ones(2, 3))
    assert (solution.status == Status.STALLED).all()
    assert solution.evaluations.max() <= 4


@pytest.mark.parametrize("outside", [torch.inf, torch.nan])
def test_a_barrier_is_backed_away_from(outside):
    def residuals(x, y):
        return torch.where(y > 0, y.clamp(min=1e-300).log() - x, outside)

    x = torch.tensor([[0.5], [-3.0], [2.0]], dtype=torch.float64)
    solution = solver(residuals).minimize(x, torch.full_like(x, 30.0))
    assert solution.converged.all()
    assert torch.allclose(solution.y, x.exp())
    assert (solution.evaluations > solution.steps + 1).any()


def test_a_sample_that_is_not_finite_harms_no_other():
    x = curves(5)
    x[2] = torch.nan
    solution = fits(x)
    assert solution.status[2] == Status.NONFINITE
    others = [0, 1, 3, 4]
    assert torch.equal(solution.y[others], fits(curves(5)).y[others])


def test_singular_jacobians():
    """A sum and a variable without influence: the energy falls to zero, and what has no influence stays."""
    x = torch.tensor([[3.0], [-2.0]], dtype=torch.float64)
    y = torch.tensor([[1.0, 1.0, 5.0], [0.0, 4.0, 6.0]], dtype=torch.float64)
    solution = solver(lambda x, y: (y[:, :1] + y[:, 1:2]).exp() - x.exp()).minimize(x, y)
    assert solution.energy.max() < 1e-20
    assert torch.equal(solution.y[:, 2], y[:, 2])


def test_compaction_changes_nothing():
    x = curves(64)
    plain, compact = fits(x), fits(x, compact=True)
    assert torch.allclose(plain.y, compact.y, rtol=1e-9)
    assert torch.equal(plain.status, compact.status)


def test_trees_and_scratchpads():
    def residuals(x, y, z):
        return decay(x, torch.cat([y["scale"].unsqueeze(1), y["rest"].flatten(1)[:, :1], z], 1))

    x = curves(6)
    ones = torch.ones(6, dtype=torch.float64)
    solution = solver(residuals).minimize(x, {"scale": ones, "rest": ones.view(6, 1, 1)}, ones.view(6, 1))
    expected = fits(x).y
    assert torch.allclose(torch.stack([solution.y["scale"], solution.y["rest"].flatten()], 1), expected[:, :2])
    assert torch.allclose(solution.z, expected[:, 2:])


def test_refused_energies_and_layouts():
    with pytest.raises(TypeError, match="write the energy as LeastSquares"):
        EnergySolver(lambda x, y: (x - y).square().sum(1), LevenbergMarquardt()).minimize(
            torch.zeros(2, 3), torch.ones(2, 3)
        )
    x = torch.zeros(2, 1)
    graph = solver(lambda x, y: y.view(2, 2), layout=lambda x: Segment(torch.tensor([0, 0, 1, 1]), 2))
    with pytest.raises(TypeError, match="needs answers with one row per sample, a Dense layout; got Segment"):
        graph.minimize(x, torch.ones(4, 1))


class _Once(torch.autograd.Function):
    """The sine, differentiable once."""

    @staticmethod
    def forward(ctx, value):
        ctx.save_for_backward(value)
        return value.sin()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, slope):
        return slope * ctx.saved_tensors[0].cos()


@pytest.mark.parametrize("sine", [torch.sin, _Once.apply])
def test_the_jacobian_against_its_closed_form(sine):
    y = torch.randn(5, 2, dtype=torch.float64), torch.randn(5, 1, 1, dtype=torch.float64)
    matrix = torch.randn(4, 2, dtype=torch.float64)
    with torch.no_grad():
        found = jacobian(lambda free: (sine(free[0]) + free[0]) @ matrix.T + free[1].flatten(1), y)
    assert torch.allclose(found[:, :, :2], matrix * (1 + y[0].cos()).unsqueeze(1))
    assert torch.equal(found[:, :, 2], torch.ones(5, 4, dtype=torch.float64))


def test_the_jacobian_of_residuals_that_do_not_depend_on_a_variable():
    y = torch.randn(3, 2, dtype=torch.float64), torch.randn(3, 1, dtype=torch.float64)
    assert torch.equal(jacobian(lambda free: free[0] * 2, y)[:, :, 2], torch.zeros(3, 2, dtype=torch.float64))


def test_modules_as_residuals():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(3, 16), torch.nn.Tanh(), torch.nn.Linear(16, 8)).double()

    class Residuals(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, x, y):
            return self.network(y) - x

    with torch.no_grad():
        x = network(torch.randn(6, 3, dtype=torch.float64))
    solution = solver(Residuals()).minimize(x, torch.zeros(6, 3, dtype=torch.float64))
    assert solution.energy.max() < 1e-16


@pytest.mark.parametrize("mode", [Unroll(), Truncated(2)])
def test_gradients_of_a_fit(mode):
    """The derivative of the minimum by the data; near it, the steps forget where they began."""
    x = curves(2, noise=0.01)

    def answer(x):
        return fits(x, differentiation=mode, halting=GradientNorm(1e-11)).y

    assert torch.autograd.gradcheck(answer, x.clone().requires_grad_(), atol=1e-6, rtol=1e-4, fast_mode=True)
