"""Step lengths per sample for optimizers of fixed steps."""

import optree
import pytest
import torch
import torchopt
from compaction_cases import assert_same
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from energysolve import (
    LBFGS,
    SGD,
    Adam,
    Backtracking,
    Ball,
    Box,
    Clipped,
    EnergySolver,
    GradientNorm,
    Momentum,
    Never,
    Projected,
    RMSProp,
    Simplex,
    Status,
    TorchOpt,
    Trajectory,
)
from energysolve.testing import check_optimizer
from energysolve.testing.strategies import batch_layout, batches, energies

INNER = [
    SGD(1.0),
    Momentum(0.1),
    Adam(0.1),
    RMSProp(0.1),
    TorchOpt(lambda: torchopt.adamw(0.05)),
    Clipped(SGD(1.0), 1.0),
]
SET = [Box(-0.5, 0.5), Ball(0.7), Simplex()]


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def quadratics(condition, batch=6, n=4):
    """Symmetric matrices ``(batch, n, n)`` with curvatures from 1 to ``condition``, and linear terms."""
    basis = torch.linalg.qr(random(batch, n, n)).Q
    curvature = torch.tensor(float(condition), dtype=torch.float64) ** torch.linspace(0, 1, n, dtype=torch.float64)
    return basis @ torch.diag(curvature) @ basis.mT, random(batch, n, seed=1)


def quadratic(x, y):
    matrix, linear = x
    return ((y.unsqueeze(2) * matrix).sum(1) * y).sum(1) / 2 - (linear * y).sum(1)


@pytest.mark.parametrize("condition", [1, 200])
@pytest.mark.parametrize("lr", [1e-6, 1.0, 1e6])
def test_any_step_size_solves_a_quadratic_of_any_condition(condition, lr):
    x = quadratics(condition)
    for optimizer in (SGD(lr), Momentum(lr), Adam(lr), RMSProp(lr)):
        solver = EnergySolver(quadratic, Backtracking(optimizer), halting=GradientNorm(1e-5), max_steps=3000)
        solution = solver.minimize(x, torch.zeros_like(x[1]))
        assert solution.converged.all(), optimizer
        torch.testing.assert_close(solution.y, torch.linalg.solve(*x), rtol=0, atol=1e-5)


def constrained_reference(matrix, linear, projection):
    """The constrained minimum of one quadratic, by SciPy."""

    def value(y):
        return y @ matrix @ y / 2 - linear @ y

    def slope(y):
        return matrix @ y - linear

    if isinstance(projection, Box):
        bounds = [(projection.low, projection.high)] * len(linear)
        return minimize(value, 0 * linear, jac=slope, bounds=bounds, method="L-BFGS-B", tol=1e-13).x
    constraints, bounds = {"type": "ineq", "fun": lambda y: projection.radius**2 - y @ y}, None
    if isinstance(projection, Simplex):
        constraints, bounds = {"type": "eq", "fun": lambda y: y.sum() - 1}, [(0, None)] * len(linear)
    start = 0 * linear + 1 / len(linear)
    return minimize(
        value, start, jac=slope, bounds=bounds, constraints=constraints, method="SLSQP", options={"ftol": 1e-15}
    ).x


@pytest.mark.parametrize("lr", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("projection", SET, ids=lambda projection: type(projection).__name__)
def test_the_projected_line_search_finds_constrained_minima(projection, lr):
    matrix, linear = x = quadratics(30)
    x = matrix, 3 * linear
    expected = [constrained_reference(m.numpy(), g.numpy(), projection) for m, g in zip(*x, strict=True)]
    expected = torch.stack([torch.from_numpy(row) for row in expected])
    optimizer = Backtracking(Projected(SGD(lr), projection))
    solver = EnergySolver(quadratic, optimizer, halting=GradientNorm(1e-7), max_steps=1000)
    solution = solver.minimize(x, projection(torch.zeros_like(linear)))
    assert solution.converged.all()
    torch.testing.assert_close(solution.y, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(projection(solution.y), solution.y)
    at_expected = quadratic(x, expected)
    assert (solution.energy <= at_expected + 1e-9 * at_expected.abs()).all()


def test_momentum_under_a_projection():
    x = quadratics(30)
    optimizer = Backtracking(Projected(Momentum(0.1), Box(-0.5, 0.5)))
    solution = EnergySolver(quadratic, optimizer, halting=GradientNorm(1e-5), max_steps=2000).minimize(
        x, torch.zeros_like(x[1])
    )
    expected = [constrained_reference(m.numpy(), g.numpy(), Box(-0.5, 0.5)) for m, g in zip(*x, strict=True)]
    assert solution.converged.all()
    torch.testing.assert_close(solution.y, torch.stack([torch.from_numpy(row) for row in expected]), rtol=0, atol=1e-4)


def test_an_infeasible_start_is_projected_first():
    x = torch.zeros(1, 3, dtype=torch.float64)
    solver = EnergySolver(
        lambda x, y: (y - x).square().sum(1),
        Backtracking(Projected(SGD(0.1), Simplex())),
        halting=GradientNorm(1e-8),
        recorder=Trajectory(),
    )
    solution = solver.minimize(x, torch.tensor([[0.1, 0.0, 0.0]], dtype=torch.float64))
    assert solution.record.energy[1] > solution.record.energy[0]
    torch.testing.assert_close(solution.record.y[1], Simplex()(solution.record.y[0]))
    torch.testing.assert_close(solution.y, torch.full_like(x, 1 / 3))


def test_two_projections_apply_in_their_order():
    x = torch.tensor([[2.0, 1.0]], dtype=torch.float64)
    optimizer = Backtracking(Projected(Projected(SGD(1.0), Ball(1.0)), Box(0.0, 0.5)))
    solution = EnergySolver(lambda x, y: (y - x).square().sum(1), optimizer, max_steps=50).minimize(
        x, torch.zeros_like(x)
    )
    assert (solution.y <= 0.5).all()


@pytest.mark.parametrize("optimizer", INNER, ids=lambda optimizer: type(optimizer).__name__)
def test_a_barrier_is_backed_away_from(optimizer):
    def barrier(x, y):
        return (x * y - y.log()).sum(1)  # NaN for y < 0, the minimum at 1 / x

    x = torch.tensor([[0.1, 1.0], [30.0, 2.0]], dtype=torch.float64)
    solver = EnergySolver(barrier, Backtracking(optimizer), halting=GradientNorm(1e-5), max_steps=3000)
    solution = solver.minimize(x, torch.ones_like(x))
    if isinstance(optimizer, TorchOpt):  # its weight decay is no part of the energy
        assert (solution.status != Status.NONFINITE).all()
        return
    assert solution.converged.all()
    torch.testing.assert_close(solution.y, 1 / x, rtol=1e-3, atol=0)


def test_the_momentum_of_a_sample_that_refused_does_not_move():
    """After a refusal, the next accepted step is along the same proposal, only shorter."""
    x, y = torch.tensor([[100.0]], dtype=torch.float64), torch.tensor([[1.0]], dtype=torch.float64)
    solver = EnergySolver(
        lambda x, y: (x * y.square()).sum(1), Backtracking(Momentum(1.0)), halting=Never(), recorder=Trajectory()
    )
    found = solver.minimize(x, y, max_steps=6)
    assert found.steps < 6
    # The first accepted step of momentum is a multiple of the gradient, whatever was refused before it.
    first = found.record.y[1] - found.record.y[0]
    assert first < 0
    optimizer = Backtracking(Momentum(1.0))
    from energysolve.engine.objective import Objective
    from energysolve.layout import Dense

    objective = Objective(lambda x, y: (x * y.square()).sum(1), x, Dense(1))
    at = objective((y,))
    _, refused = optimizer.step(at, optimizer.begin((y,), Dense(1)), objective)
    worse = at._replace(energy=at.energy + 1e9)
    accepted, refused = optimizer.accept(at, worse, refused)
    assert not accepted.any()
    again, state = optimizer.step(at, refused, objective)
    traces = [leaf for leaf in optree.tree_leaves(state.inner) if isinstance(leaf, torch.Tensor)]
    assert all((trace == 0).all() for trace in traces)
    better = objective(again)._replace(energy=at.energy - 1e9)
    accepted, state = optimizer.accept(at, better, state)
    assert accepted.all()
    _, state = optimizer.step(better, state, objective)
    traces = [leaf for leaf in optree.tree_leaves(state.inner) if isinstance(leaf, torch.Tensor)]
    torch.testing.assert_close(traces[0], at.gradient[0])


@given(batches(), energies(), st.sampled_from([*INNER, Projected(SGD(1.0), Box(-1.0, 1.5))]))
@settings(max_examples=15)
def test_energies_never_rise_and_samples_are_independent(batch, energy, optimizer):
    def inside(tree):
        return optree.tree_map(lambda leaf: leaf.clamp(-1, 1), tree)

    solver = EnergySolver(
        energy, Backtracking(optimizer), halting=GradientNorm(1e-4), layout=batch_layout, max_steps=25
    )
    recorded = solver.replace(recorder=Trajectory()).minimize(batch.x, inside(batch.y), batch.z)
    energy_path = torch.stack(recorded.record.energy)
    assert (energy_path.diff(dim=0) <= 1e-14 * energy_path[:-1].abs()).all()
    assert (recorded.evaluations <= 26).all()
    together = solver.minimize(batch.x, inside(batch.y), batch.z)
    for sample in range(len(batch.x["width"])):
        part = batch.select(torch.tensor([sample]))
        alone = solver.minimize(part.x, inside(part.y), part.z)
        rows = batch.layout.select(torch.tensor([sample]))[1]
        for name in ("energy", "steps", "status", "evaluations"):
            assert torch.equal(getattr(alone, name), getattr(together, name)[sample : sample + 1]), name
        pairs = zip(optree.tree_leaves(alone.y), optree.tree_leaves(together.y), strict=True)
        assert all(torch.equal(a, b[rows]) for a, b in pairs)


@pytest.mark.parametrize("optimizer", [SGD(1.0), Adam(0.1)])
def test_compaction_changes_nothing(optimizer):
    x = torch.logspace(-2, 2, 12, dtype=torch.float64).unsqueeze(1)
    solver = EnergySolver(
        lambda x, y: (x * y.square() + y.square().square()).sum(1),
        Backtracking(optimizer),
        halting=GradientNorm(1e-5),
        max_steps=200,
    )
    y = torch.ones(12, 3, dtype=torch.float64)
    plain, compacted = solver.minimize(x, y), solver.replace(compact=True).minimize(x, y)
    assert len(plain.steps.unique()) > 2
    assert_same(plain, compacted)


@pytest.mark.parametrize("optimizer", [SGD(1.0), Adam(0.1)])
def test_a_kink_ends_stalled(optimizer):
    solver = EnergySolver(lambda x, y: (y - x).abs().sum(1), Backtracking(optimizer), halting=Never(), max_steps=300)
    solution = solver.minimize(torch.zeros(2, 1), torch.tensor([[1.0], [0.3]]))
    assert (solution.status == Status.STALLED).all()
    assert (solution.energy < 0.2).all()


def test_a_step_size_of_zero_stalls():
    solver = EnergySolver(lambda x, y: (y - x).square().sum(1), Backtracking(SGD(0.0)), halting=Never())
    assert (solver.minimize(torch.zeros(2, 1), torch.ones(2, 1)).status == Status.STALLED).all()


@pytest.mark.parametrize("optimizer", INNER, ids=lambda optimizer: type(optimizer).__name__)
def test_the_contract_of_optimizers(optimizer):
    check_optimizer(Backtracking(optimizer))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Backtracking(LBFGS()), "LBFGS chooses its steps itself. Write LBFGS"),
        (lambda: Backtracking(Backtracking(SGD(1.0))), "Backtracking chooses its steps itself"),
        (lambda: Backtracking(SGD), "Backtracking needs an inner optimizer"),
        (lambda: Projected(LBFGS(), Box(0.0)), r"Write Backtracking\(Projected\(SGD\(1.0\), projection\)\)"),
        (lambda: Projected(Backtracking(SGD(1.0)), Box(0.0)), r"Write Backtracking\(Projected"),
    ],
)
@pytest.mark.usefixtures("no_type_checks")
def test_what_cannot_be_nested(make, words):
    with pytest.raises(TypeError, match=words):
        make()
