"""The 35 test problems of Moré, Garbow and Hillstrom, Testing Unconstrained Optimization Software, ACM TOMS 7 (1981).

Each is a sum of squares. Problems of variable dimension come in the sizes for which the paper states minima, else in 10
variables (12 for number 22).

Examples:
    >>> for problem in more_garbow_hillstrom():
    ...     y0 = problem.starts((1, 10, 100))
    ...     solution = EnergySolver(problem.energy, LBFGS(), max_steps=1000).minimize(y0, y0)
    ...     print(problem.name, solution.energy - problem.minimum)
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..energy import LeastSquares

Residuals = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class SumOfSquares:
    """One problem of the collection. The paper's objective is the sum of squares, twice the energy.

    Attributes:
        number: in the paper.
        name: unique, such as ``"watson-9"``.
        residuals: ``(batch, n) -> (batch, m)``, row-wise, in the dtype of its argument.
        start: the standard start, n numbers.
        minimum: the lowest known energy.
        others: energies of further local minima, or limits at infinity, where the paper states them.

    The paper gives six digits of the minima; those here were refined by Levenberg-Marquardt.
    """

    number: int
    name: str
    residuals: Residuals
    start: tuple[float, ...]
    minimum: float
    others: tuple[float, ...] = ()

    @property
    def energy(self) -> LeastSquares:
        """Half the sum of squares of ``y``, whatever ``x`` is; ``x`` needs one row per sample."""
        return LeastSquares(lambda x, y: self.residuals(y))

    def starts(self, factors: Sequence[float] = (1.0,)) -> Float[Tensor, "factors n"]:
        """The standard start times each factor, in float64; for a start at zero, the factor itself, except for 1."""
        start = torch.tensor(self.start, dtype=torch.float64)
        return torch.stack([start * f if start.any() or f == 1 else torch.full_like(start, f) for f in factors])


def more_garbow_hillstrom() -> tuple[SumOfSquares, ...]:
    """The problems, in the order of the paper; several sizes of numbers 20, 23, 24 and 35."""
    return (*_FIXED, *_variable())


def _columns(y: Tensor) -> tuple[Tensor, ...]:
    """The variables, each ``(batch, 1)``."""
    return y.split(1, 1)


def _join(*parts: Tensor) -> Tensor:
    return torch.cat(parts, 1)


def _count(y: Tensor, first: int, last: int) -> Tensor:
    """The whole numbers from ``first`` to ``last``, in the dtype of ``y``."""
    return torch.arange(first, last + 1, dtype=y.dtype, device=y.device)


def _rosenbrock(y):
    a, b = y[:, ::2], y[:, 1::2]
    return _join(10 * (b - a.square()), 1 - a)


def _freudenstein_roth(y):
    a, b = _columns(y)
    return _join(-13 + a + ((5 - b) * b - 2) * b, -29 + a + ((b + 1) * b - 14) * b)


def _powell_badly_scaled(y):
    a, b = _columns(y)
    return _join(1e4 * a * b - 1, (-a).exp() + (-b).exp() - 1.0001)


def _brown_badly_scaled(y):
    a, b = _columns(y)
    return _join(a - 1e6, b - 2e-6, a * b - 2)


def _beale(y):
    a, b = _columns(y)
    return y.new_tensor([1.5, 2.25, 2.625]) - a * (1 - _join(b, b.square(), b * b.square()))


def _jennrich_sampson(y):
    a, b = _columns(y)
    i = _count(y, 1, 10)
    return 2 + 2 * i - ((i * a).exp() + (i * b).exp())


def _helical_valley(y):
    a, b, c = _columns(y)
    # The angle in turns, in (-1/4, 3/4]; at a = 0 it is a quarter with the sign of b.
    turns = torch.atan2(b, a) / (2 * math.pi)
    turns = torch.where((a < 0) & (b < 0), turns + 1, turns)
    return _join(10 * (c - 10 * turns), 10 * ((a.square() + b.square()).sqrt() - 1), c)


_BARD = (0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.10, 4.39)


def _bard(y):
    a, b, c = _columns(y)
    u = _count(y, 1, 15)
    v = 16 - u
    return y.new_tensor(_BARD) - (a + u / (v * b + torch.minimum(u, v) * c))


_GAUSSIAN = (0.0009, 0.0044, 0.0175, 0.0540, 0.1295, 0.2420, 0.3521)


def _gaussian(y):
    a, b, c = _columns(y)
    t = (8 - _count(y, 1, 15)) / 2
    return a * (-b * (t - c).square() / 2).exp() - y.new_tensor((*_GAUSSIAN, 0.3989, *reversed(_GAUSSIAN)))


_MEYER = (34780, 28610, 23650, 19630, 16370, 13720, 11540, 9744, 8261, 7030, 6005, 5147, 4427, 3820, 3307, 2872)


def _meyer(y):
    a, b, c = _columns(y)
    return a * (b / (45 + 5 * _count(y, 1, 16) + c)).exp() - y.new_tensor(_MEYER)


def _gulf(y):
    """With ``|y_i - x_2|``; the paper prints ``|y_i m i x_2|`` by mistake."""
    a, b, c = _columns(y)
    t = _count(y, 1, 99) / 100
    return (-((25 + (-50 * t.log()) ** (2 / 3) - b).abs() ** c) / a).exp() - t


def _box(y):
    a, b, c = _columns(y)
    t = _count(y, 1, 10) / 10
    return (-t * a).exp() - (-t * b).exp() - c * ((-t).exp() - (-10 * t).exp())


def _powell_singular(y):
    a, b, c, d = (y[:, k::4] for k in range(4))
    squares = (b - 2 * c).square(), math.sqrt(10) * (a - d).square()
    return _join(a + 10 * b, math.sqrt(5) * (c - d), *squares)


def _wood(y):
    a, b, c, d = _columns(y)
    valleys = 10 * (b - a.square()), 1 - a, math.sqrt(90) * (d - c.square()), 1 - c
    return _join(*valleys, math.sqrt(10) * (b + d - 2), (b - d) / math.sqrt(10))


_KOWALIK = (0.1957, 0.1947, 0.1735, 0.1600, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246)
_KOWALIK_U = (4.0, 2.0, 1.0, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625)


def _kowalik_osborne(y):
    a, b, c, d = _columns(y)
    u = y.new_tensor(_KOWALIK_U)
    return y.new_tensor(_KOWALIK) - a * (u.square() + u * b) / (u.square() + u * c + d)


def _brown_dennis(y):
    a, b, c, d = _columns(y)
    t = _count(y, 1, 20) / 5
    return (a + t * b - t.exp()).square() + (c + d * t.sin() - t.cos()).square()


_OSBORNE_1 = (
    *(0.844, 0.908, 0.932, 0.936, 0.925, 0.908, 0.881, 0.850, 0.818, 0.784, 0.751, 0.718, 0.685, 0.658, 0.628, 0.603),
    *(0.580, 0.558, 0.538, 0.522, 0.506, 0.490, 0.478, 0.467, 0.457, 0.448, 0.438, 0.431, 0.424, 0.420, 0.414, 0.411),
    0.406,
)


def _osborne_1(y):
    a, b, c, d, e = _columns(y)
    t = 10 * _count(y, 0, 32)
    return y.new_tensor(_OSBORNE_1) - (a + b * (-t * d).exp() + c * (-t * e).exp())


def _biggs(y):
    a, b, c, d, e, f = _columns(y)
    t = _count(y, 1, 13) / 10
    data = (-t).exp() - 5 * (-10 * t).exp() + 3 * (-4 * t).exp()
    return c * (-t * a).exp() - d * (-t * b).exp() + f * (-t * e).exp() - data


_OSBORNE_2 = (
    *(1.366, 1.191, 1.112, 1.013, 0.991, 0.885, 0.831, 0.847, 0.786, 0.725, 0.746, 0.679, 0.608, 0.655, 0.616, 0.606),
    *(0.602, 0.626, 0.651, 0.724, 0.649, 0.649, 0.694, 0.644, 0.624, 0.661, 0.612, 0.558, 0.533, 0.495, 0.500, 0.423),
    *(0.395, 0.375, 0.372, 0.391, 0.396, 0.405, 0.428, 0.429, 0.523, 0.562, 0.607, 0.653, 0.672, 0.708, 0.633, 0.668),
    *(0.645, 0.632, 0.591, 0.559, 0.597, 0.625, 0.739, 0.710, 0.729, 0.720, 0.636, 0.581, 0.428, 0.292, 0.162, 0.098),
    0.054,
)


def _osborne_2(y):
    height, width, centre = y[:, :4, None], y[:, 4:8, None], y[:, 8:, None]
    t = _count(y, 0, 64) / 10
    exponent = torch.cat([t.expand(len(y), 1, 65), (t - centre).square()], 1)
    return y.new_tensor(_OSBORNE_2) - (height * (-exponent * width).exp()).sum(1)


def _watson(y):
    n = y.shape[1]
    powers = (_count(y, 1, 29) / 29) ** _count(y, 0, n - 1).unsqueeze(1)
    rise = (y[:, 1:, None] * _count(y, 1, n - 1).unsqueeze(1) * powers[:-1]).sum(1)
    a, b = y[:, :1], y[:, 1:2]
    return _join(rise - (y[:, :, None] * powers).sum(1).square() - 1, a, b - a.square() - 1)


def _total(terms: Tensor) -> Tensor:
    return terms.sum(1, keepdim=True)


def _penalty_1(y):
    return _join(math.sqrt(1e-5) * (y - 1), _total(y.square()) - 0.25)


def _penalty_2(y):
    n = y.shape[1]
    exponentials, i = (y / 10).exp(), _count(y, 2, n)
    pairs = exponentials[:, 1:] + exponentials[:, :-1] - ((i / 10).exp() + ((i - 1) / 10).exp())
    singles = exponentials[:, 1:] - math.exp(-0.1)
    last = _total(_count(y, 1, n).flip(0) * y.square()) - 1
    return _join(y[:, :1] - 0.2, math.sqrt(1e-5) * pairs, math.sqrt(1e-5) * singles, last)


def _variably_dimensioned(y):
    weighted = _total(_count(y, 1, y.shape[1]) * (y - 1))
    return _join(y - 1, weighted, weighted.square())


def _trigonometric(y):
    n, cosines = y.shape[1], y.cos()
    return n - _total(cosines) + _count(y, 1, n) * (1 - cosines) - y.sin()


def _brown_almost_linear(y):
    return _join(y[:, :-1] + _total(y) - (y.shape[1] + 1), y.prod(1, keepdim=True) - 1)


def _neighbours(y: Tensor) -> tuple[Tensor, Tensor]:
    """The variables before and after each, zero beyond the ends."""
    padded = torch.nn.functional.pad(y, (1, 1))
    return padded[:, :-2], padded[:, 2:]


def _boundary_value(y):
    before, after = _neighbours(y)
    h = 1 / (y.shape[1] + 1)
    t = h * _count(y, 1, y.shape[1])
    return 2 * y - before - after + h**2 * (y + t + 1) ** 3 / 2


def _integral_equation(y):
    h = 1 / (y.shape[1] + 1)
    t = h * _count(y, 1, y.shape[1])
    cubes = (y + t + 1) ** 3
    below, above = (t * cubes).cumsum(1), (1 - t) * cubes
    return y + h * ((1 - t) * below + t * (_total(above) - above.cumsum(1))) / 2


def _broyden_tridiagonal(y):
    before, after = _neighbours(y)
    return (3 - 2 * y) * y - before - 2 * after + 1


def _broyden_banded(y):
    near = torch.nn.functional.pad(y * (1 + y), (5, 1))
    others = torch.stack([near[:, k : k + y.shape[1]] for k in (0, 1, 2, 3, 4, 6)]).sum(0)  # five before, one after
    return y * (2 + 5 * y.square()) + 1 - others


def _linear_full_rank(m: int) -> Residuals:
    def residuals(y):
        mean = 2 / m * _total(y) + 1
        return _join(y - mean, -mean.expand(-1, m - y.shape[1]))

    return residuals


def _linear_rank_1(m: int) -> Residuals:
    def residuals(y):
        return _count(y, 1, m) * _total(_count(y, 1, y.shape[1]) * y) - 1

    return residuals


def _linear_rank_1_zeros(m: int) -> Residuals:
    def residuals(y):
        inner = _total(_count(y, 2, y.shape[1] - 1) * y[:, 1:-1])
        return torch.nn.functional.pad(_count(y, 1, m - 2) * inner, (1, 1)) - 1

    return residuals


def _chebyquad(y):
    """Shifted Chebyshev polynomials by their recurrence: differentiable outside of [0, 1] too."""
    n, x = y.shape[1], 2 * y - 1
    last, this, means = torch.ones_like(x), x, []
    for _ in range(n):
        means.append(_total(this) / n)
        last, this = this, 2 * x * this - last
    integrals = [0.0 if i % 2 else -1 / (i * i - 1) for i in range(1, n + 1)]
    return _join(*means) - y.new_tensor(integrals)


_FIXED = (
    SumOfSquares(1, "rosenbrock", _rosenbrock, (-1.2, 1.0), 0.0),
    SumOfSquares(2, "freudenstein-roth", _freudenstein_roth, (0.5, -2.0), 0.0, (24.49212683962,)),
    SumOfSquares(3, "powell-badly-scaled", _powell_badly_scaled, (0.0, 1.0), 0.0),
    SumOfSquares(4, "brown-badly-scaled", _brown_badly_scaled, (1.0, 1.0), 0.0),
    SumOfSquares(5, "beale", _beale, (1.0, 1.0), 0.0),
    SumOfSquares(6, "jennrich-sampson", _jennrich_sampson, (0.3, 0.4), 124.362182355615 / 2),
    SumOfSquares(7, "helical-valley", _helical_valley, (-1.0, 0.0, 0.0), 0.0),
    SumOfSquares(8, "bard", _bard, (1.0, 1.0, 1.0), 4.107438653289485e-3, (8.71434666666667,)),
    SumOfSquares(9, "gaussian", _gaussian, (0.4, 1.0, 0.0), 1.127932769619e-8 / 2),
    SumOfSquares(10, "meyer", _meyer, (0.02, 4000.0, 250.0), 87.9458551707 / 2),
    SumOfSquares(11, "gulf", _gulf, (5.0, 2.5, 0.15), 0.0),
    SumOfSquares(12, "box", _box, (0.0, 10.0, 20.0), 0.0),
    SumOfSquares(13, "powell-singular", _powell_singular, (3.0, -1.0, 0.0, 1.0), 0.0),
    SumOfSquares(14, "wood", _wood, (-3.0, -1.0, -3.0, -1.0), 0.0),
    SumOfSquares(
        15,
        "kowalik-osborne",
        _kowalik_osborne,
        (0.25, 0.39, 0.415, 0.39),
        3.07505603849237e-4 / 2,
        (1.02734304869546e-3 / 2,),
    ),
    SumOfSquares(16, "brown-dennis", _brown_dennis, (25.0, 5.0, -5.0, -1.0), 85822.2016263563 / 2),
    SumOfSquares(17, "osborne-1", _osborne_1, (0.5, 1.5, -1.0, 0.01, 0.02), 5.464894697482e-5 / 2),
    SumOfSquares(18, "biggs", _biggs, (1.0, 2.0, 1.0, 1.0, 1.0, 1.0), 0.0, (5.65565e-3 / 2,)),
    SumOfSquares(
        19, "osborne-2", _osborne_2, (1.3, 0.65, 0.65, 0.7, 0.6, 3.0, 5.0, 7.0, 2.0, 4.5, 5.5), 2.00688681467739e-2
    ),
)


def _each(rule: Callable[[int], float], n: int = 10) -> tuple[float, ...]:
    return tuple(map(rule, range(1, n + 1)))


_WATSON = {6: 2.28767005355231e-3, 9: 1.39976013809702e-6, 12: 4.72238110435319e-10}
_PENALTY_1 = {4: 2.24997750089994e-5, 10: 7.08765146709037e-5}
_PENALTY_2 = {4: 9.37629300735545e-6, 10: 2.93660537456746e-4}
_CHEBYQUAD = {8: 3.51687372567793e-3, 9: 0.0, 10: 4.77271369637541e-3}


def _variable() -> list[SumOfSquares]:
    def sized(
        number: int, name: str, residuals: Residuals, start: Callable[[int, int], float], values: dict[int, float]
    ):
        return [
            SumOfSquares(number, f"{name}-{n}", residuals, _each(lambda j, n=n: start(j, n), n), value / 2)
            for n, value in values.items()
        ]

    grid = _each(lambda j: j / 11 * (j / 11 - 1))
    ones, n, m = _each(lambda j: 1.0), 10, 20
    return [
        *sized(20, "watson", _watson, lambda j, n: 0.0, _WATSON),
        SumOfSquares(21, "extended-rosenbrock", _rosenbrock, (-1.2, 1.0) * 5, 0.0),
        SumOfSquares(22, "extended-powell-singular", _powell_singular, (3.0, -1.0, 0.0, 1.0) * 3, 0.0),
        *sized(23, "penalty-1", _penalty_1, lambda j, n: float(j), _PENALTY_1),
        *sized(24, "penalty-2", _penalty_2, lambda j, n: 0.5, _PENALTY_2),
        SumOfSquares(25, "variably-dimensioned", _variably_dimensioned, _each(lambda j: 1 - j / 10), 0.0),
        SumOfSquares(26, "trigonometric", _trigonometric, _each(lambda j: 0.1), 0.0, (2.79505612187847e-5 / 2,)),
        SumOfSquares(27, "brown-almost-linear", _brown_almost_linear, _each(lambda j: 0.5), 0.0, (0.5,)),
        SumOfSquares(28, "boundary-value", _boundary_value, grid, 0.0),
        SumOfSquares(29, "integral-equation", _integral_equation, grid, 0.0),
        SumOfSquares(30, "broyden-tridiagonal", _broyden_tridiagonal, _each(lambda j: -1.0), 0.0),
        SumOfSquares(31, "broyden-banded", _broyden_banded, _each(lambda j: -1.0), 0.0),
        SumOfSquares(32, "linear-full-rank", _linear_full_rank(m), ones, (m - n) / 2),
        SumOfSquares(33, "linear-rank-1", _linear_rank_1(m), ones, m * (m - 1) / (8 * m + 4)),
        SumOfSquares(34, "linear-rank-1-zeros", _linear_rank_1_zeros(m), ones, (m * m + 3 * m - 6) / (8 * m - 12)),
        *sized(35, "chebyquad", _chebyquad, lambda j, n: j / (n + 1), _CHEBYQUAD),
    ]
