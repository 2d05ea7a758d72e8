"""What the page shows is right: descents, evaluations, gradients, planes, energies on them, and the limits of time."""

import math
import time

import pytest
import torch

from energysolve import LBFGS, SGD, EnergySolver, FromInput, Momentum, Never, Normal, Status, Uniform, Zeros
from energysolve.energies.analytic import Himmelblau, Rosenbrock
from energysolve.explore import Session, Settings, energy_subject, session, solver_subject
from energysolve.explore.session import fitted
from energysolve.explore.settings import OWN, Method

PLANE = Settings(plane=(1, 2))
WEIGHTS = torch.tensor([1.0, 2.0, 3.0, 5.0, 8.0], dtype=torch.float64)


def bowl(x, y):
    """With minimum at x: after k steps of size s, the offset of element i is (1 - s w_i)^k of the first one."""
    return (WEIGHTS[: y.shape[1]] * (y - x).square()).sum(-1) / 2


def test_fixed_steps_are_those_of_the_closed_form():
    settings = Settings(plane=(1, 2), start=(4.0, -2.0), criterion="GradientNorm", tolerance=0.5)
    trace = Session(energy_subject("bowl", bowl, (2,))).trace(settings, Method("SGD", 0.25))
    offsets = torch.tensor([4.0, -2.0]).double() * (1 - 0.25 * WEIGHTS[:2]) ** torch.arange(len(trace.points))[:, None]
    torch.testing.assert_close(trace.points, offsets)
    torch.testing.assert_close(trace.energy, (WEIGHTS[:2] * offsets.square()).sum(1) / 2)
    slopes = (WEIGHTS[:2] * offsets).norm(dim=1)
    torch.testing.assert_close(trace.slope, slopes)
    assert (slopes[:-1] > 0.5).all()
    assert slopes[-1] <= 0.5
    assert trace.evaluations.tolist() == [*range(1, len(slopes) + 1)]
    assert (trace.status, trace.total, trace.late) == (Status.CONVERGED, len(slopes), False)
    assert trace.label == "SGD, step 0.25"
    assert [trace.reached(k) for k in (0, 1, 3, 10**6)] == [0, 0, 2, len(slopes) - 1]


def test_refused_trials_count_as_evaluations():
    """Each evaluation of a search is a call of the energy: the point that it found is the argument of that call."""
    calls = []

    def energy(x, y):
        calls.append(y.detach().clone())
        return Rosenbrock()(x, y)

    explored = Session(energy_subject("rosenbrock", energy, (2,)))
    explored.plane(PLANE)
    calls.clear()
    trace = explored.trace(Settings(plane=(1, 2), start=(-1.2, 1.0)), Method("LBFGS", 0.0))
    assert trace.total > len(trace.points)
    for point, evaluations in zip(trace.points, trace.evaluations.tolist(), strict=True):
        assert torch.equal(calls[evaluations - 1][0], point)
    y = trace.points.clone().requires_grad_()
    values = Rosenbrock()(torch.zeros_like(y), y)
    torch.testing.assert_close(trace.energy, values.detach())
    torch.testing.assert_close(trace.slope, torch.autograd.grad(values.sum(), y)[0].norm(dim=1))


def test_the_grid_holds_the_energies_of_its_points():
    explored = Session(energy_subject("himmelblau", Himmelblau(), (2,)))
    grid = explored.grid(Settings(plane=(1, 2), view=(-5.0, 5.0, -4.0, 4.0)))
    a, b = grid.first[3], grid.second[7]
    assert float(grid.energy[7, 3]) == pytest.approx(float((a * a + b - 11) ** 2 + (a + b * b - 7) ** 2))
    assert (grid.first[0], grid.first[-1], grid.second[0], grid.second[-1]) == (-5, 5, -4, 4)
    left, right, bottom, top = explored.view(PLANE)
    for first, second in Himmelblau.minima:
        assert left < first < right
        assert bottom < second < top


@pytest.mark.parametrize("elements", [None, (2, 4)])
def test_in_many_dimensions_the_plane_goes_through_the_answer(elements):
    problems = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    explored = Session(energy_subject("bowl", bowl, (5,), problems), 1)
    settings = Settings(problem=1, plane=elements, view=(-1.0, 2.0, -1.0, 1.5), start=(0.5, 0.75), tolerance=1e-9)
    axes = explored.plane(settings).axes
    torch.testing.assert_close(axes.directions @ axes.directions.mT, torch.eye(2).double())
    grid = explored.grid(settings)
    point = axes.zero + grid.first[5] * axes.directions[0] + grid.second[9] * axes.directions[1]
    assert float(grid.energy[9, 5]) == pytest.approx(float(bowl(problems[1:2], point[None])))
    trace = explored.trace(settings, Method("NewtonCG", 0.0))
    torch.testing.assert_close(trace.points[0], torch.tensor([0.5, 0.75]).double())
    assert float(trace.off[0]) < 1e-6
    expected = problems[1, [1, 3]] if elements else torch.zeros(2).double()
    torch.testing.assert_close(trace.points[-1], expected, atol=1e-6, rtol=0)


def test_off_is_the_distance_from_the_plane():
    problems = torch.zeros(1, 3, dtype=torch.float64)
    explored = Session(energy_subject("bowl", bowl, (3,), problems))
    trace = explored.trace(Settings(plane=(1, 2)), Method("SGD", 0.1))
    first = explored.plane(Settings(plane=(1, 2))).reference.iterates()[0]
    assert float(trace.off[0]) == pytest.approx(abs(float(first[2])), rel=1e-6)


@pytest.mark.parametrize("steps", [0, 1])
def test_a_short_descent_has_a_plane_too(steps):
    subject = energy_subject("bowl", bowl, (4,))
    subject.solver.max_steps = steps
    axes = Session(subject).plane(Settings()).axes
    torch.testing.assert_close(axes.directions @ axes.directions.mT, torch.eye(2).double())
    iterates = Session(subject).plane(Settings()).reference.iterates()
    assert len(iterates) == steps + 1
    assert bool((axes.coordinates(iterates[:1])[0, 0] > 0) == bool(steps))


@pytest.mark.parametrize("name", ["completion", "edge-copy"])
def test_energies_of_many_answers_are_those_of_the_descent(name):
    """Scratchpads belong to their iterates, and the rows of graphs to theirs."""
    explored = Session(solver_subject(name, EnergySolver.from_pretrained(name)), 5)
    settings = Settings(problem=5, criterion=OWN, max_steps=20)
    trace = explored.trace(settings, Method(OWN, 0.0))
    record = explored.plane(settings).reference.solution.record
    known = torch.cat(record.energy[: len(trace.energy)]).double()
    torch.testing.assert_close(trace.energy, known)
    pads = None if record.z[0] is None else torch.cat(record.z[: len(trace.energy)])
    iterates = explored.plane(settings).reference.iterates()[: len(trace.energy)]
    again, _ = explored._evaluated(explored.plane(settings), iterates, None if pads is None else pads)
    torch.testing.assert_close(again, known, rtol=1e-4, atol=1e-5)
    assert trace.label.endswith("as saved")


def test_each_iterate_is_seen_with_its_own_scratchpad():
    def energy(x, y, z):
        return (y - z).square().sum(-1) + (z - 1).square().sum(-1)

    solver = EnergySolver(energy, SGD(0.1), init=Zeros((2,)), scratchpad=Normal((2,)), halting=Never(), max_steps=4)
    explored = Session(solver_subject("pad", solver, problems=torch.zeros(1, 1)))
    trace = explored.trace(Settings(plane=(1, 2), criterion=OWN, max_steps=4), Method(OWN, 0.0))
    y, z = torch.zeros(1, 2).double(), explored.plane(PLANE).reference.solution.record.z[0]
    slopes = []
    for _ in range(5):
        by_y, by_z = 2 * (y - z), 2 * (z - y) + 2 * (z - 1)
        slopes.append(torch.cat((by_y, by_z)).norm())
        y, z = y - 0.1 * by_y, z - 0.1 * by_z
    torch.testing.assert_close(trace.slope, torch.stack(slopes))


def test_each_seed_is_another_problem_and_always_the_same():
    explored = Session(solver_subject("addition", EnergySolver.from_pretrained("addition")))
    planes = [explored.plane(Settings(problem=number)) for number in (0, 1)]
    again = Session(solver_subject("addition", EnergySolver.from_pretrained("addition"))).plane(Settings(problem=1))
    assert not torch.equal(planes[0].reference.x, planes[1].reference.x)
    assert torch.equal(planes[1].reference.x, again.reference.x)
    assert torch.equal(planes[1].reference.iterates(), again.reference.iterates())
    assert planes[0].target is not None
    assert float(planes[0].target.norm()) < 0.05  # the answer is right


def test_a_slow_energy_is_stopped_and_gets_a_coarse_landscape(monkeypatch):
    monkeypatch.setattr(session, "SECONDS", 0.05)
    monkeypatch.setattr(session, "_GRID_SECONDS", 0.0)

    def slow(x, y):
        time.sleep(0.01)
        return bowl(x, y)

    explored = Session(energy_subject("slow", slow, (2,)))
    trace = explored.trace(Settings(plane=(1, 2), criterion="Never", max_steps=2000), Method("SGD", 1e-3))
    assert trace.late
    assert len(trace.points) < 20
    assert explored.grid(PLANE).energy.shape == (15, 15)


def test_samples_outside_the_domain_end_as_not_finite():
    explored = Session(energy_subject("log", lambda x, y: y[:, 0] - y[:, 0].log() + y[:, 1].square(), (2,)))
    trace = explored.trace(Settings(plane=(1, 2), start=(-1.0, 0.0)), Method("SGD", 0.1))
    assert trace.status == Status.NONFINITE
    assert len(trace.points) == 1
    trace = explored.trace(Settings(plane=(1, 2), start=(4.0, 0.0)), Method("SGD", 6.0))
    assert trace.status == Status.NONFINITE  # the first step leads to 4 - 6 (1 - 1/4) < 0
    assert (trace.evaluations.tolist(), trace.total) == ([1], 2)


def test_the_subject_knows_start_precision_and_problems():
    trace = Session(energy_subject("r", Rosenbrock(), (2,))).trace(PLANE, Method("SGD", 0.0))
    assert trace.points[0].tolist() == [-1.2, 1]
    subject = energy_subject("l", torch.nn.Bilinear(2, 2, 1), (2,))
    assert subject.problem(0)[0].dtype == torch.float32
    free = EnergySolver(bowl, Momentum(0.1), init=Zeros((2,)), restarts=3, compact=True)
    with pytest.raises(ValueError, match="needs problems: give a file"):
        solver_subject("mine", free)
    with pytest.raises(ValueError, match="no initial answers: give the shape"):
        solver_subject("mine", EnergySolver(bowl), problems=torch.ones(2, 2))
    kept = solver_subject("mine", free, problems=torch.ones(2, 2))
    assert Session(kept).trace(PLANE, Method(OWN, 0.0)).label == "Momentum, as saved"
    assert kept.problem(1)[0].dtype == torch.float64
    shaped = solver_subject("mine", EnergySolver(bowl), (2,), torch.ones(2, 2))
    assert isinstance(shaped.solver.init, Uniform)
    with pytest.raises(ValueError, match="no problem 2"):
        Session(kept, 2)


def test_an_answer_that_is_a_tree_has_a_plane():
    def energy(x, y):
        return (y["a"] - 1).square().sum((1, 2)) + (y["b"] + x[:, 0]).square()

    start = FromInput(lambda x: {"a": torch.zeros(len(x), 2, 2).to(x), "b": torch.zeros(len(x)).to(x)})
    solver = EnergySolver(energy, LBFGS(), init=start)
    explored = Session(solver_subject("tree", solver, problems=torch.full((1, 1), 3.0)))
    assert explored.size() == 5
    trace = explored.trace(Settings(plane=(1, 5), start=(5.0, 5.0)), Method("LBFGS", 0.0))
    torch.testing.assert_close(trace.points[-1], torch.tensor([1.0, -3.0]).double(), atol=1e-5, rtol=0)


def test_the_view_ignores_what_is_far_or_not_finite():
    points = torch.tensor([[0.0, 0.0], [4.0, 2.0], [1e9, 0.0], [math.nan, 1.0], [math.inf, 0.0]])
    assert fitted(points, margin=0.25) == (-1.0, 5.0, -0.5, 2.5)
    assert fitted(points[2:]) == (-0.75, 0.75, -0.75, 0.75)
    assert fitted(torch.tensor([[3.0, 3.0]])) == (2.25, 3.75, 2.25, 3.75)
