"""Problems with known answers, for tests of optimizers, halting criteria and energies.

Examples:
    >>> for problem in problems():
    ...     solver = EnergySolver(problem.energy, MyOptimizer(), max_steps=1000)
    ...     assert problem.distance(solver.minimize(problem.x, problem.y0).y) < 1e-3
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..energies import analytic
from ..energies.convex import Bowl, Logistic, Quadratic, Ridge
from ..energy import Energy
from ..trees import detach, tree_leaves, tree_map


@dataclass(frozen=True, eq=False)
class Problem:
    """One problem, a batch of 1 in float64, with its answers.

    Attributes:
        name: unique among `problems`.
        energy: the energy.
        x: the problem.
        y0: the standard start.
        minima: the answers of lowest energy, each with the structure and shapes of ``y0``.
        minimum: the lowest energy.
        notes: the difficulty; empty for problems that plain gradient descent solves from ``y0``.

    Examples:
        >>> from energysolve import EnergySolver
        >>> from energysolve.testing import problems
        >>> problem = next(each for each in problems() if each.name == "beale")  # a `Problem`
        >>> problem.minima, problem.minimum
        ((tensor([[3.0000, 0.5000]], dtype=torch.float64),), 0.0)
        >>> bool(problem.distance(EnergySolver(problem.energy).minimize(problem.x, problem.y0).y) < 1e-4)
        True
    """

    name: str
    energy: Energy
    x: Any
    y0: Any
    minima: tuple[Any, ...]
    minimum: float
    notes: str = ""

    def distance(self, y: Any) -> Tensor:
        """``(batch,)``: the largest absolute difference of each answer from the nearest minimum."""
        return torch.stack([_largest(y, point) for point in self.minima]).amin(0)


def problems() -> tuple[Problem, ...]:
    """The test functions of `energysolve.energies.analytic` and convex problems, newly built at each call.

    Examples:
        >>> from energysolve import EnergySolver
        >>> from energysolve.testing import problems
        >>> for problem in problems():
        ...     if not problem.notes:  # those without a difficulty
        ...         found = EnergySolver(problem.energy).minimize(problem.x, problem.y0)
        ...         assert problem.distance(found.y) < 1e-3, problem.name
        >>> len(problems())
        20
    """
    return (*_classic(), *_convex())


def _classic() -> list[Problem]:
    chosen = (
        ("rosenbrock", analytic.Rosenbrock(), "a curved valley"),
        ("rosenbrock-8", analytic.Rosenbrock(8), "four curved valleys"),
        ("himmelblau", analytic.Himmelblau(), ""),
        ("beale", analytic.Beale(), ""),
        ("booth", analytic.Booth(), ""),
        ("matyas", analytic.Matyas(), ""),
        ("three-hump-camel", analytic.ThreeHumpCamel(), ""),
        ("powell-singular", analytic.PowellSingular(), "a singular Hessian at the minimum: no linear convergence"),
        ("wood", analytic.Wood(), "two coupled curved valleys and a saddle near (-1, 1, -1, 1)"),
        ("helical-valley", analytic.HelicalValley(), "a curved valley"),
        ("brown-badly-scaled", analytic.BrownBadlyScaled(), "a Hessian of condition 1e24"),
        ("box-3d", analytic.Box3D(), "a whole line of further minima, a = b and c = 0"),
        ("trigonometric", analytic.Trigonometric(), ""),
        ("variably-dimensioned", analytic.VariablyDimensioned(), "steep at the start: small steps only"),
        ("styblinski-tang", analytic.StyblinskiTang(), ""),
        ("rastrigin", analytic.Rastrigin(), "many local minima"),
    )
    return [_standard(name, energy, notes) for name, energy, notes in chosen]


def _standard(name: str, energy: analytic.AnalyticEnergy, notes: str) -> Problem:
    y0 = _row(energy.start)
    minima = tuple(_row(point) for point in energy.minima)
    return Problem(name, energy, torch.zeros_like(y0), y0, minima, energy.minimum, notes)


def _convex() -> list[Problem]:
    matrix = _row([4.0, 1.0, 0.0, 1.0, 3.0, -1.0, 0.0, -1.0, 2.0]).view(3, 3)
    features = _row([1.0, 2.0, -1.0, 0.5, 3.0, 1.0, 0.0, -2.0]).view(1, 4, 2)
    bowl = {"a": _row([1.0, -2.0]), "b": (_row([0.5]), _row([3.0, 0.0, -1.0, 2.0]).view(1, 2, 2))}
    quadratic, ridge, logistic = Quadratic(matrix), Ridge(), Logistic()
    linear, chances = _row([1.0, -2.0, 0.5]), _row([0.1, 0.5, 0.8])
    regression = (features, _row([1.0, -1.0, 2.0, 0.5]), torch.tensor([0.7], dtype=torch.float64))
    return [
        _solved("quadratic", quadratic, linear, quadratic.solve(linear)),
        _solved("bowl", Bowl(), bowl, bowl),
        _solved("ridge", ridge, regression, ridge.solve(regression)),
        _solved("logistic", logistic, chances, logistic.solve(chances)),
    ]


def _solved(name: str, energy: Energy, x: Any, minimum: Any) -> Problem:
    minimum = detach(minimum)
    with torch.no_grad():
        value = float(energy(x, minimum))
    return Problem(name, energy, x, tree_map(torch.zeros_like, minimum), (minimum,), value)


def _row(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).unsqueeze(0)


def _largest(y: Any, point: Any) -> Tensor:
    pairs = zip(tree_leaves(y), tree_leaves(point), strict=True)
    return torch.stack([(leaf - target).abs().flatten(1).amax(1) for leaf, target in pairs]).amax(0)
