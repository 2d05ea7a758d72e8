"""The plain reference: a first, straightforward PyTorch version of the paper's method, without this library."""

import random
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..energies.mlp import MLPEnergy


class PlainEnergy(nn.Module):
    """A multilayer perceptron on the concatenation of problem and answer; the arguments are those of `MLPEnergy`."""

    def __init__(self, x_dim: int, y_dim: int, width: int, depth: int):
        super().__init__()
        sizes = [x_dim + y_dim, *[width] * depth]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.head = nn.Linear(width, 1)

    @classmethod
    def like(cls, energy: MLPEnergy) -> "PlainEnergy":
        """The same function as an energy of the library, on the same device."""
        plain = cls(energy.x_dim, energy.y_dim, energy.width, energy.depth).to(energy.head.weight.device)
        for own, other in zip([*plain.hidden[1:], plain.head], [*energy.hidden, energy.head], strict=True):
            own.load_state_dict(other.state_dict())
        from_x, bias = energy.from_x.weight, energy.from_x.bias
        if energy.standardized:  # a linear map, which the first layer absorbs
            from_x = from_x / energy.x_std
            bias = bias - from_x @ energy.x_mean
        with torch.no_grad():
            plain.hidden[0].weight.copy_(torch.cat([from_x, energy.from_y.weight], dim=1))  # pyright: ignore
            plain.hidden[0].bias.copy_(bias)  # pyright: ignore
            for parameter in plain.head.parameters():
                parameter.mul_(energy.scale)
        return plain

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Energies ``(batch,)``."""
        h = torch.cat([x, y], dim=-1)
        for layer in self.hidden:
            h = F.silu(layer(h))
        return self.head(h).squeeze(-1)


def plain_descent(
    energy: PlainEnergy, x: Tensor, y: Tensor, steps: int, step_size: float, *, track_last: bool = False
) -> Tensor:
    """The answers ``(batch, y_dim)`` after ``steps`` steps from ``y``; ``track_last`` makes the last differentiable."""
    for step in range(steps):
        y = y.detach().requires_grad_()
        last = track_last and step == steps - 1
        (gradient,) = torch.autograd.grad(energy(x, y).sum(), y, create_graph=last)
        y = y - step_size * gradient
    return y


@dataclass(eq=False)
class PlainTraining:
    """Algorithm 1 of the paper for the addition of vectors, with Adam and a list as replay buffer.

    The arguments are those of `energysolve.benchmarks.setting.Setting`, and the learning rate ``lr`` of Adam.
    """

    size: int
    width: int
    depth: int
    batch_size: int
    train_steps: int
    step_size: float
    replay: int
    device: torch.device | str
    lr: float

    def __post_init__(self):
        self.energy = PlainEnergy(2 * self.size, self.size, self.width, self.depth).to(self.device)
        self.adam = torch.optim.Adam(self.energy.parameters(), lr=self.lr)
        self.buffer: list[tuple[Tensor, Tensor, Tensor]] = []
        self.seed(0)

    def seed(self, seed: int) -> None:
        """Seed the random numbers of what follows."""
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.chance = random.Random(seed)

    def draw(self, batch: int, bound: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
        """Problems, targets and initial answers."""
        x = (torch.rand(batch, 2 * self.size, generator=self.generator, device=self.device) * 2 - 1) * bound
        y = torch.rand(batch, self.size, generator=self.generator, device=self.device) * 2 - 1
        return x, x[:, : self.size] + x[:, self.size :], y

    def step(self) -> Tensor:
        """One iteration; returns the loss."""
        x, target, y = self.draw(self.batch_size)
        if len(self.buffer) >= self.batch_size:
            old = self.chance.choices(self.buffer, k=self.batch_size)
            x = torch.cat([x, torch.stack([row[0] for row in old])])
            target = torch.cat([target, torch.stack([row[1] for row in old])])
            y = torch.cat([y, torch.stack([row[2] for row in old])])
        y = plain_descent(self.energy, x, y, self.train_steps, self.step_size, track_last=True)
        loss = (y - target).square().mean()
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
        self.buffer.extend(zip(x, target, y.detach(), strict=True))
        del self.buffer[: -self.replay]
        return loss.detach()

    def state(self) -> dict[str, Tensor]:
        """The state that `load` continues from, without the random number generators."""
        tensors = {f"energy.{name}": value for name, value in self.energy.state_dict().items()}
        for index, slots in self.adam.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{name}": value for name, value in slots.items()}
        columns = zip(*self.buffer, strict=True)
        return tensors | {f"buffer.{i}": torch.stack(rows) for i, rows in enumerate(columns)}

    def load(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        parts: dict[str, dict[str, Any]] = {"energy": {}, "adam": {}, "buffer": {}}
        for name, value in state.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = value.to(self.device)
        self.energy.load_state_dict(parts["energy"])
        adam = self.adam.state_dict()
        for name, value in parts["adam"].items():
            index, _, slot = name.partition(".")
            adam["state"].setdefault(int(index), {})[slot] = value
        self.adam.load_state_dict(adam)
        self.buffer = list(zip(*(parts["buffer"][str(i)] for i in range(3)), strict=True))
