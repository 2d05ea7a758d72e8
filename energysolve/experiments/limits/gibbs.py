"""The posterior mean of a noisy low-rank matrix with some observed entries, by Gibbs sampling.

The model is that of `energysolve.tasks.Completion`: ``M = U Vᵀ / scale + noise N(0, 1)`` with standard normal factors.
No estimate from the observed entries has a smaller mean squared error than the posterior mean, so its error is the
limit of the task. Given one factor, the rows of the other are independent Gaussians: a sweep draws U given V, then V
given U (Salakhutdinov and Mnih, "Bayesian probabilistic matrix factorization", 2008, with known hyperparameters).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ...checks import check_nonnegative, check_whole


@dataclass(frozen=True, eq=False)
class PosteriorMean:
    """Estimates of a posterior mean by independent chains.

    Attributes:
        sweeps: increasing numbers of sweeps after which estimates were noted; the last is the total.
        estimates: each chain's mean after each of these, ``(len(sweeps), chains, batch, rows, columns)``; observed
            entries are as observed.
        variance: posterior variance of the entries, with noise, ``(batch, rows, columns)``; zero where observed. Its
            mean is the expected error of the exact posterior mean.
        r_hat: split R-hat of the averaged values, ``(batch, rows, columns)`` (Gelman et al., "Bayesian data analysis",
            3rd edition, Section 11.4); 1 where all chains agree, and for observed entries.
    """

    sweeps: tuple[int, ...]
    estimates: Float[Tensor, "noted chains batch rows columns"]
    variance: Float[Tensor, "batch rows columns"]
    r_hat: Float[Tensor, "batch rows columns"]

    @property
    def mean(self) -> Float[Tensor, "batch rows columns"]:
        """The estimate: the mean of all chains over all sweeps."""
        return self.estimates[-1].mean(0)

    def chain_errors(self, target: Float[Tensor, "batch rows columns"]) -> Float[Tensor, "noted chains batch"]:
        """Mean squared error of each chain's own estimate."""
        return (self.estimates - target).square().mean((-1, -2))

    def error(self, target: Float[Tensor, "batch rows columns"]) -> Float[Tensor, "noted batch"]:
        """Mean squared error of the mean of the chains; its expectation exceeds that of the exact posterior mean."""
        return (self.estimates.mean(1) - target).square().mean((-1, -2))

    def monte_carlo_variance(self) -> Float[Tensor, "noted batch"]:
        """Variance of the mean of the chains, estimated from their differences and averaged over the entries.

        It is the expected excess of `error` over the error of the exact posterior mean, once the chains are independent
        of their starting points: ``error(target) - monte_carlo_variance()`` is unbiased.
        """
        return self.estimates.var(1).mean((-1, -2)) / self.estimates.shape[1]


def conditional(
    other: Float[Tensor, "*chains n rank"],
    x: Float[Tensor, "*batch m n"],
    seen: Bool[Tensor, "*batch m n"],
    scale: float,
    noise: float,
) -> tuple[Float[Tensor, "*chains m rank"], Float[Tensor, "*chains m rank rank"]]:
    """The distribution of one factor, given the other and the observed entries.

    Args:
        other: the given factor, one row per column of ``x``.
        x: the matrix; unobserved entries are ignored.
        seen: mask of the observed entries.
        scale: divisor of the product of the factors.
        noise: standard deviation, positive.

    Returns:
        The mean of each row, and the lower Cholesky factor of its precision, the inverse of its covariance.
    """
    root, shift = _precision_root(other, x, seen, scale, noise)
    return torch.linalg.solve_triangular(root.mT, shift, upper=True).squeeze(-1), root


def posterior_mean(
    x: Float[Tensor, "batch rows columns"],
    seen: Bool[Tensor, "batch rows columns"],
    *,
    scale: float,
    noise: float,
    rank: int,
    sweeps: int,
    burn_in: int,
    chains: int = 4,
    generator: torch.Generator | None = None,
    start: Float[Tensor, "batch columns rank"] | None = None,
) -> PosteriorMean:
    """The posterior mean of low-rank matrices, given some of their entries; with the device and precision of ``x``.

    A chain does not average its draws of U Vᵀ but their expectations given V and given U, which have the same mean and
    a smaller variance (Rao-Blackwell).

    Args:
        x: the matrices; unobserved entries are ignored.
        seen: mask of the observed entries.
        scale: divisor of the product of the factors, positive.
        noise: standard deviation of the noise, positive.
        rank: rank of the product.
        sweeps: number of sweeps to average over, 4 or more.
        burn_in: sweeps before these, after which chains should not depend on their starting points.
        chains: independent chains per matrix, 2 or more.
        generator: source of randomness, on the device of ``x``.
        start: V at which all chains start; by default each starts at a draw from the prior. Chains that start at the
            true factors sample from the posterior from the first sweep on, but use the answer: the error of their means
            approaches the limit from below, that of the others from above.

    Raises:
        ValueError: for a scale or noise that is not positive, or too few sweeps or chains.
    """
    _check(scale, noise, rank=rank, sweeps=sweeps, burn_in=burn_in, chains=chains)
    batch, rows, columns = x.shape
    x = torch.where(seen, x, 0.0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(chains, batch, *shape, generator=generator, device=x.device, dtype=x.dtype)

    v = normal(columns, rank) if start is None else start.to(x.dtype).expand(chains, -1, -1, -1)
    halves = _Moments(), _Moments()
    draws = _Moments()
    milestones, estimates = _milestones(sweeps), []
    for sweep in range(1 - burn_in, sweeps + 1):
        u, u_mean = _draw(v, x, seen, scale, noise, normal(rows, rank, 1))
        smooth = u_mean @ v.mT
        v, v_mean = _draw(u, x.mT, seen.mT, scale, noise, normal(columns, rank, 1))
        if sweep < 1:
            continue
        halves[sweep > sweeps // 2].add((smooth + u @ v_mean.mT) / (2 * scale))
        draws.add(u @ v.mT / scale)
        if sweep in milestones:
            estimates.append(torch.where(seen, x, _joint_mean(*halves)))
    spread = draws.variance().mean(0) + draws.mean.var(0) + noise**2
    return PosteriorMean(
        sweeps=milestones,
        estimates=torch.stack(estimates),
        variance=torch.where(seen, 0.0, spread),
        r_hat=torch.where(seen, 1.0, _split_r_hat(*halves)),
    )


class _Moments:
    """Running mean and variance, by Welford's recurrence: sums of squares would lose digits in float32."""

    def __init__(self):
        self.count = 0

    def add(self, values: Tensor) -> None:
        self.count += 1
        if self.count == 1:
            self.mean, self._squares = values.clone(), torch.zeros_like(values)
            return
        difference = values - self.mean
        self.mean.add_(difference, alpha=1 / self.count)
        self._squares.addcmul_(difference, values - self.mean)

    def variance(self) -> Tensor:
        return self._squares / (self.count - 1)


def _draw(other: Tensor, x: Tensor, seen: Tensor, scale: float, noise: float, normal: Tensor) -> tuple[Tensor, Tensor]:
    """A draw of one factor given the other, and the mean of its distribution."""
    root, shift = _precision_root(other, x, seen, scale, noise)
    # The mean is L⁻ᵀ shift, and L⁻ᵀ times a standard normal vector has the covariance (L Lᵀ)⁻¹.
    both = torch.linalg.solve_triangular(root.mT, torch.cat([shift + normal, shift], -1), upper=True)
    return both[..., 0], both[..., 1]


def _precision_root(other: Tensor, x: Tensor, seen: Tensor, scale: float, noise: float) -> tuple[Tensor, Tensor]:
    """The Cholesky factor L of each row's precision, and L⁻¹ (L Lᵀ) mean as a column."""
    design = other / (scale * noise)
    rank = other.shape[-1]
    outer = (design.unsqueeze(-1) * design.unsqueeze(-2)).flatten(-2)
    precision = (seen.to(x.dtype) @ outer).unflatten(-1, (rank, rank))
    precision.diagonal(dim1=-1, dim2=-2).add_(1)
    # Unchecked, since a check would synchronize with a GPU: the smallest eigenvalue is at least 1.
    root = torch.linalg.cholesky_ex(precision)[0]
    values = torch.where(seen, x, 0.0) / noise @ design
    return root, torch.linalg.solve_triangular(root, values.unsqueeze(-1), upper=False)


def _milestones(sweeps: int) -> tuple[int, ...]:
    """Powers of two, and the last sweep."""
    return (*(2**power for power in range(math.ceil(math.log2(sweeps)))), sweeps)


def _joint_mean(first: _Moments, second: _Moments) -> Tensor:
    if not second.count:
        return first.mean.clone()
    return (first.mean * first.count + second.mean * second.count) / (first.count + second.count)


def _split_r_hat(first: _Moments, second: _Moments) -> Tensor:
    """R-hat of the halves of all chains, ``(batch, rows, columns)``; the halves may differ in length by one."""
    means = torch.cat([first.mean, second.mean])
    within = torch.cat([first.variance(), second.variance()]).mean(0)
    length = first.count
    # An entry with no observed entry in its row and column has the expectation zero in every sweep.
    return torch.where(within > 0, ((length - 1) / length + means.var(0) / within).sqrt(), 1.0)


def _check(scale: float, noise: float, *, rank: int, sweeps: int, burn_in: int, chains: int) -> None:
    check_nonnegative("posterior_mean", scale=scale, noise=noise)
    if not (scale and noise):
        raise ValueError(f"posterior_mean needs a positive scale and noise, got {scale!r} and {noise!r}.")
    check_whole("posterior_mean", least=1, rank=rank)
    check_whole("posterior_mean", least=4, sweeps=sweeps)
    check_whole("posterior_mean", least=0, burn_in=burn_in)
    check_whole("posterior_mean", least=2, chains=chains)
