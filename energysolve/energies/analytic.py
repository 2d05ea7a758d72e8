"""Energies with known minima, for tests, examples and comparisons of optimizers.

Their arithmetic is row-wise, so the energy of a sample does not depend on its batch. MGH stands for Moré, Garbow and
Hillstrom, Testing Unconstrained Optimization Software, ACM TOMS 7 (1981); SB for the collection of Surjanovic and
Bingham, https://www.sfu.ca/~ssurjano.
"""

import math
from collections.abc import Iterable, Sequence
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor

from ..energy import Energy

Points = Sequence[Sequence[float]]


class AnalyticEnergy(Energy):
    """A classic test function ``f``, shifted by the problem: ``E(x, y) = f(y - x)``, ``x`` and ``y`` ``(batch, dim)``.

    The shift moves start and minima, so that a batch can hold different problems.

    Attributes:
        dim: the number of entries of an answer; an argument of some functions.
        start: the standard starting point for ``x = 0``, or a simple one where the literature has none.
        minima: the points of lowest value for ``x = 0``.
        minimum: the lowest value.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver, energies
        >>> x = torch.tensor([[0.0, 0.0], [10.0, 10.0]])  # the minimum of the second problem lies elsewhere
        >>> EnergySolver(energies.Booth()).minimize(x, x).y.round(decimals=2)
        tensor([[ 1.,  3.],
                [11., 13.]])
    """

    dim: int = 2
    start: Sequence[float]
    minima: Points
    minimum: float = 0.0

    def evaluate(self, context: Float[Tensor, "batch dim"], y: Float[Tensor, "batch dim"]) -> Float[Tensor, " batch"]:  # pyright: ignore
        if y.shape[1:] != (self.dim,):
            raise ValueError(f"{type(self).__name__} needs y of shape (batch, {self.dim}), got {tuple(y.shape)}.")
        return self.value(y - context)

    def value(self, y: Float[Tensor, "batch dim"]) -> Float[Tensor, " batch"]:
        """The function itself, in its standard form."""
        raise NotImplementedError


class Rosenbrock(AnalyticEnergy):
    """Sum over pairs ``(a, b)`` of ``100 (b - a^2)^2 + (1 - a)^2``, for even ``dim``; minimum 0 at ones (MGH 1, 21).

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver, energies
        >>> EnergySolver(energies.Rosenbrock()).minimize(torch.zeros(1, 2), torch.zeros(1, 2)).y.round(decimals=2)
        tensor([[1., 1.]])
    """

    def __init__(self, dim: int = 2):
        super().__init__()
        if dim < 2 or dim % 2:
            raise ValueError(f"Rosenbrock needs an even dimension of 2 or more, got {dim}.")
        self.dim = dim
        self.start = (-1.2, 1.0) * (dim // 2)
        self.minima = ((1.0,) * dim,)

    def value(self, y):
        a, b = y[:, ::2], y[:, 1::2]
        return total((100 * (b - a.square()).square() + (1 - a).square()).unbind(1))


class Himmelblau(AnalyticEnergy):
    """``(a^2 + b - 11)^2 + (a + b^2 - 7)^2``; four minima of value 0 (Himmelblau, 1972, and SB).

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver, energies
        >>> starts = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])
        >>> EnergySolver(energies.Himmelblau()).minimize(torch.zeros(4, 2), starts).y.round(decimals=2)
        tensor([[ 3.0000,  2.0000],
                [-2.8100,  3.1300],
                [-3.7800, -3.2800],
                [ 3.5800, -1.8500]])
    """

    start = (0.0, 0.0)
    minima = (
        (3.0, 2.0),
        (-2.805118086952745, 3.131312518250573),
        (-3.779310253377747, -3.283185991286170),
        (3.584428340330492, -1.848126526964404),
    )

    def value(self, y):
        a, b = columns(y)
        return (a.square() + b - 11).square() + (a + b.square() - 7).square()


class Beale(AnalyticEnergy):
    """``(1.5 - a + ab)^2 + (2.25 - a + ab^2)^2 + (2.625 - a + ab^3)^2``; minimum 0 at (3, 1/2) (MGH 5).

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver, energies
        >>> EnergySolver(energies.Beale()).minimize(torch.zeros(1, 2), torch.ones(1, 2)).y.round(decimals=2)
        tensor([[3.0000, 0.5000]])
    """

    start = (1.0, 1.0)
    minima = ((3.0, 0.5),)

    def value(self, y):
        a, b = columns(y)
        return (
            (1.5 - a * (1 - b)).square()
            + (2.25 - a * (1 - b.square())).square()
            + (2.625 - a * (1 - b * b.square())).square()
        )


class Booth(AnalyticEnergy):
    """``(a + 2b - 7)^2 + (2a + b - 5)^2``; minimum 0 at (1, 3) (SB).

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver, energies
        >>> EnergySolver(energies.Booth()).minimize(torch.zeros(1, 2), torch.zeros(1, 2)).y.round(decimals=2)
        tensor([[1., 3.]])
    """

    start = (0.0, 0.0)
    minima = ((1.0, 3.0),)

    def value(self, y):
        a, b = columns(y)
        return (a + 2 * b - 7).square() + (2 * a + b - 5).square()


class Matyas(AnalyticEnergy):
    """``0.26 (a^2 + b^2) - 0.48 ab``; minimum 0 at the origin (SB).

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver, energies
        >>> EnergySolver(energies.Matyas()).minimize(torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2)).y.round(decimals=2)
        tensor([[1., 2.]])
    """

    start = (5.0, -3.0)
    minima = ((0.0, 0.0),)

    def value(self, y):
        a, b = columns(y)
        return 0.26 * (a.square() + b.square()) - 0.48 * a * b


class ThreeHumpCamel(AnalyticEnergy):
    """``2a^2 - 1.05 a^4 + a^6 / 6 + ab + b^2``; minimum 0 at the origin, two local ones near ±(1.75, -0.87) (SB).

    Examples:
        >>> import torch
        >>> from energysolve.energies import ThreeHumpCamel
        >>> ThreeHumpCamel()(torch.zeros(2, 2), torch.tensor([[0.0, 0.0], [1.7476, -0.8738]])).round(decimals=1)
        tensor([0.0000, 0.3000])
    """

    start = (0.5, -1.0)
    minima = ((0.0, 0.0),)

    def value(self, y):
        a, b = columns(y)
        square = a.square()
        return 2 * square - 1.05 * square.square() + square * square.square() / 6 + a * b + b.square()


class PowellSingular(AnalyticEnergy):
    """``(a + 10b)^2 + 5 (c - d)^2 + (b - 2c)^4 + 10 (a - d)^4``; minimum 0 at the origin, singular there (MGH 13).

    Examples:
        >>> import torch
        >>> from energysolve.energies import PowellSingular
        >>> PowellSingular()(torch.zeros(2, 4), torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.01, -0.001, 0.01, 0.01]])) < 1e-6
        tensor([True, True])
    """

    dim = 4
    start = (3.0, -1.0, 0.0, 1.0)
    minima = ((0.0, 0.0, 0.0, 0.0),)

    def value(self, y):
        a, b, c, d = columns(y)
        quartic = (b - 2 * c).square().square() + 10 * (a - d).square().square()
        return (a + 10 * b).square() + 5 * (c - d).square() + quartic


class Wood(AnalyticEnergy):
    """Two coupled Rosenbrock valleys; minimum 0 at ones (MGH 14).

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver, NewtonCG, energies
        >>> EnergySolver(energies.Wood(), NewtonCG()).minimize(torch.zeros(1, 4), torch.zeros(1, 4)).y.round(decimals=2)
        tensor([[1., 1., 1., 1.]])
    """

    dim = 4
    start = (-3.0, -1.0, -3.0, -1.0)
    minima = ((1.0, 1.0, 1.0, 1.0),)

    def value(self, y):
        a, b, c, d = columns(y)
        first = 100 * (b - a.square()).square() + (1 - a).square()
        second = 90 * (d - c.square()).square() + (1 - c).square()
        return first + second + 10 * (b + d - 2).square() + 0.1 * (b - d).square()


class HelicalValley(AnalyticEnergy):
    """``100 ((c - 10 t)^2 + (r - 1)^2) + c^2``, with (a, b) of radius r and angle ``2 pi t``, t in [-1/4, 3/4).

    Minimum 0 at (1, 0, 0) (MGH 7).

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver, energies
        >>> x = torch.ones(1, 3)  # moves the minimum by (1, 1, 1)
        >>> EnergySolver(energies.HelicalValley()).minimize(x, x - torch.tensor([[1.0, 0.0, 0.0]])).y.round(decimals=2)
        tensor([[2., 1., 1.]])
    """

    dim = 3
    start = (-1.0, 0.0, 0.0)
    minima = ((1.0, 0.0, 0.0),)

    def value(self, y):
        a, b, c = columns(y)
        turn = 0.25 + torch.atan2(-a, b) / (2 * math.pi)  # turned by a quarter: the cut lies at a = 0, b < 0
        radius = (a.square() + b.square()).sqrt()
        return 100 * ((c - 10 * turn).square() + (radius - 1).square()) + c.square()


class BrownBadlyScaled(AnalyticEnergy):
    """``(a - 10^6)^2 + (b - 2e-6)^2 + (ab - 2)^2``; minimum 0 at (10^6, 2e-6) (MGH 4).

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver, energies
        >>> EnergySolver(energies.BrownBadlyScaled()).minimize(torch.zeros(1, 2), torch.ones(1, 2)).y[:, 0]
        tensor([1000000.])
    """

    start = (1.0, 1.0)
    minima = ((1e6, 2e-6),)

    def value(self, y):
        a, b = columns(y)
        return (a - 1e6).square() + (b - 2e-6).square() + (a * b - 2).square()


class Box3D(AnalyticEnergy):
    """Sum over ``t = 0.1, ..., 1`` of ``(e^(-ta) - e^(-tb) - c (e^(-t) - e^(-10t)))^2`` (MGH 12).

    Minimum 0 at (1, 10, 1), at (10, 1, -1), and wherever ``a = b, c = 0``.

    Examples:
        >>> import torch
        >>> from energysolve.energies import Box3D
        >>> Box3D()(torch.zeros(2, 3), torch.tensor([[1.0, 10.0, 1.0], [5.0, 5.0, 0.0]]))  # two of the minima
        tensor([0., 0.])
    """

    dim = 3
    start = (0.0, 10.0, 20.0)
    minima = ((1.0, 10.0, 1.0), (10.0, 1.0, -1.0))

    def value(self, y):
        t = torch.arange(1, 11, dtype=y.dtype, device=y.device) / 10
        a, b, c = y[:, :1], y[:, 1:2], y[:, 2:]
        residual = (-t * a).exp() - (-t * b).exp() - c * ((-t).exp() - (-10 * t).exp())
        return total(residual.square().unbind(1))


class Trigonometric(AnalyticEnergy):
    """Sum over i of ``(dim - sum_j cos y_j + i (1 - cos y_i) - sin y_i)^2``; minimum 0 at the origin (MGH 26).

    There are further minima, global and local, of which the one nearest to the start in two dimensions is listed.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver, energies
        >>> EnergySolver(energies.Trigonometric()).minimize(torch.zeros(1, 2), torch.ones(1, 2) / 2).y.round(decimals=2)
        tensor([[0.2400, 0.6100]])
    """

    def __init__(self, dim: int = 2):
        super().__init__()
        self.dim = check_dim("Trigonometric", dim)
        self.start = (1 / dim,) * dim
        origin = (0.0,) * dim
        self.minima = (origin, (0.24306420220156225, 0.6126761171373343)) if dim == 2 else (origin,)

    def value(self, y):
        i = torch.arange(1, self.dim + 1, dtype=y.dtype, device=y.device)
        cosine = y.cos()
        shared = self.dim - total(cosine.unbind(1))
        return total((shared.unsqueeze(1) + i * (1 - cosine) - y.sin()).square().unbind(1))


class VariablyDimensioned(AnalyticEnergy):
    """``sum_i (y_i - 1)^2 + s^2 + s^4`` with ``s = sum_i i (y_i - 1)``; minimum 0 at ones (MGH 25).

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver, energies
        >>> x = torch.zeros(1, 2)
        >>> EnergySolver(energies.VariablyDimensioned(dim=2)).minimize(x, x).y.round(decimals=1)
        tensor([[1., 1.]])
    """

    def __init__(self, dim: int = 4):
        super().__init__()
        self.dim = check_dim("VariablyDimensioned", dim)
        self.start = tuple(1 - i / dim for i in range(1, dim + 1))
        self.minima = ((1.0,) * dim,)

    def value(self, y):
        offsets = columns(y - 1)
        square = total(i * offset for i, offset in enumerate(offsets, 1)).square()
        return total(offset.square() for offset in offsets) + square + square.square()


class StyblinskiTang(AnalyticEnergy):
    """``1/2 sum_i (y_i^4 - 16 y_i^2 + 5 y_i)``; minimum ``-39.16617 dim`` at ``y_i = -2.903534`` (SB).

    Every entry also has a local minimum at 2.746803.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver, energies
        >>> starts = torch.tensor([[-1.0], [1.0]])
        >>> EnergySolver(energies.StyblinskiTang(dim=1)).minimize(torch.zeros(2, 1), starts).y.round(decimals=3)
        tensor([[-2.9040],
                [ 2.7470]])
    """

    def __init__(self, dim: int = 2):
        super().__init__()
        self.dim = check_dim("StyblinskiTang", dim)
        self.start = (-1.0,) * dim
        self.minima = ((-2.903534027771177,) * dim,)
        self.minimum = -39.16616570377142 * dim

    def value(self, y):
        square = y.square()
        return total((0.5 * (square.square() - 16 * square + 5 * y)).unbind(1))


class Rastrigin(AnalyticEnergy):
    """``10 dim + sum_i (y_i^2 - 10 cos(2 pi y_i))``; minimum 0 at the origin, local ones near integer points (SB).

    Examples:
        >>> import torch
        >>> from energysolve.energies import Rastrigin
        >>> Rastrigin()(torch.zeros(2, 2), torch.tensor([[0.0, 0.0], [0.995, 0.0]])).round(decimals=2)  # at two minima
        tensor([0.0000, 0.9900])
    """

    def __init__(self, dim: int = 2):
        super().__init__()
        self.dim = check_dim("Rastrigin", dim)
        self.start = (0.3,) * dim
        self.minima = ((0.0,) * dim,)

    def value(self, y):
        return total((10 + y.square() - 10 * (2 * math.pi * y).cos()).unbind(1))


def columns(y: Float[Tensor, "batch dim"]) -> tuple[Tensor, ...]:
    """The columns, each contiguous: elementwise functions round strided memory differently, by batch size."""
    return y.t().contiguous().unbind()


def total(terms: Iterable[Tensor]) -> Tensor:
    """The sum, in an order that does not depend on the batch size."""
    return reduce(torch.add, terms)


def check_dim(owner: str, dim: int) -> int:
    """``dim`` itself, or a ValueError if it is not positive."""
    if dim < 1:
        raise ValueError(f"{owner} needs a dimension of 1 or more, got {dim}.")
    return dim
