"""An optimizer of the user's own that evaluates the energy itself: BFGS with a backtracking line search.

The hard starts are those of jaxopt's and SciPy's tests of (L-)BFGS; the method is Nocedal and Wright, Numerical
Optimization, Algorithms 3.1 and 6.1.
"""

from dataclasses import dataclass

import pytest
import torch

from energysolve import Detached, EnergySolver, GradientNorm, TargetEnergy, Truncated, Unroll
from energysolve.energies import Rosenbrock
from energysolve.optimizers import InnerOptimizer
from energysolve.testing.problems import problems

PROBLEMS = {problem.name: problem for problem in problems()}


def dot(a, b):
    return (a * b).sum(-1, keepdim=True)


@dataclass(frozen=True)
class BFGS(InnerOptimizer):
    """For answers ``(batch, n)``; its state is one inverse Hessian for each sample, ``(batch, n, n)``."""

    halvings: int = 40

    def init(self, free):
        (y,) = free
        return torch.eye(y.shape[1], dtype=y.dtype).repeat(len(y), 1, 1)

    def step(self, at, state, evaluate):
        (y,), (gradient,) = at.free, at.gradient
        direction = -(state * gradient.unsqueeze(1)).sum(-1)
        length = self.search(at, direction, evaluate)
        moved = y + length * direction
        change = moved - y
        turn = evaluate((moved,)).gradient[0] - gradient
        return (moved,), self.update(state, change, turn)

    def search(self, at, direction, evaluate):
        """The first of 1, 1/2, 1/4, ... that satisfies Armijo's condition, for each sample on its own."""
        slope = dot(at.gradient[0], direction)
        length, found = torch.ones_like(slope), torch.zeros_like(slope, dtype=torch.bool)
        for _ in range(self.halvings):
            energy = evaluate((at.free[0] + length * direction,)).energy.unsqueeze(1)
            found = found | (energy <= at.energy.unsqueeze(1) + 1e-4 * length * slope)
            if found.all():
                break
            length = torch.where(found, length, length / 2)
        return length

    def update(self, inverse, change, turn):
        curvature = dot(change, turn)
        safe = curvature > 1e-14 * dot(change, change).sqrt() * dot(turn, turn).sqrt()
        ratio = torch.where(safe, 1 / torch.where(safe, curvature, torch.ones_like(curvature)), 0)
        image = (inverse * turn.unsqueeze(1)).sum(-1)
        cross = change.unsqueeze(2) * image.unsqueeze(1)
        scale = (ratio + ratio.square() * dot(turn, image)).unsqueeze(2)
        outer = change.unsqueeze(2) * change.unsqueeze(1)
        return inverse + scale * outer - ratio.unsqueeze(2) * (cross + cross.mT)


def solver(energy, **options):
    return EnergySolver(energy, BFGS(), **({"halting": GradientNorm(1e-8), "max_steps": 300} | options))


HARD = (
    "rosenbrock",
    "rosenbrock-8",
    "beale",
    "himmelblau",
    "wood",
    "helical-valley",
    "powell-singular",
    "variably-dimensioned",
)


@pytest.mark.parametrize("name", HARD)
def test_hard_standard_starts(name):
    problem = PROBLEMS[name]
    solution = solver(problem.energy).minimize(problem.x, problem.y0)
    assert solution.converged.all()
    assert problem.distance(solution.y).item() < (1e-2 if name == "powell-singular" else 1e-6)


def test_a_badly_scaled_problem():
    problem = PROBLEMS["brown-badly-scaled"]
    solution = solver(problem.energy, halting=TargetEnergy(1e-10)).minimize(problem.x, problem.y0)
    assert solution.converged.all()
    torch.testing.assert_close(solution.y, problem.minima[0], rtol=1e-4, atol=0)


STARTS = [[-1.2, 1.0], [3.0, -2.0], [0.0, 0.0], [-5.0, 8.0], [1.0, 1.0]]


def test_every_sample_has_its_own_step_lengths():
    y = torch.tensor(STARTS, dtype=torch.float64)
    x = torch.zeros_like(y)
    together = solver(Rosenbrock()).minimize(x, y)
    assert together.converged.all()
    assert len(together.steps.unique()) >= 4
    for i in range(len(y)):
        alone = solver(Rosenbrock()).minimize(x[i : i + 1], y[i : i + 1])
        assert torch.equal(alone.steps, together.steps[i : i + 1])
        assert torch.equal(alone.y, together.y[i : i + 1])
    torch.testing.assert_close(together.y, torch.ones_like(y), rtol=0, atol=1e-7)


def test_values_do_not_depend_on_the_differentiation():
    y = torch.tensor(STARTS, dtype=torch.float64)
    x = torch.zeros_like(y, requires_grad=True)
    plain = solver(Rosenbrock(), differentiation=Detached(), max_steps=40).minimize(x.detach(), y)
    for mode in (Truncated(2), Unroll()):
        solution = solver(Rosenbrock(), differentiation=mode, max_steps=40).minimize(x, y)
        assert torch.equal(solution.y.detach(), plain.y)
        (gradient,) = torch.autograd.grad(solution.y.sum(), x)
        assert gradient.isfinite().all()
