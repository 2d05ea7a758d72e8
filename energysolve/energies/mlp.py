"""The paper's energy for vectors and matrices."""

import math
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ..checks import MOST_LAYERS, check_whole
from ..energy import Energy


class MLPEnergy(Energy):
    """A multilayer perceptron on the concatenation of problem, answer and scratchpad (Table 10 of the paper).

    The part of its first layer that sees ``x`` is applied once per solve, the other part at every step. Activations are
    swish; parameters are initialized like those of a network on the concatenation.

    Args:
        x_dim: the number of entries of a problem; ``x`` is flattened.
        y_dim: the number of entries of an answer; ``y`` is flattened.
        z_dim: the number of entries of the scratchpad (Appendix B), 0 for none.
        width: the number of units of each hidden layer.
        depth: the number of hidden layers, from 1 to 10,000.
        scale: a factor of the energy. Steps of size ``s`` on the energy are steps of size ``s * scale`` on the network.
        standardized: whether problems are standardized first, by the buffers ``x_mean`` (per entry) and ``x_std`` (one
            number), which `standardize` sets.

    Raises:
        ValueError: if a size or the scale is out of range.

    Examples:
        >>> import torch
        >>> from energysolve import SGD, EnergySolver, MLPEnergy, Uniform
        >>> energy = MLPEnergy(x_dim=8, y_dim=4, width=32)
        >>> energy(torch.rand(5, 8), torch.rand(5, 4)).shape  # one number per sample
        torch.Size([5])
        >>> solver = EnergySolver(energy, SGD(lr=10.0), init=Uniform((4,)), max_steps=20)
        >>> solver.minimize(torch.rand(5, 8)).y.shape
        torch.Size([5, 4])
    """

    x_mean: Tensor
    x_std: Tensor

    def __init__(
        self,
        x_dim: int,
        y_dim: int,
        *,
        z_dim: int = 0,
        width: int = 512,
        depth: int = 3,
        scale: float = 1.0,
        standardized: bool = False,
    ):
        super().__init__()
        if min(x_dim, z_dim) < 0 or min(y_dim, width, depth) < 1:
            raise ValueError(
                "MLPEnergy needs y_dim, width and depth of 1 or more, x_dim and z_dim of 0 or more; got "
                f"{x_dim=}, {y_dim=}, {z_dim=}, {width=}, {depth=}."
            )
        check_whole("MLPEnergy", least=1, most=MOST_LAYERS, depth=depth)
        if not 0 < scale < math.inf:
            raise ValueError(f"MLPEnergy needs a finite scale above 0, got {scale!r}.")
        self.scale, self.standardized = scale, standardized
        self.x_dim, self.y_dim, self.z_dim, self.width, self.depth = x_dim, y_dim, z_dim, width, depth
        self.from_x = nn.Linear(x_dim, width)
        self.from_y = nn.Linear(y_dim, width, bias=False)
        self.from_z = nn.Linear(z_dim, width, bias=False) if z_dim else None
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise([width] * depth))
        self.head = nn.Linear(width, 1)
        if standardized:
            self.register_buffer("x_mean", torch.zeros(x_dim))
            self.register_buffer("x_std", torch.ones(()))
        self._initialize_first_layer()

    def standardize(self, x: Float[Tensor, "batch *features"]) -> None:
        """Set the buffers so that these problems have mean zero in each entry and mean square one over all entries.

        Raises:
            ValueError: if the energy was constructed without ``standardized=True``, or all problems are equal.
        """
        if not self.standardized:
            raise ValueError("This MLPEnergy does not standardize problems; construct it with standardized=True.")
        x = x.flatten(1)
        mean = x.mean(0)
        std = (x - mean).square().mean().sqrt()
        if not 0 < std < math.inf:
            raise ValueError(f"The problems must be finite and differ from each other; got a std of {std.item()}.")
        self.x_mean.copy_(mean)
        self.x_std.copy_(std)

    def encode(self, x: Float[Tensor, "batch *features"]) -> Float[Tensor, "batch width"]:
        x = x.flatten(1)
        return self.from_x((x - self.x_mean) / self.x_std if self.standardized else x)

    def evaluate(
        self, context: Float[Tensor, "batch width"], y: Float[Tensor, "batch *answer"], *z: Float[Tensor, "batch *pad"]
    ) -> Float[Tensor, " batch"]:
        if len(z) != (self.from_z is not None):
            expected = f"takes a scratchpad of {self.z_dim} entries" if self.z_dim else "takes no scratchpad"
            raise ValueError(f"This MLPEnergy {expected} (z_dim={self.z_dim}), but {len(z)} were given.")
        h = context + self.from_y(y.flatten(1))
        if self.from_z is not None:
            h = h + self.from_z(z[0].flatten(1))
        h = _swish(h)
        for layer in self.hidden:
            h = _swish(_linear(layer, h))
        energy = self.head(h).squeeze(-1)
        return energy if self.scale == 1 else energy * self.scale

    def config(self) -> dict[str, Any]:
        names = ("x_dim", "y_dim", "z_dim", "width", "depth", "scale", "standardized")
        return {name: getattr(self, name) for name in names}

    def _initialize_first_layer(self) -> None:
        bound = 1 / math.sqrt(self.x_dim + self.y_dim + self.z_dim)
        with torch.no_grad():
            for layer in (self.from_x, self.from_y, self.from_z):
                for parameter in () if layer is None else layer.parameters():
                    parameter.uniform_(-bound, bound)


def _linear(layer: nn.Module, h: Tensor) -> Tensor:
    if torch.compiler.is_compiling():  # so that bias and activation are fused into one pass
        return F.linear(h, layer.weight) + layer.bias  # pyright: ignore[reportArgumentType, reportOperatorIssue]
    return layer(h)


def _swish(h: Tensor) -> Tensor:
    if torch.compiler.is_compiling():  # so that the derivative reuses the sigmoid
        return h * torch.sigmoid(h)
    return F.silu(h)
