"""Tasks on matrices: completion and inverse (Section 4.3 and Appendix C of the paper)."""

from dataclasses import dataclass, field

import torch

from ..checks import check_nonnegative, check_whole
from ..initializers import Initializer, Uniform
from .base import Task


@dataclass(frozen=True)
class Completion(Task):
    """Complete a noisy matrix of low rank of which half the entries are observed.

    The matrix is ``M = U Vᵀ / scale + noise N(0, 1)`` with standard normal factors; ``scale`` is 20, or 5 for
    ``"harder"`` problems, as in the authors' release. Each entry is observed with probability 1/2. ``x`` is ``(batch,
    rows, columns)``, with zeros in place of unobserved entries; the target is all of ``M``, noise included. The error
    is the mean squared error.

    Args:
        rows: number of rows; 20 in the paper.
        columns: number of columns; 20 in the paper.
        rank: rank of ``U Vᵀ``; 10 in the paper.
        noise: standard deviation of the noise; 0.1 in the paper.

    Raises:
        ValueError: if an argument is out of range.

    Examples:
        >>> import torch
        >>> from energysolve.tasks import Completion
        >>> x, target = Completion(rows=6, columns=4, rank=2).sample(5, "harder")
        >>> x.shape, torch.equal(x[x != 0], target[x != 0])  # observed entries are right, noise included
        (torch.Size([5, 6, 4]), True)
    """

    rows: int = 20
    columns: int = 20
    rank: int = 10
    noise: float = 0.1
    init: Initializer = field(init=False, repr=False, compare=False)
    difficulties = ("same", "harder")

    def __post_init__(self):
        check_whole("Completion", least=1, rows=self.rows, columns=self.columns, rank=self.rank)
        check_nonnegative("Completion", noise=self.noise)
        object.__setattr__(self, "init", Uniform((self.rows, self.columns)))

    def scale(self, difficulty: str) -> float:
        """The divisor of ``U Vᵀ``."""
        self.check_difficulty(difficulty)
        return 20.0 if difficulty == "same" else 5.0

    def sample(self, batch, difficulty="same", generator=None, device=None):
        scale = self.scale(difficulty)

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(batch, *shape, generator=generator, device=device)

        target = normal(self.rows, self.rank) @ normal(self.rank, self.columns) / scale
        target = target + self.noise * normal(self.rows, self.columns)
        seen = torch.rand(target.shape, generator=generator, device=device) < 0.5
        return torch.where(seen, target, 0.0), target

    def error(self, solution, target):
        return (solution.y - target).square().flatten(1).mean(-1)

    def floors(self, difficulty, x, target, mean_target=None):
        """Also ``"copy"``: the observed entries, and zero elsewhere; on average ``(rank / scale² + noise²) / 2``."""
        return super().floors(difficulty, x, target) | {"copy": self.error_of(x, x, target)}


@dataclass(frozen=True)
class Inverse(Task):
    """Invert a symmetric, positive definite matrix.

    The matrix is ``M = S + Sᵀ + shift I`` with ``S = R Rᵀ`` and the entries of ``R`` uniform in (-1, 1); ``shift`` is
    0.5, or 0.1 for ``"harder"`` problems, which are less well conditioned, as in the authors' release. ``x`` and the
    target are ``(batch, size, size)``. The error is the mean squared error.

    Args:
        size: rows and columns of a matrix; 20 in the paper.

    Raises:
        ValueError: if the size is not a whole number of 1 or more.

    Examples:
        >>> import torch
        >>> from energysolve.tasks import Inverse
        >>> x, target = Inverse(size=3).sample(5)
        >>> torch.allclose(x @ target, torch.eye(3).expand(5, 3, 3), atol=1e-3)
        True
    """

    size: int = 20
    init: Initializer = field(init=False, repr=False, compare=False)
    difficulties = ("same", "harder")

    def __post_init__(self):
        check_whole("Inverse", least=1, size=self.size)
        object.__setattr__(self, "init", Uniform((self.size, self.size)))

    def sample(self, batch, difficulty="same", generator=None, device=None):
        self.check_difficulty(difficulty)
        shift = 0.5 if difficulty == "same" else 0.1
        roots = torch.rand(batch, self.size, self.size, generator=generator, device=device) * 2 - 1
        x = 2 * roots @ roots.mT + shift * torch.eye(self.size, device=device)
        # In double precision, so that the answer is exact for x; unchecked, since a check would synchronize with a GPU.
        return x, torch.linalg.inv_ex(x.double())[0].to(x.dtype)

    def error(self, solution, target):
        return (solution.y - target).square().flatten(1).mean(-1)

    def floors(self, difficulty, x, target, mean_target=None):
        """Also ``"training mean"``, the mean target of training problems, and ``"own mean"``, that of harder problems.

        A method that is trained on ``"same"`` problems does not know the mean of another difficulty.
        """
        errors = super().floors(difficulty, x, target)
        if mean_target is not None:
            training = self.difficulties[0]
            means = {"training mean": training} | ({} if difficulty == training else {"own mean": difficulty})
            for name, of in means.items():
                errors[name] = self.error_of(mean_target(of).to(target).expand_as(target), x, target)
        return errors
