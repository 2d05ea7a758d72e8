# %% [markdown]
"""
# Matrices inverted and completed by learned energies

Two shipped energies. One inverts matrices, and takes more steps for those that are
harder to invert. The other fills in the missing half of noisy matrices of low rank.
"""

# %%
import torch
from matplotlib import pyplot as plt

from energysolve import EnergySolver, Trajectory
from energysolve.tasks import Completion

# %% [markdown]
# ## Inverses
#
# Positive definite matrices of condition numbers from 2 to 1,000:

# %%
generator = torch.Generator().manual_seed(0)
condition = torch.logspace(0.3, 3, 100)
basis, _ = torch.linalg.qr(torch.randn(100, 20, 20, generator=generator))
spectrum = condition[:, None] ** -torch.linspace(0, 1, 20)
matrices = basis @ torch.diag_embed(spectrum) @ basis.mT

solver = EnergySolver.from_pretrained("inverse")
solution = solver.minimize(matrices)
print(solution)

# %% [markdown]
# Each is found to the accuracy of the criterion, whatever its condition number:

# %%
identity = torch.eye(20)
residual = (matrices @ solution.y - identity).abs().amax((1, 2))
exact = matrices.double().inverse()
error = (solution.y - exact).norm(dim=(1, 2)) / exact.norm(dim=(1, 2))
print(f"largest entry of A A^-1 - 1: {residual.max():.0e}")
print(f"largest relative error of an inverse: {error.max():.0e}")

# %%
figure, (top, bottom) = plt.subplots(
    2, 1, figsize=(6, 5.5), sharex=True, layout="constrained"
)
top.semilogx(condition, solution.steps)
top.set(ylabel="steps", title="Harder matrices take more steps")
bottom.loglog(condition, error)
bottom.set(xlabel="condition number", ylabel="relative error", ylim=(1e-7, 1e-2))
plt.show()

# %% [markdown]
# ## Completion
#
# The harder problems of the paper: matrices of 20 x 20, of rank 10 plus a little noise,
# with half of the entries observed and zeros in place of the others. So few entries
# hardly determine the missing ones; the energy's minimum is what they do tell.

# %%
task = Completion()
x, target = task.sample(100, "harder", torch.Generator().manual_seed(1))
solver = EnergySolver.from_pretrained("completion").replace(recorder=Trajectory())
completed = solver.minimize(x)
error_of = {
    "zero": target.square().mean().item(),
    "copying what is observed": (x - target).square().mean().item(),
    "the energy's minimum": task.error(completed, target).mean().item(),
}
for name, value in error_of.items():
    print(f"mean squared error of {name}: {value:.3f}")

# %%
answers = {"observed": x, "completed": completed.y, "right": target}
figure, axes = plt.subplots(1, 3, figsize=(7, 2.6), layout="constrained")
for axis, (title, shown) in zip(axes, answers.items(), strict=True):
    axis.imshow(shown[0].numpy(), cmap="RdBu", vmin=-2, vmax=2)
    axis.set(title=title, xticks=[], yticks=[])
plt.show()

# %% [markdown]
# How far these energies are from what is possible: [the paper's tables and
# figures](../docs/paper.md).
