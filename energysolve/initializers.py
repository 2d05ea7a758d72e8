"""Initial answers and scratchpads. Any function ``(x, layout, generator) -> y`` is an initializer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .layout import Layout, tensors

Initializer = Callable[[Any, Layout, torch.Generator | None], Any]


@dataclass(frozen=True)
class Uniform:
    """Entries uniform in ``[low, high)``; the defaults are the paper's (Algorithm 1).

    Args:
        shape: the shape of one row of ``y``: a sample in dense layouts, an edge of a graph.
        low: the lower bound.
        high: the upper bound.

    Raises:
        ValueError: if ``shape`` is not made of whole numbers, or ``low`` exceeds ``high``.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver, Uniform
        >>> solver = EnergySolver(lambda x, y: (y - x).square().sum((1, 2)), init=Uniform((2, 3), low=0.0), max_steps=0)
        >>> y = solver.minimize(torch.rand(8, 2, 3)).y  # the initial answers, as no step is taken
        >>> y.shape, bool(((y >= 0) & (y < 1)).all())
        (torch.Size([8, 2, 3]), True)
    """

    shape: Sequence[int] | int
    low: float = -1.0
    high: float = 1.0

    def __post_init__(self):
        owner = type(self).__name__
        object.__setattr__(self, "shape", _shape(owner, self.shape))
        if not self.low <= self.high:
            raise ValueError(f"{owner} needs low <= high, got low={self.low!r} and high={self.high!r}.")

    def __call__(self, x, layout, generator):
        return _draw(torch.rand, self.shape, x, layout, generator) * (self.high - self.low) + self.low


@dataclass(frozen=True)
class Symmetric(Uniform):
    """Symmetric matrices, shape ``(size, size)``, with entries uniform on and above the diagonal.

    Examples:
        >>> import torch
        >>> from energysolve import Dense
        >>> from energysolve.initializers import Symmetric
        >>> y = Symmetric((3, 3))(torch.zeros(5, 3, 3), Dense(5), None)  # as a solver calls it
        >>> y.shape, torch.equal(y, y.mT)
        (torch.Size([5, 3, 3]), True)
    """

    shape: Sequence[int]

    def __post_init__(self):
        super().__post_init__()
        if len(self.shape) != 2 or self.shape[0] != self.shape[1]:
            raise ValueError(f"Symmetric needs the shape of a square matrix, such as (20, 20), got {self.shape!r}.")

    def __call__(self, x, layout, generator):
        drawn = super().__call__(x, layout, generator)
        return drawn.triu() + drawn.triu(1).mT


@dataclass(frozen=True)
class Normal:
    """Normal entries with mean 0 and standard deviation ``std``; ``shape`` is that of one row of ``y``.

    Raises:
        ValueError: if ``shape`` is not made of whole numbers, or ``std`` is negative.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver, Normal
        >>> solver = EnergySolver(lambda x, y: (y - x).square().sum(-1), init=Normal((3,), std=0.1))
        >>> a, b = (solver.minimize(torch.ones(4, 3), generator=torch.Generator().manual_seed(0)) for _ in range(2))
        >>> torch.equal(a.y, b.y)  # drawn from the generator that is given
        True
    """

    shape: Sequence[int] | int
    std: float = 1.0

    def __post_init__(self):
        object.__setattr__(self, "shape", _shape("Normal", self.shape))
        if not self.std >= 0:
            raise ValueError(f"Normal needs a std of 0 or more, got {self.std!r}.")

    def __call__(self, x, layout, generator):
        return _draw(torch.randn, self.shape, x, layout, generator) * self.std


@dataclass(frozen=True)
class Zeros:
    """Zeros; ``shape`` is that of one row of ``y``.

    Raises:
        ValueError: if ``shape`` is not made of whole numbers.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver, Zeros
        >>> solver = EnergySolver(lambda x, y: (y - x).square().sum(-1), init=Zeros((3,)), max_steps=0)
        >>> solver.minimize(torch.ones(2, 3)).y
        tensor([[0., 0., 0.],
                [0., 0., 0.]])
    """

    shape: Sequence[int] | int

    def __post_init__(self):
        object.__setattr__(self, "shape", _shape("Zeros", self.shape))

    def __call__(self, x, layout, generator):
        return torch.zeros(layout.rows, *_shape("Zeros", self.shape), **_like(x))


@dataclass(frozen=True)
class FromInput:
    """Initial answers computed from the problem, such as the noisy image to denoise, or the output of another model.

    Args:
        function: maps ``x`` to ``y``; by default ``y`` is ``x``, or its first part if ``x`` is a tuple.

    Raises:
        TypeError: if ``function`` is neither a function nor None.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver, FromInput
        >>> def energy(x, y):
        ...     return (y - x["image"]).square().sum(-1)
        >>> solver = EnergySolver(energy, init=FromInput(lambda x: x["image"]))
        >>> solver.minimize({"image": torch.tensor([[0.2, 0.7]])}).steps  # already at the minimum
        tensor([0])
    """

    function: Callable[[Any], Any] | None = None

    def __post_init__(self):
        if not (self.function is None or callable(self.function)):
            example = f"FromInput(lambda x: x[{self.function!r}])"
            raise TypeError(f"FromInput needs a function of x, or nothing; got {self.function!r}. Write {example}.")

    def __call__(self, x, layout, generator):
        if self.function is not None:
            return self.function(x)
        return x[0] if isinstance(x, tuple) else x


@dataclass(frozen=True)
class EdgeValues:
    """The values of the edges of a batch of graphs, ``edge_attr``: answers from which distances only fall.

    Examples:
        >>> import torch
        >>> from energysolve.initializers import EdgeValues
        >>> from energysolve.tasks import EdgeCopy
        >>> x, _ = EdgeCopy(size=3).sample(2, "same")
        >>> torch.equal(EdgeValues()(x, None, None), x.edge_attr)  # as a solver calls it
        True
    """

    def __call__(self, x, layout, generator):
        return x["edge_attr"].clone()


def _shape(owner: str, shape: Sequence[int] | int) -> tuple[int, ...]:
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    if not all(isinstance(size, int) and size >= 0 for size in sizes):
        raise ValueError(f"{owner} needs a shape of whole numbers, such as (400,), got {shape!r}.")
    return sizes


def _like(x: Any) -> dict[str, Any]:
    """Device and dtype for answers to x: the device of its first tensor, the dtype of its first floating-point one."""
    found = list(tensors(x))
    dtypes = [tensor.dtype for tensor in found if tensor.is_floating_point()]
    device = found[0].device if found else None
    return {"device": device, "dtype": dtypes[0] if dtypes else torch.get_default_dtype()}


def _draw(sampler: Callable[..., Tensor], shape: Any, x: Any, layout: Layout, generator) -> Tensor:
    like = _like(x)
    # A generator lives on one device: draw there, then move.
    device = like["device"] if generator is None else generator.device
    drawn = sampler(layout.rows, *shape, generator=generator, device=device, dtype=like["dtype"])
    return drawn if like["device"] is None else drawn.to(like["device"])
