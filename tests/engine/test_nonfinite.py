"""A sample whose energy turns NaN or infinite harms no other, keeps its last finite answer, gives no NaN gradient."""

import warnings

import pytest
import torch

from energysolve import (
    SGD,
    Adam,
    BestSoFar,
    Dense,
    Detached,
    Energy,
    EnergyChange,
    EnergySolver,
    GradientNorm,
    Implicit,
    Momentum,
    Never,
    RMSProp,
    Segment,
    Status,
    Trajectory,
    Truncated,
    Unroll,
)
from energysolve.differentiation import DifferentiationWarning

BAD, STEP = 2, 3


class Wall(Energy):
    """A bowl that descends at unit speed in sample ``BAD``, into a wall where its energy is ``value``."""

    def __init__(self, value: float):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64))
        self.value = value

    def evaluate(self, context, y):
        energy = (self.weight * (y - context["target"]).square()).sum(-1)
        # Behind the wall neither the energy nor any of its derivatives is finite.
        return energy * torch.where(y[:, 0] > context["wall"], self.value, 1.0)


def problem():
    generator = torch.Generator().manual_seed(1)
    target = torch.randn(5, 3, generator=generator, dtype=torch.float64).abs() + 1
    return {"target": target, "wall": torch.full((5,), torch.inf, dtype=torch.float64)}, torch.zeros_like(target)


def solve(energy, x, y, mode, optimizer, halting, **parts):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DifferentiationWarning)
        return EnergySolver(
            energy, optimizer, halting=halting, differentiation=mode, max_steps=parts.pop("max_steps", 12), **parts
        ).minimize(x, y)


@pytest.mark.parametrize("value", [torch.nan, torch.inf], ids=["nan", "inf"])
@pytest.mark.parametrize("halting", [Never(), EnergyChange(rtol=1e-2), GradientNorm(0.5)], ids=repr)
@pytest.mark.parametrize("optimizer", [SGD(0.05), Momentum(0.02), Adam(0.1), RMSProp(0.05)], ids=repr)
@pytest.mark.parametrize(
    "mode", [Detached(), Unroll(), Truncated(1), Truncated(4), Truncated(50), Implicit()], ids=repr
)
def test_one_bad_sample(mode, optimizer, halting, value):
    if mode == Implicit() and halting == Never():
        pytest.skip("contradictory, an error of its own")
    x, y = problem()
    energy = Wall(value)
    fine = solve(energy, x, y, mode, optimizer, halting)
    path = solve(energy, x, y, Detached(), optimizer, Never(), recorder=Trajectory()).record.y
    # A wall between the answers at iterates STEP - 1 and STEP of the bad sample.
    x["wall"][BAD] = (path[STEP - 1][BAD, 0] + path[STEP][BAD, 0]) / 2
    hurt = solve(energy, x, y, mode, optimizer, halting)

    others = torch.arange(5) != BAD
    assert hurt.status[BAD] == Status.NONFINITE
    assert hurt.steps[BAD] == STEP - 1
    torch.testing.assert_close(hurt.y[BAD].detach(), path[STEP - 1][BAD], rtol=1e-14, atol=0)
    for found, expected in zip(
        (hurt.y, hurt.energy, hurt.steps, hurt.status), (fine.y, fine.energy, fine.steps, fine.status), strict=True
    ):
        assert torch.equal(found[others], expected[others])
    if mode != Detached():
        gradient, only_bad = (
            torch.autograd.grad(part.sum(), energy.weight, retain_graph=True)[0] for part in (hurt.y, hurt.y[BAD])
        )
        expected = torch.autograd.grad(fine.y[others].sum(), energy.weight)[0]
        torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)
        assert (only_bad == 0).all()


@pytest.mark.parametrize("mode", [Unroll(), Truncated(1), Truncated(4), Implicit()], ids=repr)
@pytest.mark.parametrize("where", ["x", "y"])
def test_a_problem_that_is_nan_from_the_start(mode, where):
    x, y = problem()
    expected = solve(energy := Wall(torch.nan), x, y, mode, SGD(0.05), GradientNorm(0.5))
    others = torch.arange(5) != BAD
    wanted = torch.autograd.grad(expected.y[others].sum(), energy.weight)[0]
    (x["target"] if where == "x" else y)[BAD, 1] = torch.nan
    found = solve(energy, x, y, mode, SGD(0.05), GradientNorm(0.5))
    assert found.status[BAD] == Status.NONFINITE
    assert found.steps[BAD] == 0
    assert torch.equal(found.y[others], expected.y[others])
    torch.testing.assert_close(torch.autograd.grad(found.y.nansum(), energy.weight)[0], wanted)


@pytest.mark.parametrize("mode", [Unroll(), Truncated(1), Implicit()], ids=repr)
def test_a_batch_of_nothing_but_bad_samples_gives_zero_gradients(mode):
    x, y = problem()
    x["target"].fill_(torch.nan)
    found = solve(energy := Wall(torch.nan), x, y, mode, SGD(0.05), GradientNorm(0.5))
    found.y.sum().backward()
    assert (energy.weight.grad == 0).all()


@pytest.mark.parametrize("mode", [Unroll(), Truncated(1), Truncated(3), Implicit()], ids=repr)
def test_no_steps_no_gradient(mode):
    x, y = problem()
    energy = Wall(torch.nan)
    found = solve(energy, x, y, mode, SGD(0.05), GradientNorm(1e6))
    assert (found.steps == 0).all()
    found.y.sum().backward()
    assert (energy.weight.grad == 0).all()
    none = solve(energy, x, y, mode, SGD(0.05), GradientNorm(0.5), max_steps=0)
    assert torch.equal(none.y.detach(), y)


@pytest.mark.parametrize("mode", [Unroll(), Truncated(1), Truncated(4)], ids=repr)
@pytest.mark.parametrize("optimizer", [SGD(0.05), Momentum(0.05), Adam(0.05), RMSProp(0.05)], ids=repr)
def test_a_sample_that_starts_where_the_second_derivative_is_infinite(mode, optimizer):
    """``|y|^1.5`` has a finite gradient at 0 and no second derivative; the sample halts there at once."""
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)

    def energy(x, y):
        return weight * ((y - x).abs() ** 1.5).sum(-1)

    x = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    y = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    found = solve(energy, x, y, mode, optimizer, GradientNorm(0.2))
    assert found.steps[0] == 0
    gradient = torch.autograd.grad(found.y.sum(), weight)[0]
    assert gradient.isfinite()


@pytest.mark.parametrize("optimizer", [SGD(0.05), Momentum(0.05), Adam(0.05), RMSProp(0.05)], ids=repr)
@pytest.mark.parametrize("mode", [Unroll(), Truncated(2)], ids=repr)
def test_a_gradient_that_is_always_zero_in_one_entry(mode, optimizer):
    weight = torch.ones((), dtype=torch.float32, requires_grad=True)
    solver = EnergySolver(
        lambda x, y: weight * (x[:, 0] - y[:, 0]).square() + (0 * weight) * y[:, 1],
        optimizer,
        halting=Never(),
        max_steps=5,
        differentiation=mode,
    )
    found = solver.minimize(torch.ones(3, 2), torch.zeros(3, 2))
    assert torch.autograd.grad(found.y.sum(), weight)[0].isfinite()


@pytest.mark.parametrize("mode", [Unroll(), Truncated(1), Implicit()], ids=repr)
def test_a_bad_graph_among_segments(mode):
    index = torch.tensor([0, 1, 0, 2, 1, 2])
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    layout = lambda x: Segment(x["index"], 3)  # noqa: E731

    def energy(x, y):
        shifted = weight * (y - x["target"]).square()
        return layout(x).sum(shifted * torch.where(y > x["wall"], torch.nan, 1.0))

    x = {"index": index, "target": torch.ones(6, 1, dtype=torch.float64), "wall": torch.full((6, 1), torch.inf)}
    x["wall"][1] = 0.3
    found = solve(
        energy,
        x,
        torch.zeros(6, 1, dtype=torch.float64),
        mode,
        SGD(0.1),
        GradientNorm(1e-3),
        max_steps=80,
        layout=layout,
        recorder=BestSoFar(),
    )
    assert found.status.tolist() == [Status.CONVERGED, Status.NONFINITE, Status.CONVERGED]
    assert torch.autograd.grad(found.y.sum(), weight)[0].isfinite()


@pytest.mark.parametrize("mode", [Unroll(), Truncated(2), Implicit()], ids=repr)
def test_problems_may_share_a_tensor_as_large_as_the_batch(mode):
    """Nothing may be picked from a shared matrix by the index of a sample."""
    weight = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64, requires_grad=True)

    def energy(x, y):
        return ((y @ x["shared"] - weight * x["own"]).square()).sum(-1)

    shared = torch.tensor([[2.0, 0.3, 0.0], [0.1, 1.0, 0.2], [0.0, -0.4, 1.5]], dtype=torch.float64)
    own = torch.tensor([[0.0, 0.0, 0.0], [1.0, -1.0, 2.0], [0.5, 0.2, 1.0]], dtype=torch.float64)
    y = torch.zeros(3, 3, dtype=torch.float64)

    def gradient(samples):
        x = {"own": own[samples], "shared": shared}
        found = solve(energy, x, y[samples], mode, SGD(0.1), GradientNorm(1e-6), max_steps=500)
        return found, torch.autograd.grad(found.y.square().sum(), weight)[0]

    together, found = gradient(slice(None))
    assert together.steps[0] == 0  # it begins at its minimum, and must not take part
    torch.testing.assert_close(found, gradient(slice(1, None))[1])


@pytest.mark.parametrize("layout", [Dense(3), Segment(torch.arange(3), 3)], ids=["dense", "segment"])
def test_an_initial_point_without_a_finite_energy_gets_no_gradient(layout):
    """Its entries are finite, so under a segment layout nothing takes its place."""
    x = torch.tensor([[1.0], [-1.0], [2.0]], requires_grad=True)
    y = torch.full((3, 2), 0.5, requires_grad=True)
    solver = EnergySolver(
        lambda x, y: layout.sum((y - 1).square()) * x.squeeze(1).sqrt(),
        SGD(0.1),
        halting=Never(),
        differentiation=Unroll(),
        layout=lambda x: layout,
        max_steps=3,
    )
    solution = solver.minimize(x, y)
    assert solution.status.tolist() == [Status.MAX_STEPS, Status.NONFINITE, Status.MAX_STEPS]
    solution.y.sum().backward()
    assert y.grad.isfinite().all()
    assert (y.grad[1] == 0).all()
    assert (y.grad[[0, 2]] != 0).all()


@pytest.mark.parametrize("mode", [Truncated(2), Unroll(), Implicit()], ids=repr)
def test_backward_runs_where_nothing_requires_a_gradient(mode):
    """As for other samples: training code need not ask whether a batch had a valid sample."""
    solver = EnergySolver(
        lambda x, y: (x * y.sqrt()).sum(-1), SGD(1.0), halting=GradientNorm(1e-9), differentiation=mode
    )
    solution = solver.minimize(torch.ones(2, 1), -torch.ones(2, 1))
    assert (solution.status == Status.NONFINITE).all()
    solution.y.sum().backward()
