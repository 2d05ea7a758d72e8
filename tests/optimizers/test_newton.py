"""Newton steps by truncated conjugate gradients, against known minima and SciPy."""

import pytest
import torch
from scipy.optimize import minimize

from energysolve import EnergySolver, GradientNorm, Never, NewtonCG, Segment, Status, Trajectory
from energysolve.energies import (
    Beale,
    Box3D,
    HelicalValley,
    PowellSingular,
    Quadratic,
    Rosenbrock,
    StyblinskiTang,
    Trigonometric,
    VariablyDimensioned,
    Wood,
)

ENERGIES = [Rosenbrock(2), Rosenbrock(10), Beale(), HelicalValley(), Wood(), VariablyDimensioned(), Trigonometric()]


def solver(energy, **fields):
    return EnergySolver(energy, NewtonCG(), **{"halting": GradientNorm(1e-9), "max_steps": 300, **fields})


def starts(energy, batch=1, seed=0):
    """Shifted problems and their standard start; the shifts are whole, so that differences are exact."""
    shifts = torch.randint(-3, 4, (batch, energy.dim), generator=torch.Generator().manual_seed(seed)).double()
    return shifts, shifts + torch.tensor(energy.start, dtype=torch.float64)


@pytest.mark.parametrize("energy", [*ENERGIES, Box3D()], ids=lambda energy: type(energy).__name__)
def test_known_minima(energy):
    x, y = starts(energy, 3)
    solution = solver(energy).minimize(x, y)
    assert solution.converged.all()
    assert torch.allclose(solution.energy, torch.full((3,), energy.minimum, dtype=torch.float64), atol=1e-10)


def test_a_singular_minimum():
    x, y = starts(PowellSingular())
    solution = solver(PowellSingular()).minimize(x, y)
    assert solution.converged
    assert torch.allclose(solution.y, x, atol=0.01)


def test_as_few_evaluations_as_scipy():
    ours, scipy = 0, 0
    for energy in ENERGIES:
        x, y = starts(energy)

        def value(point, energy=energy):
            return energy.value(point.unsqueeze(0)).squeeze(0)

        def gradient(point, value=value):
            return torch.func.grad(value)(torch.as_tensor(point)).numpy()

        def product(point, vector, value=value):
            slope = torch.func.grad(value)
            return torch.func.jvp(slope, (torch.as_tensor(point),), (torch.as_tensor(vector),))[1].numpy()

        found = minimize(
            lambda point, value=value: value(torch.as_tensor(point)).item(),
            *((y - x).squeeze(0).numpy(),),
            jac=gradient,
            hessp=product,
            method="trust-ncg",
            options={"gtol": 1e-9},
        )
        scipy += found.nfev
        ours += solver(energy).minimize(x, y).evaluations.item()
    assert ours <= 1.1 * scipy


def test_quadratics_take_one_step_within_the_trust_region():
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(3, 8, 8, dtype=torch.float64, generator=generator)
    x = (
        factor @ factor.mT + torch.eye(8, dtype=torch.float64),
        torch.randn(3, 8, dtype=torch.float64, generator=generator),
    )
    y = 100 * torch.ones(3, 8, dtype=torch.float64)
    solution = solver(Quadratic()).minimize(x, y)
    assert torch.allclose(solution.y, Quadratic().solve(x), atol=1e-8)
    assert solution.steps.max() <= 8


def test_saddle_points_are_left():
    def energy(x, y):
        return y[:, 0].square() - y[:, 1].square() + y[:, 1].square().square() / 4

    y = torch.tensor([[1.0, 1e-9], [0.0, -1e-12]], dtype=torch.float64)
    solution = solver(energy).minimize(torch.zeros(2, 1), y)
    assert torch.allclose(solution.y, torch.tensor([[0, 2**0.5], [0, -(2**0.5)]], dtype=torch.float64))


def test_samples_are_independent_of_their_batch():
    x, y = starts(Rosenbrock(4), 8, seed=1)
    y = y + torch.linspace(0, 2, 8, dtype=torch.float64).unsqueeze(1)
    together = solver(Rosenbrock(4)).minimize(x, y)
    for sample in range(8):
        rows = slice(sample, sample + 1)
        alone = solver(Rosenbrock(4)).minimize(x[rows], y[rows])
        assert (alone.steps, alone.evaluations) == (together.steps[sample], together.evaluations[sample])
        assert torch.allclose(alone.y[0], together.y[sample], rtol=1e-12)


@pytest.mark.parametrize("energy", [Rosenbrock(6), StyblinskiTang(3)], ids=["Rosenbrock", "StyblinskiTang"])
def test_energies_never_rise(energy):
    x, y = starts(energy, 5)
    y = y + 10 * torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    energies = torch.stack(solver(energy, recorder=Trajectory(), halting=Never()).minimize(x, y).record.energy)
    assert (energies[1:] <= energies[:-1] + 1e-14 * energies[:-1].abs()).all()
    assert len(energies) > 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_samples_stall_at_the_rounding_of_the_energy(dtype):
    x, y = starts(StyblinskiTang(3), 20)
    y = y + torch.rand(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    solution = solver(StyblinskiTang(3), halting=Never()).minimize(x.to(dtype), y.to(dtype))
    assert (solution.status == Status.STALLED).all()
    assert solution.evaluations.max() < 40
    assert solution.gradient_norm.max() < 1e4 * torch.finfo(dtype).eps


@pytest.mark.parametrize("outside", [torch.inf, torch.nan])
def test_a_barrier_is_backed_away_from(outside):
    def energy(x, y):
        return torch.where(y > 0, y - x * y.clamp(min=1e-300).log(), outside).sum(1)

    x = torch.tensor([[0.5, 2.0], [3.0, 0.01]], dtype=torch.float64)
    solution = solver(energy).minimize(x, torch.full_like(x, 30.0))
    assert solution.converged.all()
    assert torch.allclose(solution.y, x)
    assert (solution.evaluations > solution.steps + 1).any()


def test_compaction_changes_nothing():
    x, y = starts(Rosenbrock(4), 64, seed=1)
    y = y + torch.linspace(0, 5, 64, dtype=torch.float64).unsqueeze(1)
    plain, compact = (solver(Rosenbrock(4), compact=compact).minimize(x, y) for compact in (False, True))
    assert torch.equal(plain.evaluations, compact.evaluations)
    assert torch.allclose(plain.y, compact.y, rtol=1e-12)


def test_samples_of_several_rows():
    """Rosenbrock functions whose variables are the rows, shuffled, of samples of two sizes."""
    index = torch.tensor([0, 1, 0, 1, 1, 1])
    layout = Segment(index, 2)

    def energy(x, y):
        pairs = y.squeeze(1)[torch.tensor([0, 2, 1, 3, 4, 5])].view(3, 2)
        a, b = pairs.unbind(1)
        values = 100 * (b - a.square()).square() + (1 - a).square()
        return values.new_zeros(2).index_add(0, torch.tensor([0, 1, 1]), values)

    y = torch.tensor([-1.2, -1.2, 1.0, 1.0, 2.0, 2.0], dtype=torch.float64).unsqueeze(1)
    solution = solver(energy, layout=lambda x: layout).minimize(torch.zeros(2, 1), y)
    assert torch.allclose(solution.y, torch.ones(6, 1, dtype=torch.float64))
    alone = solver(Rosenbrock(2)).minimize(*starts(Rosenbrock(2)))
    assert solution.steps[0] == alone.steps


def test_trees_and_scratchpads():
    def energy(x, y, z):
        return Rosenbrock(4)(x, torch.cat([y["a"], y["b"].flatten(1), z.unsqueeze(1)], 1))

    x, y = starts(Rosenbrock(4), 3)
    solution = solver(energy).minimize(x, {"a": y[:, :1], "b": y[:, 1:3].view(3, 2, 1)}, y[:, 3])
    assert torch.allclose(solution.y["b"].flatten(1), x[:, 1:3] + 1)
    assert torch.allclose(solution.z, x[:, 3] + 1)
    assert torch.equal(solution.evaluations, solver(Rosenbrock(4)).minimize(x, y).evaluations)


def test_a_linear_energy_moves_to_the_boundary():
    solution = solver(lambda x, y: (x * y).sum(1), halting=Never(), max_steps=1).minimize(
        torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2)
    )
    assert torch.allclose(solution.y, torch.tensor([[-0.6, -0.8]]))
