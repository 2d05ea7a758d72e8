# %% [markdown]
"""
# A learned energy, from scratch: sorting

Nobody tells this energy how to sort. It is trained so that its minimum is at the sorted
numbers, and then solves each problem with as many steps as that takes, harder ones
than it was trained on included.
"""

# %%
import torch
from matplotlib import pyplot as plt

from energysolve import (
    SGD,
    EnergyChange,
    EnergySolver,
    MLPEnergy,
    Trainer,
    Trajectory,
    Uniform,
)
from energysolve.tasks import Task

# %% [markdown]
# ## The task
#
# A task draws problems with their answers, a whole batch at once, and defines the error
# of a solution. The difficulty `"harder"` is never trained on.


# %%
class Sorting(Task):
    """Sort numbers; ``x`` and the target are ``(batch, size)``."""

    difficulties = ("same", "harder")

    def __init__(self, size: int = 6):
        self.size = size
        self.init = Uniform((size,))

    def sample(self, batch, difficulty="same", generator=None, device=None):
        self.check_difficulty(difficulty)
        bound = 1.0 if difficulty == "same" else 1.5
        x = torch.rand(batch, self.size, generator=generator, device=device)
        x = bound * (2 * x - 1)
        return x, x.sort(-1).values

    def error(self, solution, target):
        return (solution.y - target).square().mean(-1)


# %% [markdown]
# ## Training
#
# The energy is a network of problem and answer. Each iteration takes five steps down
# the energy and differentiates the last one (the paper's Algorithm 1). A replay buffer
# keeps answers, which later iterations improve further.

# %%
torch.manual_seed(0)
task = Sorting()
energy = MLPEnergy(x_dim=task.size, y_dim=task.size, width=128)
solver = EnergySolver(energy, SGD(lr=10.0), init=task.init)
trainer = Trainer(
    solver,
    task,
    train_steps=5,
    replay=10_000,
    generator=torch.Generator().manual_seed(1),
)
losses = []
trainer.fit(400, lambda progress: losses.append(progress.loss))
print(f"loss: {losses[0]:.3f} at first, {losses[-1]:.4f} at last")

# %% [markdown]
# ## Solving
#
# Now with a criterion: the solver takes as many steps as each problem needs.

# %%
solver = solver.replace(
    halting=EnergyChange(rtol=1e-4).patience(2), max_steps=200, recorder=Trajectory()
)
generator = torch.Generator().manual_seed(2)
ratios, curves = {}, {}
for difficulty in task.difficulties:
    x, target = task.sample(1000, difficulty, generator)
    solution = solver.minimize(x, generator=generator)
    error = task.error(solution, target).mean().item()
    ratios[difficulty] = target.square().mean().item() / error
    path = torch.stack(solution.record.y)
    curves[difficulty] = (path - target).square().mean((1, 2))
    steps = solution.steps.float().mean()
    print(f"{difficulty}: error {error:.4f},", end=" ")
    print(f"{ratios[difficulty]:.0f} times below answering zero, {steps:.1f} steps")

# %%
figure, (top, bottom) = plt.subplots(2, 1, figsize=(7, 6), layout="constrained")
top.semilogy(losses, linewidth=0.8)
top.set(xlabel="iteration of training", ylabel="loss")
for difficulty, curve in curves.items():
    bottom.semilogy(curve, label=difficulty)
bottom.set(xlabel="step of the solve", ylabel="mean squared error")
bottom.legend()
plt.show()

# %% [markdown]
# `solver.save_pretrained("sorting")` saves it. More: [Training](../docs/training.md),
# and the [tutorial](../docs/tutorial.md), with data of one's own.
