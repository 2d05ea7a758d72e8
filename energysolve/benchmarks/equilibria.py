"""Equilibria ``y = m(x, y)``: `FixedPoint` and other optimizers against the solvers of TorchDEQ."""

import importlib
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..energy import LeastSquares
from ..halting import TargetEnergy
from ..optimizers import LBFGS, FixedPoint, InnerOptimizer
from ..seeding import stream
from ..solver import EnergySolver
from .peers import LIMIT, Answers
from .timing import alternating, ratio

SIZE = 50
NORMS = (0.9, 2.0)
"""Of the weights; the map contracts where the norm is below 1."""
SOLVED = 1e-6
"""An answer is counted as solved where the norm of ``y - m(x, y)`` is at most this."""
THEIRS = ("fixed_point_iter", "anderson", "broyden")


class Equilibria(NamedTuple):
    """A batch of problems in float64: ``y = tanh(W y + x)``.

    Attributes:
        name: in words.
        weights: ``(n, n)``, shared by all problems.
        x: ``(batch, n)``.
    """

    name: str
    weights: Tensor
    x: Tensor

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        """``m(x, y)``."""
        return torch.tanh(y @ self.weights.T + x)

    def residuals(self, x: Tensor, y: Tensor) -> Tensor:
        """``y - m(x, y)``."""
        return y - self.step(x, y)


def equilibria(count: int, seed: int, size: int = SIZE) -> list[Equilibria]:
    """Problems with weights of each of the `NORMS`."""
    generator = stream("bench equilibria", seed, "cpu")
    weights = torch.randn(size, size, generator=generator, dtype=torch.float64)
    weights = weights / torch.linalg.matrix_norm(weights, 2)
    x = torch.randn(count, size, generator=generator, dtype=torch.float64)
    return [Equilibria(f"equilibria, weights of norm {norm:g}", norm * weights, x) for norm in NORMS]


def measure_equilibria(problems: Equilibria, rounds: int) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of the table for these problems, and what was skipped."""
    functions: dict[str, Callable[[], Answers]] = {
        "LBFGS": partial(_solve, problems, LBFGS()),
        "FixedPoint": partial(_solve, problems, FixedPoint()),
    }
    skipped = []
    try:
        solvers = importlib.import_module("torchdeq.solver")
    except ImportError:
        skipped = ["TorchDEQ: not installed"]
    else:
        functions |= {f"TorchDEQ {name}": partial(_torchdeq, solvers.get_solver(name), problems) for name in THEIRS}
    times = alternating(functions, rounds)
    return [
        _row(problems, name, function(), times[name], ratio(times[name], times["LBFGS"])["ratio"])
        for name, function in functions.items()
    ], skipped


def _solve(problems: Equilibria, optimizer: InnerOptimizer) -> Answers:
    halting = TargetEnergy(SOLVED**2 / 2)
    solver = EnergySolver(LeastSquares(problems.residuals), optimizer, halting=halting, max_steps=LIMIT)
    solution = solver.minimize(problems.x, torch.zeros_like(problems.x))
    assert solution.evaluations is not None
    return Answers(solution.y, solution.evaluations.double().mean().item())


def _torchdeq(solver: Callable[..., Any], problems: Equilibria) -> Answers:
    """Its solvers stop where the residual of every sample is small, and keep the best iterate of each."""
    evaluations = 0

    def step(y: Tensor) -> Tensor:
        nonlocal evaluations
        evaluations += 1
        return problems.step(problems.x, y)

    with torch.no_grad():
        found, _, _ = solver(step, torch.zeros_like(problems.x), max_iter=LIMIT, tol=SOLVED, stop_mode="abs")
    return Answers(found.detach(), float(evaluations))


def _row(problems: Equilibria, name: str, answers: Answers, seconds: list[float], over: float) -> dict[str, Any]:
    with torch.no_grad():
        residual = problems.residuals(problems.x, answers.y).norm(dim=1)
    count, size = problems.x.shape
    return {
        "problems": f"{count:,} {problems.name}, {size:,} variables",
        "method": name,
        "solved": (residual <= SOLVED).double().mean().item(),
        "evaluations": answers.evaluations,
        "seconds": statistics.median(seconds),
        "over_lbfgs": over,
    }
