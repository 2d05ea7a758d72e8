# %% [markdown]
"""
# Constrained portfolio weights, with derivatives

Two hundred portfolios at once, one for each degree of risk aversion: weights that are
not negative, sum to one, and trade expected return against variance. Their derivatives
with respect to the forecasts tell which forecast matters.
"""

# %%
import torch
from matplotlib import pyplot as plt

from energysolve import (
    SGD,
    Backtracking,
    EnergySolver,
    FromInput,
    GradientNorm,
    Implicit,
    Projected,
    Simplex,
)

# %% [markdown]
# ## The market
#
# Six assets whose yearly returns move with two common factors. `mean` holds the
# forecasts of the returns, `covariance` that of their fluctuations.

# %%
generator = torch.Generator().manual_seed(4)
mean = torch.tensor([0.03, 0.05, 0.06, 0.07, 0.09, 0.11], dtype=torch.float64)
deviation = torch.tensor([0.05, 0.10, 0.13, 0.15, 0.20, 0.28], dtype=torch.float64)
factors = torch.randn(6, 2, generator=generator, dtype=torch.float64)
joint = factors @ factors.T + torch.eye(6, dtype=torch.float64)
scale = deviation / joint.diagonal().sqrt()
covariance = scale[:, None] * joint * scale

# %% [markdown]
# ## The energy
#
# Half the variance, weighted by the risk aversion, minus the expected return
# (Markowitz, 1952). A problem `x` is a dictionary of tensors with one row for each
# portfolio.


# %%
def energy(x, y):  # y: (batch, 6), the weights  ->  (batch,)
    variance = torch.einsum("bi,ij,bj->b", y, covariance, y)
    return x["aversion"] * variance / 2 - (x["mean"] * y).sum(1)


def equal_weights(x):
    return torch.full_like(x["mean"], 1 / x["mean"].shape[1])


# %% [markdown]
# ## The solver
#
# `Projected` projects each step onto the simplex of the weights, and `Backtracking`
# finds its length. `GradientNorm` then sees the projected gradient, which vanishes at
# constrained minima.

# %%
solver = EnergySolver(
    energy,
    Backtracking(Projected(SGD(lr=1.0), Simplex())),
    init=FromInput(equal_weights),
    halting=GradientNorm(1e-8),
    max_steps=2000,
)
aversion = torch.logspace(0, 2, 200, dtype=torch.float64)
x = {"aversion": aversion, "mean": mean.expand(200, 6)}
solution = solver.minimize(x)
solution.raise_for_status(strict=True)
print(solution)

# %% [markdown]
# ## Derivatives
#
# How does the weight of the fifth asset respond to the six forecasts? `Implicit`
# differentiates the minimum itself, at the cost of one linear solve for each
# portfolio, and keeps to the constraints: weights at zero stay there, and the changes
# of the others sum to zero. Where an asset is about to enter or to leave the
# portfolio, the derivative jumps; there it is that of one of the two sides.

# %%
forecasts = x["mean"].clone().requires_grad_()
differentiable = solver.replace(differentiation=Implicit())
weights = differentiable.minimize({**x, "mean": forecasts}).y
(sensitivity,) = torch.autograd.grad(weights[:, 4].sum(), forecasts)

# %% [markdown]
# Finite differences agree, for two more solves of the whole batch by each asset. They
# differ only next to the jumps, where one of the two solves is on the other side.

# %%
step = 1e-4
differences = []
for asset in range(6):
    change = torch.zeros(6, dtype=torch.float64)
    change[asset] = step
    higher, lower = (
        solver.minimize({**x, "mean": mean + sign * change.expand(200, 6)}).y[:, 4]
        for sign in (1, -1)
    )
    differences.append((higher - lower) / (2 * step))
differences = torch.stack(differences, 1)
apart = (sensitivity - differences).abs().amax(1)
agree = apart < 0.01 * (1 + differences.abs().amax(1))
print(f"{agree.sum()} of 200 derivatives agree with finite differences")

# %%
figure, (top, bottom) = plt.subplots(
    2, 1, figsize=(7, 6), sharex=True, layout="constrained"
)
labels = [f"asset {number}: {value:.0%}" for number, value in enumerate(mean, 1)]
top.stackplot(aversion, solution.y.T, labels=labels)
top.set(ylabel="weight", title="The portfolios", xscale="log")
top.legend(title="expected return", fontsize="small")
for asset in range(6):
    line = bottom.plot(aversion, sensitivity[:, asset], label=f"of asset {asset + 1}")
    color = line[0].get_color()
    bottom.plot(aversion[::8], differences[::8, asset], ".", color=color)
bottom.set(
    xlabel="risk aversion",
    ylabel="derivative",
    title="Weight of asset 5 by each forecast (dots: finite differences)",
)
bottom.legend(fontsize="small")
plt.show()

# %% [markdown]
# The sensitivities grow as the risk aversion falls: the less a portfolio cares for
# risk, the more it hangs on the forecasts. See
# [Differentiation](../docs/differentiation.md) for what each mode does at a constraint.
