"""Thousands of curve fits at once, with standard errors: signal decays as in relaxometry, in raw units.

Each curve has its own amplitude (about 1,000, in arbitrary units) and decay time (20 to 150 ms). SciPy's ``curve_fit``
fits some of them one by one, for comparison.

    python fit_curves.py [figure.png]
"""

import sys
import time
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import curve_fit
from scipy.stats import t as student

from energysolve import LBFGS, EnergySolver, FromInput, LeastSquares, LevenbergMarquardt, Solution
from energysolve.uncertainty import standard_errors

ECHOES = torch.linspace(10, 200, 20, dtype=torch.float64)  # ms
NOISE = 10.0
CURVES, COMPARED = 4_000, 500


def residuals(x, y):
    """The measured curves ``x (batch, 20)`` against decays with the parameters ``y (batch, 2)``."""
    amplitude, decay_time = y[:, :1], y[:, 1:]
    return amplitude * torch.exp(-ECHOES / decay_time) - x


def guess(x):
    """The first echo, and a decay time in the middle of the range."""
    return torch.stack([x[:, 0], torch.full_like(x[:, 0], 60.0)], 1)


solver = EnergySolver(LeastSquares(residuals), LevenbergMarquardt(), init=FromInput(guess), max_steps=200)


@dataclass(frozen=True)
class Fits:
    """Parameters ``(curves, 2)``, their standard errors, and the time in seconds."""

    y: torch.Tensor
    errors: torch.Tensor
    seconds: float


def measured(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy curves, and the parameters behind them."""
    amplitude = 1000 + 100 * torch.randn(CURVES, generator=generator, dtype=torch.float64)
    decay_time = 20 + 130 * torch.rand(CURVES, generator=generator, dtype=torch.float64)
    truth = torch.stack([amplitude, decay_time], 1)
    noise = torch.randn(CURVES, len(ECHOES), generator=generator, dtype=torch.float64)
    return residuals(torch.zeros(()), truth) + NOISE * noise, truth


def all_at_once(solver: EnergySolver, x: torch.Tensor) -> tuple[Fits, Solution]:
    solver.minimize(x[:2])  # libraries load parts of themselves when they are first used
    start = time.perf_counter()
    solution = solver.minimize(x)
    errors = standard_errors(solver, x, solution)
    return Fits(solution.y, errors, time.perf_counter() - start), solution


def one_by_one(x: torch.Tensor) -> Fits:
    echoes, starts = ECHOES.numpy(), guess(x).numpy()
    start = time.perf_counter()
    found = [
        curve_fit(lambda t, a, b: a * np.exp(-t / b), echoes, curve, p0=p0)
        for curve, p0 in zip(x.numpy(), starts, strict=True)
    ]
    seconds = time.perf_counter() - start
    answers, covariances = (np.stack(part) for part in zip(*found, strict=True))
    errors = np.sqrt(np.diagonal(covariances, axis1=1, axis2=2))
    return Fits(torch.from_numpy(answers), torch.from_numpy(errors), seconds)


def save_figure(path: str, x: torch.Tensor, truth: torch.Tensor, fits: Fits) -> None:
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    times = torch.linspace(0, 210, 100, dtype=torch.float64)
    for index in range(3):
        amplitude, decay_time = fits.y[index]
        points = left.plot(ECHOES, x[index], "o", markersize=3)
        left.plot(times, amplitude * torch.exp(-times / decay_time), color=points[0].get_color())
    left.set(xlabel="echo time (ms)", ylabel="signal", title="Three of the curves")
    score = (fits.y - truth) / fits.errors
    grid = torch.linspace(-4, 4, 100)
    density = torch.distributions.Normal(0.0, 1.0).log_prob(grid).exp()
    right.hist(score.numpy(), bins=40, range=(-4, 4), density=True, label=["amplitude", "decay time"])
    right.plot(grid, density, color="black", label="standard normal")
    right.set(xlabel="(estimate - truth) / standard error", title="Are the standard errors right?")
    right.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main(figure: str | None = None) -> None:
    x, truth = measured(torch.Generator().manual_seed(0))
    ours, solution = all_at_once(solver, x)
    default, _ = all_at_once(solver.replace(optimizer=LBFGS()), x)
    theirs = one_by_one(x[:COMPARED])
    print(solution)
    print(f"\n{'curve':>5} {'amplitude':>17} {'truth':>8} {'decay time (ms)':>19} {'truth':>7}")
    for index in range(5):
        (a, b), (da, db), (ta, tb) = ours.y[index], ours.errors[index], truth[index]
        print(f"{index:>5} {a:>8.1f} ± {da:>6.1f} {ta:>8.1f} {b:>11.2f} ± {db:>5.2f} {tb:>7.2f}")

    inside = ((ours.y - truth).abs() < ours.errors).double().mean()
    expected = 1 - 2 * student.sf(1, len(ECHOES) - 2)
    print(f"\nwithin one standard error of the truth: {inside:.1%} ({expected:.1%} expected)")
    print(f"\n{'':>22} {'µs per curve':>12} {'answers apart':>14} {'standard errors apart':>22}")
    print(f"{'curve_fit, one by one':>22} {1e6 * theirs.seconds / COMPARED:>12.0f}")
    for name, fits in {"LevenbergMarquardt()": ours, "LBFGS()": default}.items():
        apart = ((fits.y[:COMPARED] - theirs.y).abs() / theirs.errors).max()
        ratio = (fits.errors[:COMPARED] / theirs.errors - 1).abs().max()
        print(f"{name:>22} {1e6 * fits.seconds / CURVES:>12.0f} {apart:>11.0e} SE {ratio:>22.0e}")
    if figure is not None:
        save_figure(figure, x, truth, ours)
        print(f"figure: {figure}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
