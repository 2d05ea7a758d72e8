# %% [markdown]
"""
# Curve fits by the thousand, with standard errors

Four thousand signal decays, as in relaxometry, fitted in one batch, in the units in
which they were measured: each curve has its own amplitude and decay time, takes its own
steps, and gets its own standard errors. SciPy's `curve_fit` fits some of them one by
one, for comparison. Needs SciPy.
"""

# %%
import time

import numpy as np
import torch
from matplotlib import pyplot as plt
from scipy.optimize import curve_fit
from scipy.stats import t as student

from energysolve import (
    LBFGS,
    EnergySolver,
    FromInput,
    LeastSquares,
    LevenbergMarquardt,
)
from energysolve.uncertainty import standard_errors

# %% [markdown]
# ## The curves
#
# Amplitudes are about 1,000, in arbitrary units, and decay times 20 to 150 ms. Use
# float64: sums of squares lose half of the digits of float32.

# %%
ECHOES = torch.linspace(10, 200, 20, dtype=torch.float64)  # ms
NOISE = 10.0
CURVES, COMPARED = 4_000, 500


def residuals(x, y):  # x: (batch, 20), y: (batch, 2)  ->  (batch, 20)
    amplitude, decay_time = y[:, :1], y[:, 1:]
    return amplitude * torch.exp(-ECHOES / decay_time) - x


generator = torch.Generator().manual_seed(0)
amplitude = 1000 + 100 * torch.randn(CURVES, generator=generator, dtype=torch.float64)
decay_time = 20 + 130 * torch.rand(CURVES, generator=generator, dtype=torch.float64)
truth = torch.stack([amplitude, decay_time], 1)
noise = torch.randn(CURVES, len(ECHOES), generator=generator, dtype=torch.float64)
x = residuals(torch.zeros(()), truth) + NOISE * noise

# %% [markdown]
# ## The fit
#
# The energy is half the sum of the squared residuals. Parameters of unlike size need
# no scaling, and there is no step size to choose.


# %%
def guess(x):
    """The first echo, and a decay time in the middle of the range."""
    return torch.stack([x[:, 0], torch.full_like(x[:, 0], 60.0)], 1)


solver = EnergySolver(
    LeastSquares(residuals),
    LevenbergMarquardt(),
    init=FromInput(guess),
    max_steps=200,
)


def fitted(solver):
    """Answers, their standard errors, and microseconds per curve."""
    solver.minimize(x[:2])  # libraries load parts of themselves at their first use
    start = time.perf_counter()
    solution = solver.minimize(x)
    errors = standard_errors(solver, x, solution)
    return solution, errors, 1e6 * (time.perf_counter() - start) / CURVES


solution, errors, microseconds = fitted(solver)
print(solution)
print("\ncurve  amplitude        truth   decay time (ms)   truth")
for index in range(5):
    (a, b), (da, db), (ta, tb) = solution.y[index], errors[index], truth[index]
    print(f"{index:>5}  {a:6.1f} ± {da:4.1f} {ta:10.1f}", end="")
    print(f"   {b:6.2f} ± {db:5.2f}   {tb:7.2f}")

# %% [markdown]
# ## Are the standard errors right?
#
# The truth is known here, so one can count.

# %%
inside = ((solution.y - truth).abs() < errors).double().mean().item()
expected = 1 - 2 * student.sf(1, len(ECHOES) - 2)
print(f"within one standard error: {inside:.1%} ({expected:.1%} expected)")

# %%
figure, (top, bottom) = plt.subplots(2, 1, figsize=(7, 6), layout="constrained")
times = torch.linspace(0, 210, 100, dtype=torch.float64)
for index in range(3):
    points = top.plot(ECHOES, x[index], "o", markersize=3)
    a, b = solution.y[index]
    top.plot(times, a * torch.exp(-times / b), color=points[0].get_color())
top.set(xlabel="echo time (ms)", ylabel="signal", title="Three of the curves")
score = ((solution.y - truth) / errors).numpy()
grid = torch.linspace(-4, 4, 100)
density = torch.distributions.Normal(0.0, 1.0).log_prob(grid).exp()
labels = ["amplitude", "decay time"]
bottom.hist(score, bins=40, range=(-4, 4), density=True, label=labels)
bottom.plot(grid, density, color="black", label="standard normal")
bottom.set(xlabel="(estimate - truth) / standard error")
bottom.legend()
plt.show()

# %% [markdown]
# ## Beside SciPy, and the default optimizer
#
# `curve_fit` fits one curve at a time. `LBFGS`, the default, needs no residuals, only
# an energy.

# %%
theirs, their_errors = [], []
start = time.perf_counter()
for curve, p0 in zip(x[:COMPARED].numpy(), guess(x).numpy(), strict=False):
    found, covariance = curve_fit(
        lambda t, a, b: a * np.exp(-t / b), ECHOES.numpy(), curve, p0=p0
    )
    theirs.append(found)
    their_errors.append(np.sqrt(np.diagonal(covariance)))
one_by_one = 1e6 * (time.perf_counter() - start) / COMPARED
theirs, their_errors = torch.tensor(np.stack([theirs, their_errors]))

default, default_errors, default_microseconds = fitted(
    solver.replace(optimizer=LBFGS())
)
apart = {}  # from SciPy's answers, in standard errors, and from its standard errors
for name, y, error in (
    ("LevenbergMarquardt()", solution.y, errors),
    ("LBFGS()", default.y, default_errors),
):
    answers = ((y[:COMPARED] - theirs).abs() / their_errors).max().item()
    apart[name] = answers, (error[:COMPARED] / their_errors - 1).abs().max().item()
    print(f"{name}: answers {apart[name][0]:.0e} standard errors from SciPy's")
print(f"µs per curve: curve_fit {one_by_one:.0f},", end=" ")
print(f"LevenbergMarquardt {microseconds:.0f}, LBFGS {default_microseconds:.0f}")

# %% [markdown]
# What the standard errors mean, and where they are NaN:
# [Fitting many curves](../docs/fitting-curves.md).
