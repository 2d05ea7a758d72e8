# %% [markdown]
"""
# Positions from distances: a custom energy

Where are a hundred receivers, given their distances to five beacons? An energy is any
function of a batch of problems `x` and candidate answers `y` that returns one number
per sample; the solver does the rest.
"""

# %%
import torch
from matplotlib import pyplot as plt

from energysolve import EnergySolver, Trajectory, Zeros
from energysolve.testing import check_energy

# %% [markdown]
# ## The energy
#
# A problem is a dictionary of tensors, and an answer a position in the plane. The
# energy is the misfit of the position to the measured distances.


# %%
def ranging(x, y):  # y: (batch, 2)  ->  (batch,)
    distance = (x["beacons"] - y.unsqueeze(1)).norm(dim=-1)
    return (distance - x["measured"]).square().sum(-1)


# %% [markdown]
# The problems, made from positions that the solver will not see:

# %%
generator = torch.Generator().manual_seed(0)
position = torch.rand(100, 2, generator=generator) * 2 - 1
places = [[3.0, 0.0], [0.0, 3.0], [-3.0, 0.0], [0.0, -3.0], [3.0, 3.0]]
beacons = torch.tensor(places).expand(100, 5, 2)
x = {"beacons": beacons, "measured": (beacons - position.unsqueeze(1)).norm(dim=-1)}

# %% [markdown]
# `check_energy` checks what an energy must satisfy: one number per sample, samples
# that do not see each other, and a correct derivative.

# %%
check_energy(ranging, x, position + 0.1)

# %% [markdown]
# ## The solve
#
# There is no step size to choose, and each receiver stops on its own.

# %%
solver = EnergySolver(ranging, init=Zeros((2,)), recorder=Trajectory())
solution = solver.minimize(x)
solution.raise_for_status(strict=True)
error = (solution.y - position).norm(dim=-1)
print(solution)
print(f"largest distance from the right position: {error.max():.1e}")

# %%
figure, axes = plt.subplots(figsize=(5, 5), layout="constrained")
axes.plot(*torch.tensor(places).T, "^", color="black", label="beacons")
axes.plot(*position.T, ".", color="C0", label="right positions")
paths = torch.stack(solution.record.y)  # (iterates, 100, 2)
for receiver in range(12):
    axes.plot(*paths[:, receiver].T, color="C1", linewidth=1)
axes.plot(*solution.y.T, "o", color="C1", fillstyle="none", label="answers, some paths")
axes.set(aspect="equal")
axes.legend(loc="lower left")
plt.show()

# %% [markdown]
# More on energies of your own, with parameters to learn or constraints on the answers:
# [Write your own energy](../docs/custom-energy.md).
