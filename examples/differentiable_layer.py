# %% [markdown]
"""
# A solver as a layer of a network

A network reads noisy pictures of a signal, and a minimization at its end imposes what
is known about it: that it is constant but for some jumps. Network and energy are
trained together, through the minimum.
"""

# %%
import torch
from matplotlib import pyplot as plt
from torch import nn

from energysolve import CG, Energy, EnergySolver, FromInput, GradientNorm, Implicit

# %% [markdown]
# ## The layer
#
# The energy keeps the answer near the input, and its differences small, those between
# neighbours less where they are large already. How much of each is learned.


# %%
class Smoothness(Energy):
    def __init__(self):
        super().__init__()
        self.log_weight = nn.Parameter(torch.tensor(-1.0))
        self.log_width = nn.Parameter(torch.tensor(-2.0))

    def evaluate(self, context, y):  # (batch, length) each  ->  (batch,)
        steps, width = y.diff(dim=1), self.log_width.exp()
        rough = width * ((steps / width).square() + 1).sqrt() - width
        near = (y - context).square().sum(1) / 2
        return near + self.log_weight.exp() * rough.sum(1)


# %% [markdown]
# A solver is a module. `Implicit` differentiates the minimum, whatever the number of
# steps, in constant memory: backward, it solves one linear system for each sample.


# %%
def layer(energy):
    return EnergySolver(
        energy,
        init=FromInput(),
        halting=GradientNorm(1e-4),
        differentiation=Implicit(CG(rtol=1e-2, max_steps=100)),
        max_steps=300,
    )


class Network(nn.Module):
    """Convolutions that see a few samples, then a minimization that sees all."""

    def __init__(self, minimize: bool):
        super().__init__()
        self.read = nn.Sequential(
            nn.Conv1d(2, 16, 5, padding=2), nn.SiLU(), nn.Conv1d(16, 1, 5, padding=2)
        )
        self.minimize = layer(Smoothness()) if minimize else None

    def forward(self, pictures):  # (batch, 2, length)  ->  (batch, length)
        rough = self.read(pictures).squeeze(1)
        return rough if self.minimize is None else self.minimize(rough).y


# %% [markdown]
# ## The data
#
# Steps of random heights, seen by two sensors: one measures the signal, the other its
# absolute value, both with noise.


# %%
def draw(batch, generator):
    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    jumps = normal(batch, 64) * (torch.rand(batch, 64, generator=generator) < 0.06)
    signal = jumps.cumsum(1) + normal(batch, 1) / 2
    pictures = torch.stack([signal, signal.abs()], 1)
    return pictures + normal(*pictures.shape) / 2, signal


# %% [markdown]
# ## Training
#
# Plain PyTorch: the layer is one module of the network, and the optimizer updates the
# convolutions and the two numbers of the energy. Beside it, the same convolutions
# without the layer.

# %%
curves, models = {}, {}
for minimize in (False, True):
    torch.manual_seed(0)
    network = Network(minimize).double()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(0)
    name = "with the layer" if minimize else "convolutions alone"
    models[name], losses = network, []
    for _ in range(100):
        pictures, signal = draw(16, generator)
        loss = (network(pictures) - signal).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    curves[name] = losses

pictures, signal = draw(500, torch.Generator().manual_seed(1))
errors = {}
with torch.no_grad():
    for name, network in models.items():
        errors[name] = (network(pictures) - signal).square().mean().item()
        print(f"{name}: mean squared error {errors[name]:.4f} on new signals")

# %%
figure, (top, bottom) = plt.subplots(2, 1, figsize=(7, 6), layout="constrained")
for name, losses in curves.items():
    top.semilogy(losses, label=name)
top.set(xlabel="iteration", ylabel="loss")
top.legend()
bottom.plot(pictures[0, 0], ".", color="gray", markersize=4, label="first sensor")
bottom.plot(signal[0], color="black", label="signal")
with torch.no_grad():
    for name, network in models.items():
        bottom.plot(network(pictures[:1])[0], label=name)
bottom.legend(fontsize="small")
plt.show()

# %% [markdown]
# ## The derivative is that of the minimum
#
# Finite differences of the whole minimization confirm it, here by the learned weight:

# %%
energy = models["with the layer"].minimize.energy
exact = layer(energy).replace(
    halting=GradientNorm(1e-10), differentiation=Implicit(CG(rtol=1e-12, max_steps=500))
)
values, weights = pictures[:4, 0], torch.randn(64, dtype=torch.float64)
energy.zero_grad()
(exact.minimize(values).y @ weights).sum().backward()
by_theorem = energy.log_weight.grad.item()

with torch.no_grad():
    found = []
    for change in (1e-5, -1e-5):
        energy.log_weight.add_(change)
        found.append((exact.minimize(values).y @ weights).sum().item())
        energy.log_weight.sub_(change)
by_differences = (found[0] - found[1]) / 2e-5
print(f"{by_theorem:.6f} and {by_differences:.6f}")

# %% [markdown]
# Which mode to choose: [Differentiation](../docs/differentiation.md).
