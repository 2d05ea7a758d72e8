"""Covariances and standard errors against closed forms and SciPy's curve_fit, and where they are NaN."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import curve_fit

from energysolve import (
    SGD,
    Box,
    EnergySolver,
    FromInput,
    GradientNorm,
    LeastSquares,
    LevenbergMarquardt,
    Never,
    Normal,
    Projected,
    Segment,
    Status,
    Zeros,
)
from energysolve.uncertainty import covariance, hessian, standard_errors

UNITS = torch.tensor([1e-9, 1.0, 1e9], dtype=torch.float64)
TIMES = torch.linspace(10, 200, 20, dtype=torch.float64)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def lines(batch=5, m=12, dtype=torch.float64):
    """Linear regressions in units of very different order: their design ``(batch, m, 3)`` and observations."""
    units = UNITS.to(dtype)
    design = torch.randn(batch, m, 3, generator=generator(), dtype=torch.float64).to(dtype) * units
    seen = design @ (torch.tensor([2.0, -1.0, 0.5], dtype=dtype) / units)
    return design, seen + 0.1 * torch.randn(batch, m, generator=generator(1), dtype=torch.float64).to(dtype)


def misfit(x, y):
    design, seen = x
    return (design @ y.unsqueeze(2)).squeeze(2) - seen


def regression(**fields):
    return EnergySolver(LeastSquares(misfit), LevenbergMarquardt(), init=Zeros((3,)), **fields)


def relative(found, expected):
    """The largest error of a covariance in units of its standard errors."""
    scale = expected.diagonal(dim1=1, dim2=2).sqrt()
    return ((found - expected) / scale.unsqueeze(1) / scale.unsqueeze(2)).abs().max().item()


def in_closed_form(x):
    """The covariance of linear least squares, for each sample alone."""
    found = []
    for design, seen in zip(*(part.numpy().astype(np.float64) for part in x), strict=True):
        units = 1 / UNITS.numpy()
        _, squares, *_ = np.linalg.lstsq(design * units, seen, rcond=None)
        q = np.linalg.pinv(design * units)
        found.append(squares[0] / (len(seen) - 3) * (q @ q.T) * np.outer(units, units))
    return torch.from_numpy(np.stack(found))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-3)])
def test_linear_regression(dtype, tolerance):
    x = lines(dtype=dtype)
    solution = regression().minimize(x)
    expected = in_closed_form(x)
    found = covariance(regression(), x, solution)
    assert found.dtype == dtype
    assert relative(found, expected) < tolerance
    errors = standard_errors(regression(), x, solution)
    torch.testing.assert_close(errors.double(), expected.diagonal(dim1=1, dim2=2).sqrt(), rtol=tolerance, atol=0)


def test_known_noise():
    """Residuals in units of their standard deviation: the inverse of J'J, which is then also that of the Hessian."""
    design, seen = lines()
    x = (design / 0.1, seen / 0.1)
    solution = regression().minimize(x)
    found = covariance(regression(), x, solution, absolute_sigma=True)
    assert relative(found, (x[0].mT @ x[0]).inverse()) < 1e-6
    posterior = regression().replace(energy=lambda x, y: LeastSquares(misfit)(x, y), optimizer=SGD(1e-3))
    assert relative(covariance(posterior, x, solution), found) < 1e-6


def decays(batch=30):
    amplitude = 800 + 400 * torch.rand(batch, 1, generator=generator(), dtype=torch.float64)
    time = 20 + 130 * torch.rand(batch, 1, generator=generator(1), dtype=torch.float64)
    noise = torch.randn(batch, len(TIMES), generator=generator(2), dtype=torch.float64)
    return amplitude * torch.exp(-TIMES / time) + 5 * noise


def decay(x, y):
    return y[:, :1] * torch.exp(-TIMES.to(y.dtype) / y[:, 1:]) - x


def guess(x):
    return torch.stack([x[:, 0], torch.full_like(x[:, 0], 60.0)], 1)


def test_curve_fit():
    x = decays()
    solver = EnergySolver(LeastSquares(decay), init=FromInput(guess))
    solution = solver.minimize(x)
    found = covariance(solver, x, solution).numpy()
    for curve, answer, own in zip(x.numpy(), solution.y.numpy(), found, strict=True):
        expected, pcov = curve_fit(lambda t, a, b: a * np.exp(-t / b), TIMES.numpy(), curve, p0=(curve[0], 60.0))
        scale = np.sqrt(np.diag(pcov))
        np.testing.assert_allclose(answer, expected, atol=1e-3 * scale.min())
        np.testing.assert_allclose(own / np.outer(scale, scale), pcov / np.outer(scale, scale), rtol=0, atol=0.01)


def test_hessian_and_its_inverse():
    """A posterior in closed form: a normal prior of precision ``p`` and ``k`` events of a Poisson distribution."""

    def energy(x, y):
        rate, scale = y.unbind(1)
        return rate.exp() - x * rate + rate.square() / 2 + (scale - 3).square() * 5e5

    x = torch.tensor([0.0, 3.0, 50.0], dtype=torch.float64)
    solver = EnergySolver(energy, init=Zeros((2,)))
    solution = solver.minimize(x)
    curvature = solution.y[:, 0].exp() + 1
    found = hessian(solver, x, solution)
    expected = torch.diag_embed(torch.stack([curvature, torch.full_like(x, 1e6)], 1))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(covariance(solver, x, solution), expected.inverse())


def test_nan_where_a_sample_did_not_converge():
    x = decays(6)
    solver = EnergySolver(LeastSquares(decay), init=FromInput(guess))
    unfinished = solver.minimize(x, max_steps=1)
    assert (unfinished.status == Status.MAX_STEPS).all()
    assert covariance(solver, x, unfinished).isnan().all()
    assert standard_errors(solver, x, unfinished).isnan().all()
    x[2, 3] = torch.nan
    solution = solver.minimize(x)
    assert solution.status[2] == Status.NONFINITE
    found = standard_errors(solver, x, solution)
    assert found.isnan().all(1).tolist() == [False, False, True, False, False, False]
    assert not found[[0, 1, 3, 4, 5]].isnan().any()


def test_a_stalled_sample_counts():
    x = decays(4)
    # Never fires, so each sample goes on until no step lowers its energy.
    solver = EnergySolver(LeastSquares(decay), init=FromInput(guess), halting=Never())
    solution = solver.minimize(x)
    assert (solution.status == Status.STALLED).all()
    assert standard_errors(solver, x, solution).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_nan_where_the_data_do_not_determine_the_variables(dtype):
    design, seen = lines(dtype=dtype)
    design = design.clone()
    design[1, :, 2] = 3 * design[1, :, 0]  # collinear
    design[2, :, 1] = 0  # without effect
    x = (design, seen)
    solution = regression(halting=Never()).minimize(x)
    assert (solution.status == Status.STALLED).all()
    for energy in (LeastSquares(misfit), lambda x, y: LeastSquares(misfit)(x, y)):
        found = standard_errors(regression().replace(energy=energy, optimizer=SGD(1.0)), x, solution)
        assert found.isnan().all(1).tolist() == [False, True, True, False, False]
        assert found[[0, 3, 4]].isfinite().all()


def test_float32_resolves_variables_that_are_almost_collinear():
    """The Jacobian is squared in float64."""
    design, seen = lines(dtype=torch.float32)
    design = torch.stack([design[..., 0], design[..., 1], design[..., 0] * 1e18 + 1e-4 * design[..., 2]], 2)
    x = (design, seen)
    solution = regression().minimize(x)
    found = standard_errors(regression(), x, solution, absolute_sigma=True)
    scaled = design.double() / UNITS
    expected = (scaled.mT @ scaled).inverse().diagonal(dim1=1, dim2=2).sqrt() / UNITS
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=0)


def test_nan_without_degrees_of_freedom():
    x = lines(m=3)
    solution = regression().minimize(x)
    assert standard_errors(regression(), x, solution).isnan().all()
    assert standard_errors(regression(), x, solution, absolute_sigma=True).isfinite().all()


def test_missing_data_do_not_count():
    design, seen = lines()
    present = torch.arange(12) < torch.tensor([12, 11, 8, 4, 3]).unsqueeze(1)
    x = (torch.where(present.unsqueeze(2), design, 0), torch.where(present, seen, 0))
    solution = regression().minimize(x)
    found = covariance(regression(), x, solution, count=present.sum(1))
    for index, count in enumerate((12, 11, 8, 4)):
        own = tuple(part[index : index + 1, :count] for part in (design, seen))
        assert relative(found[index : index + 1], in_closed_form(own)) < 1e-6
    assert found[4].isnan().all()


def test_nan_where_the_hessian_is_indefinite_off_its_diagonal():
    solver = EnergySolver(lambda x, y: y.square().sum(1) / 2 + 2 * x * y.prod(1), init=Zeros((2,)))
    x = torch.tensor([1.0, 0.1])
    found = covariance(solver, x, solver.minimize(x))
    assert found[0].isnan().all()
    torch.testing.assert_close(found[1], torch.tensor([[1.0, 0.2], [0.2, 1.0]]).inverse())


@pytest.mark.parametrize("curvature", [-1.0, 0.0])
def test_nan_at_a_saddle_or_a_plateau(curvature):
    def energy(x, y):
        return x * y[:, 0].square() + curvature * y[:, 1].square()

    solver = EnergySolver(energy, init=Zeros((2,)))
    x = torch.ones(2)
    solution = solver.minimize(x)
    assert solution.converged.all()  # the gradient is zero
    assert covariance(solver, x, solution).isnan().all()
    assert torch.equal(hessian(solver, x, solution)[0], torch.diag(torch.tensor([2.0, 2 * curvature])))


def test_a_linear_energy_has_no_curvature():
    solver = EnergySolver(lambda x, y: (x * y).sum(1), Projected(SGD(1.0), Box(-1.0, 1.0)), init=Zeros((2,)))
    x = torch.ones(3, 2)
    solution = solver.minimize(x)
    assert torch.equal(hessian(solver, x, solution), torch.zeros(3, 2, 2))
    assert covariance(solver, x, solution).isnan().all()


def test_nan_on_a_constraint():
    def energy(x, y):
        return (y - x).square().sum(1)

    solver = EnergySolver(energy, Projected(SGD(0.4), Box(0.0, 1.0)), init=Zeros((1,)), halting=GradientNorm(1e-6))
    x = torch.tensor([[0.5], [2.0]])
    solution = solver.minimize(x)
    assert solution.converged.all()
    found = covariance(solver, x, solution).flatten()
    assert found[0] == 0.5
    assert math.isnan(found[1])


def test_trees_have_the_order_of_their_leaves():
    def energy(x, y):
        return (y["a"].square() * torch.tensor([1.0, 2.0])).sum(1) + (y["b"] + x).square().sum((1, 2)) * 4

    def start(x, layout, generator):
        return {"b": torch.ones(layout.rows, 1, 2), "a": torch.ones(layout.rows, 2)}

    solver = EnergySolver(energy, init=start)
    x = torch.zeros(3, 1, 1)
    solution = solver.minimize(x)
    found = covariance(solver, x, solution)
    torch.testing.assert_close(found, torch.diag(1 / torch.tensor([2.0, 4.0, 8.0, 8.0])).expand(3, 4, 4))
    tensors = standard_errors(solver, x, solution)
    torch.testing.assert_close(tensors, found.diagonal(dim1=1, dim2=2).sqrt())


def test_a_scratchpad_is_a_variable_too():
    """The covariance of y where z is free is the block of the inverse, not the inverse of the block."""

    def energy(x, y, z):
        return ((y - x).square() + (y - z).square() * 3).sum(1)

    solver = EnergySolver(energy, init=Zeros((1,)), scratchpad=Normal((1,)))
    x = torch.tensor([[1.0], [2.0]])
    solution = solver.minimize(x, generator=generator())
    assert hessian(solver, x, solution).shape == (2, 2, 2)
    torch.testing.assert_close(covariance(solver, x, solution), torch.full((2, 1, 1), 0.5))


def test_samples_are_independent_and_nothing_is_tracked():
    class Decay(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.times = torch.nn.Parameter(TIMES.clone())

        def forward(self, x, y):
            return y[:, :1] * torch.exp(-self.times / y[:, 1:]) - x

    x = decays(5)
    solver = EnergySolver(LeastSquares(Decay()), init=FromInput(guess))
    solution = solver.minimize(x)
    found = covariance(solver, x, solution)
    assert not found.requires_grad
    assert not hessian(solver, x, solution).requires_grad
    alone = solver.minimize(x[2:3], solution.y[2:3])
    torch.testing.assert_close(covariance(solver, x[2:3], alone)[0], found[2], rtol=1e-6, atol=0)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients(mode):
    """The mode of the caller changes nothing, also where the problem is an inference tensor."""

    def posterior(x, y):
        return (y.exp() - x * y).sum(1)

    for energy in (posterior, LeastSquares(lambda x, y: x * y.exp() - 1)):
        for optimizer in (SGD(0.1), Projected(SGD(0.1), Box(-9.0, 9.0))):
            solver = EnergySolver(energy, optimizer, init=Zeros((1,)), halting=GradientNorm(1e-5), max_steps=1000)
            x = torch.tensor([[1.0, 2.0, 1.5], [2.0, 4.0, 1.0]])
            expected = covariance(solver, x, solver.minimize(x))
            assert expected.isfinite().all()
            with mode():
                x = x.clone()
                assert torch.equal(covariance(solver, x, solver.minimize(x)), expected)


def test_no_samples():
    x = decays(0)
    solver = EnergySolver(LeastSquares(decay), init=FromInput(guess))
    solution = solver.minimize(x)
    assert covariance(solver, x, solution).shape == (0, 2, 2)
    assert hessian(solver, x, solution).shape == (0, 2, 2)


def test_what_is_refused():
    solver = EnergySolver(lambda x, y: (x - y).square().sum(1), init=Zeros((1001,)))
    x = torch.zeros(2, 1)
    with pytest.raises(ValueError, match=r"1,001 variables.*at most 1,000"):
        covariance(solver, x, solver.minimize(x))
    small = solver.replace(init=Zeros((2,)))
    with pytest.raises(ValueError, match=r"solution\.y has shape \(2, 2\), but x has 3 samples"):
        hessian(small, torch.zeros(3, 1), small.minimize(x))

    index = torch.tensor([0, 0, 1])
    graph = EnergySolver(
        lambda x, y: Segment(index, 2).sum((x - y).square()), init=Zeros((1,)), layout=lambda x: Segment(index, 2)
    )
    with pytest.raises(TypeError, match=r"Dense layout; got Segment"):
        standard_errors(graph, torch.zeros(3, 1), graph.minimize(torch.zeros(3, 1)))

    ragged = EnergySolver(LeastSquares(lambda x, y: y - x, layout=lambda x: Segment(torch.arange(2), 2)), init=Zeros(1))
    with pytest.raises(ValueError, match=r"Write them as \(batch, m\)"):
        covariance(ragged, x, ragged.minimize(x))
