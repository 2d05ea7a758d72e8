"""The problems of Moré, Garbow and Hillstrom: which optimizer ends where, after how many evaluations."""

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..energies.more_garbow_hillstrom import SumOfSquares
from ..halting import GradientNorm
from ..optimizers import InnerOptimizer
from ..solver import EnergySolver

FACTORS = (1, 10, 100)
RTOL, LIMIT = 1e-5, 3000


@dataclass(frozen=True)
class Case:
    """One optimizer on one problem from one start.

    Attributes:
        problem: its name.
        factor: of the standard start.
        energy: at the answer.
        gradient: its norm there, over that at the start.
        evaluations: of the energy.
        solved: whether the answer is stationary to `RTOL`, or its energy the lowest known to 1e-8.
    """

    problem: str
    factor: float
    energy: float
    gradient: float
    evaluations: int
    solved: bool

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


def solve_collection(problems: Sequence[SumOfSquares], optimizer: InnerOptimizer) -> list[Case]:
    """Each problem from all starts in one batch; halts where the gradient is `RTOL` times that at the start."""
    cases = []
    for problem in problems:
        y0 = problem.starts(FACTORS)
        solver = EnergySolver(problem.energy, optimizer, halting=GradientNorm(rtol=RTOL), max_steps=LIMIT)
        solution = solver.minimize(y0, y0)
        assert solution.evaluations is not None
        for row, factor in enumerate(FACTORS):
            evaluations = int(solution.evaluations[row])
            cases.append(_case(problem, factor, solution.y[row : row + 1], evaluations))
    return cases


def scipy_collection(problems: Sequence[SumOfSquares], run: "Callable[[Counted, Any], Any]") -> list[Case]:
    """Each problem from each start by ``run``, which is stopped by the same criterion."""
    cases = []
    for problem in problems:
        for factor, start in zip(FACTORS, problem.starts(FACTORS), strict=True):
            counted = Counted(problem, start)
            try:
                y = run(counted, start.numpy()) if counted.allowed < counted.initial else start.numpy()
            except Reached as reached:
                y = reached.args[0]
            except ValueError:  # SciPy's, where residuals are not finite
                y = start.numpy()
            cases.append(_case(problem, factor, torch.as_tensor(np.array(y)).unsqueeze(0), max(counted.evaluations, 1)))
    return cases


class Reached(Exception):  # noqa: N818  (no error)
    """Raised with the iterate that fulfils the criterion."""


class Counted:
    """A problem as SciPy sees it, which counts evaluations."""

    def __init__(self, problem: SumOfSquares, start: Tensor):
        self.problem = problem
        self.evaluations = 0
        self.initial = _energy_and_gradient(problem, start.unsqueeze(0))[1].norm().item()
        self.allowed = RTOL * self.initial
        self._gradients: dict[bytes, Any] = {}

    def energy(self, v: Any) -> tuple[float, Any]:
        """Energy and gradient."""
        self.evaluations += 1
        energy, gradient = _energy_and_gradient(self.problem, torch.tensor(v[None]))
        self._gradients = {v.tobytes(): gradient.norm().item()} | dict(list(self._gradients.items())[:30])
        return energy.item(), gradient[0].numpy().copy()

    def residuals(self, v: Any) -> Any:
        """The residuals."""
        self.evaluations += 1
        return self.problem.residuals(torch.tensor(v[None]))[0].numpy()

    def jacobian(self, v: Any) -> Any:
        """The Jacobian, which MINPACK asks for at every iterate."""
        y = torch.tensor(v)
        jacobian = torch.func.jacrev(lambda y: self.problem.residuals(y.unsqueeze(0))[0])(y)
        residuals = self.problem.residuals(y.unsqueeze(0))[0]
        if (residuals @ jacobian).norm() <= self.allowed:  # pyright: ignore
            raise Reached(v.copy())
        return jacobian.numpy()  # pyright: ignore

    def iterate(self, v: Any) -> None:
        """Raises `Reached` where the criterion is fulfilled."""
        if self._gradients.get(v.tobytes(), math.inf) <= self.allowed:
            raise Reached(v.copy())


def lbfgsb(counted: Counted, start: Any) -> Any:
    """SciPy's L-BFGS-B, without criteria of its own."""
    options = {"ftol": 0, "gtol": 0, "maxfun": LIMIT, "maxiter": LIMIT}
    minimize = importlib.import_module("scipy.optimize").minimize
    return minimize(
        counted.energy, start, jac=True, method="L-BFGS-B", callback=lambda xk: counted.iterate(xk), options=options
    ).x


def minpack(counted: Counted, start: Any) -> Any:
    """SciPy's Levenberg-Marquardt, with criteria that only rounding fulfils."""
    options = {"ftol": 3e-16, "gtol": 3e-16, "xtol": 3e-16, "max_nfev": LIMIT}
    least_squares = importlib.import_module("scipy.optimize").least_squares
    return least_squares(counted.residuals, start, counted.jacobian, method="lm", **options).x


def compared(ours: Sequence[Case], theirs: Sequence[Case]) -> Mapping[str, Any]:
    """How many cases each solves, and the geometric mean of the ratio of evaluations where both do."""
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=True) if a.solved and b.solved]
    logs = [math.log(a.evaluations / b.evaluations) for a, b in pairs]
    ratio = math.exp(sum(logs) / len(logs)) if logs else math.nan
    return {
        "cases": len(ours),
        "solved": sum(case.solved for case in ours),
        "solved_by_reference": sum(case.solved for case in theirs),
        "solved_by_both": len(pairs),
        "evaluations_over_reference": ratio,
        "worst_ratio": math.exp(max(logs)) if logs else math.nan,
        "unsolved": [case.to_json() for case in ours if not case.solved],
    }


def _case(problem: SumOfSquares, factor: float, y: Tensor, evaluations: int) -> Case:
    energy, gradient = _energy_and_gradient(problem, y)
    initial = _energy_and_gradient(problem, problem.starts((factor,)))[1].norm()
    stationary = gradient.norm() <= RTOL * initial
    lowest = energy - problem.minimum <= 1e-8 * problem.minimum + 1e-24
    relative = (gradient.norm() / initial).item() if initial > 0 else 0.0
    return Case(problem.name, factor, energy.item(), relative, evaluations, bool(stationary | lowest))


def _energy_and_gradient(problem: SumOfSquares, y: Tensor) -> tuple[Tensor, Tensor]:
    y = y.detach().requires_grad_()
    energy = problem.energy(y, y).sum()
    return energy.detach(), torch.autograd.grad(energy, y)[0]
