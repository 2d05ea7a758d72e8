"""The cost of the solver against hand-written loops, as ratios within one run.

Each pair runs in turn, A B A B ..., and the ratio is the median over pairs: drift of a shared machine cancels out.
The figures go to ``docs/results/overhead.json``.
"""

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from energysolve import SGD, BestSoFar, EnergyChange, EnergySolver, MLPEnergy, Never
from energysolve.benchmarks.timing import paired
from energysolve.provenance import environment

RESULTS = Path(__file__).parents[2] / "docs" / "results" / "overhead.json"
BATCH, STEPS, STEP_SIZE = 128, 50, 10.0
# Fires nowhere, yet does all its work at every iterate.
BUSY = EnergyChange(rtol=1e-30).patience(2)


def report(name: str, figures: dict, bound: float) -> None:
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    known = {"kind": "overhead", "ratios": {}} | (json.loads(RESULTS.read_text()) if RESULTS.exists() else {})
    known |= environment() | {"command": "make bench"}
    known["ratios"][name] = figures | {"bound": bound}
    RESULTS.write_text(json.dumps(known, indent=2) + "\n")
    assert figures["ratio"] <= bound, figures


@pytest.fixture(scope="module")
def paper():
    """The paper's energy for addition (Table 10) with problems and initial answers."""
    torch.manual_seed(0)
    return MLPEnergy(800, 400), torch.rand(BATCH, 800) * 2 - 1, torch.rand(BATCH, 400) * 2 - 1


def solver(energy, step_size=STEP_SIZE) -> EnergySolver:
    return EnergySolver(energy, SGD(step_size), halting=BUSY, recorder=BestSoFar(), max_steps=STEPS)


def descend(energy, y):
    """Gradient descent as anyone would write it, and nothing else: the answer and its energy."""
    for _ in range(STEPS):
        y = y.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(energy(y).sum(), y)
        y = y - STEP_SIZE * gradient
    with torch.no_grad():
        return y, energy(y)


def test_halting_and_best_so_far_cost_little(paper):
    energy, x, y = paper
    solve = solver(energy)

    def by_hand():
        with torch.no_grad():
            context = energy.encode(x)
        return descend(lambda y: energy.evaluate(context, y), y)

    solution = solve.replace(halting=Never()).minimize(x, y)
    torch.testing.assert_close((solution.y, solution.energy), by_hand())
    assert (solve.minimize(x, y).steps == STEPS).all()
    report("paper's MLP against the same arithmetic by hand", paired(lambda: solve.minimize(x, y), by_hand, 31), 1.10)


def test_a_trial_of_the_default_optimizer(paper):
    """Trials of `LBFGS`, with all that is done at each of them, against as many evaluations by hand."""
    energy, x, y = paper
    trials = 20
    solve = EnergySolver(energy, halting=BUSY, max_steps=trials)
    assert (solve.minimize(x, y).evaluations == trials + 1).all()

    def by_hand():
        with torch.no_grad():
            context = energy.encode(x)
        for _ in range(trials + 1):
            point = y.detach().requires_grad_()
            torch.autograd.grad(energy.evaluate(context, point).sum(), point)

    report(
        "a trial of LBFGS against an evaluation of the paper's MLP",
        paired(lambda: solve.minimize(x, y), by_hand, 31),
        1.5,
    )


def test_encoding_the_problem_once_pays(paper):
    energy, x, y = paper
    solve = solver(energy)
    weight = torch.cat([energy.from_x.weight, energy.from_y.weight], dim=1).detach().requires_grad_()

    def concatenated(y):
        h = F.silu(F.linear(torch.cat([x, y], dim=-1), weight, energy.from_x.bias))
        for layer in energy.hidden:
            h = F.silu(layer(h))
        return energy.head(h).squeeze(-1)

    torch.testing.assert_close(concatenated(y), energy(x, y))
    figures = paired(lambda: solve.minimize(x, y), lambda: descend(concatenated, y), 31)
    report("paper's MLP against the concatenated network at every step", figures, 0.80)


def test_a_tiny_problem():
    x, y = torch.randn(1, 2), torch.randn(1, 2)

    def energy(x, y):
        return ((y - x) ** 2).sum(-1)

    def by_hand():
        point = y
        for _ in range(STEPS):
            point = point.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(energy(x, point).sum(), point)
            point = point - 0.01 * gradient
        with torch.no_grad():
            return point, energy(x, point)

    plain = EnergySolver(energy, SGD(0.01), halting=BUSY, recorder=BestSoFar(), max_steps=STEPS)
    solution = plain.minimize(x, y)
    torch.testing.assert_close((solution.y, solution.energy), by_hand())
    report(
        "2-dimensional quadratic, batch 1, against the same arithmetic by hand",
        paired(lambda: plain.minimize(x, y), by_hand, 151, 5),
        2.0,
    )


def test_solving_with_pytest_benchmark(benchmark, paper):
    energy, x, y = paper
    benchmark.pedantic(lambda: solver(energy).minimize(x, y), rounds=5, warmup_rounds=1)
