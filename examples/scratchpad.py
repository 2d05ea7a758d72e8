# %% [markdown]
"""
# A scratchpad: more unknowns than the answer

Half of the entries of a matrix of rank 2 are observed; what are the others? An energy
of the answer alone cannot say what rank is. With factors as a scratchpad, free
variables that are minimized together with the answer, it can.
"""

# %%
import torch
from matplotlib import pyplot as plt

from energysolve import Adam, EnergyChange, EnergySolver, Normal, Zeros

# %% [markdown]
# ## The problems

# %%
SIZE, RANK = 16, 2
generator = torch.Generator().manual_seed(0)
factors = torch.randn(32, 2, SIZE, RANK, generator=generator)
matrix = factors[:, 0] @ factors[:, 1].mT
mask = (torch.rand(32, SIZE, SIZE, generator=generator) < 0.5).float()
x = {"entries": matrix * mask, "mask": mask}

# %% [markdown]
# ## Two energies
#
# The first asks only that the answer agrees with the observed entries. It does not
# depend on the others, which keep their initial values. The second takes a scratchpad
# `z`, and asks that the answer is the product of the two factors in it.


# %%
def observed(x, y):
    return (x["mask"] * (y - x["entries"])).square().sum((-2, -1))


def low_rank(x, y, z):  # z: (batch, 2, SIZE, RANK)
    product = z[:, 0] @ z[:, 1].mT
    return observed(x, y) + (y - product).square().sum((-2, -1))


# %% [markdown]
# ## The solves

# %%
without = EnergySolver(
    observed,
    Adam(lr=0.1),
    init=Zeros((SIZE, SIZE)),
    halting=EnergyChange(rtol=1e-7).patience(5),
    max_steps=2000,
)
with_factors = without.replace(energy=low_rank, scratchpad=Normal((2, SIZE, RANK)))
errors, answers = {}, {}
for name, solver in {"without": without, "with": with_factors}.items():
    solution = solver.minimize(x, generator=generator)
    squares = (solution.y - matrix).square() * (1 - mask)
    error = squares.sum((-2, -1)) / (1 - mask).sum((-2, -1))
    errors[name], answers[name] = error.median().item(), solution.y
    print(f"{name} scratchpad: median error {errors[name]:.1e} on unobserved entries")

# %%
figure, axes = plt.subplots(2, 2, figsize=(6, 6), layout="constrained")
panels = {
    "observed": torch.where(mask > 0, matrix, torch.nan),
    "the matrix": matrix,
    "without scratchpad": answers["without"],
    "with scratchpad": answers["with"],
}
for axis, (title, shown) in zip(axes.flat, panels.items(), strict=True):
    axis.imshow(shown[0].numpy(), cmap="RdBu", vmin=-4, vmax=4)
    axis.set(title=title, xticks=[], yticks=[])
plt.show()

# %% [markdown]
# [Scratchpads](../docs/scratchpad.md) are trained like answers, too.
