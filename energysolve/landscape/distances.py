"""The energy of candidate answers against their distance from the right answer (Figure 5 of the paper)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..checks import check_whole
from .descents import DescentPath

Candidates = Callable[[Tensor, Tensor, "torch.Generator | None"], Tensor]
"""Makes candidates (count, size) from the target (size,), the iterates of the descent (iterates, size), a generator."""


@dataclass(frozen=True)
class _Counted:
    count: int = 20

    def __post_init__(self):
        check_whole(type(self).__name__, least=1, count=self.count)


@dataclass(frozen=True)
class Interpolations(_Counted):
    """``count`` equidistant points from the target, excluded, to the initial point of the descent, included.

    Examples:
        >>> import torch
        >>> from energysolve.landscape import Interpolations
        >>> target, iterates = torch.zeros(2), torch.tensor([[4.0, 8.0], [0.0, 0.0]])  # from (4, 8) to the target
        >>> Interpolations(count=4)(target, iterates, None)
        tensor([[1., 2.],
                [2., 4.],
                [3., 6.],
                [4., 8.]])
    """

    def __call__(self, target, iterates, generator):
        shares = torch.arange(1, self.count + 1).to(target) / self.count
        return target + shares[:, None] * (iterates[0] - target)


@dataclass(frozen=True)
class Noise(_Counted):
    """The target with normal noise at ``count`` levels, evenly spaced up to the root mean square initial error.

    Examples:
        >>> import torch
        >>> from energysolve.landscape import Noise
        >>> target, iterates = torch.zeros(50_000), torch.full((1, 50_000), 2.0)  # an initial error of 2 everywhere
        >>> Noise(count=4)(target, iterates, None).square().mean(1).sqrt().round(decimals=1)
        tensor([0.5000, 1.0000, 1.5000, 2.0000])
    """

    def __call__(self, target, iterates, generator):
        largest = (iterates[0] - target).square().mean().sqrt()
        sizes = largest * torch.arange(1, self.count + 1).to(target) / self.count
        device = target.device if generator is None else generator.device
        noise = torch.randn(self.count, len(target), generator=generator, device=device, dtype=target.dtype)
        return target + sizes[:, None] * noise.to(target.device)


@dataclass(frozen=True)
class Iterates(_Counted):
    """At most ``count`` iterates of the descent at even intervals, the first and the last included.

    Examples:
        >>> import torch
        >>> from energysolve.landscape import Iterates
        >>> iterates = torch.tensor([[8.0], [4.0], [2.0], [1.0], [0.5]])
        >>> Iterates(count=3)(torch.zeros(1), iterates, None)
        tensor([[8.0000],
                [2.0000],
                [0.5000]])
    """

    def __call__(self, target, iterates, generator):
        count = min(self.count, len(iterates))
        return iterates[torch.linspace(0, len(iterates) - 1, count).round().long().to(iterates.device)]


CANDIDATES: Mapping[str, Candidates] = MappingProxyType(
    {
        "between solution and initial point": Interpolations(),
        "solution with noise": Noise(),
        "iterates of the descent": Iterates(),
    }
)
"""The kinds of candidates that `energy_by_distance` evaluates by default."""


@dataclass(frozen=True, eq=False)
class EnergyByDistance:
    """Energies of candidate answers at different distances from the right one (Figure 5 of the paper).

    Attributes:
        distance: mean squared difference of each candidate from the target.
        energy: energy of each candidate minus that of the target, since each problem has an energy offset of its own.
        problem: the index of the problem that each candidate answers.
        kind: the index in ``kinds`` of each candidate.
        kinds: the names of the kinds of candidates.
        target_energy: the energy of the target of each problem.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver
        >>> from energysolve.landscape import Interpolations, descent, energy_by_distance
        >>> x = torch.ones(1, 2)
        >>> path = descent(EnergySolver(lambda x, y: (y - x).square().sum(-1) / 2), x, torch.zeros(1, 2))
        >>> found = energy_by_distance(path, x, candidates={"on a line": Interpolations(4)})  # an `EnergyByDistance`
        >>> found.distance, found.energy
        (tensor([0.0625, 0.2500, 0.5625, 1.0000]), tensor([0.0625, 0.2500, 0.5625, 1.0000]))
        >>> round(found.rank_correlation, 3)  # the energy rises with the distance
        1.0
    """

    distance: Float[Tensor, " candidates"]
    energy: Float[Tensor, " candidates"]
    problem: Int[Tensor, " candidates"]
    kind: Int[Tensor, " candidates"]
    kinds: tuple[str, ...]
    target_energy: Float[Tensor, " problems"]

    @property
    def rank_correlation(self) -> float:
        """Spearman's rank correlation of distance and relative energy over all the candidates."""
        return spearman(self.distance, self.energy)

    @property
    def rank_correlation_by_problem(self) -> Float[Tensor, " problems"]:
        """Spearman's rank correlation over the candidates of each problem."""
        chosen = [self.problem == problem for problem in range(len(self.target_energy))]
        return torch.tensor([spearman(self.distance[mask], self.energy[mask]) for mask in chosen], dtype=torch.float64)


def energy_by_distance(
    path: DescentPath,
    target: Any,
    *,
    candidates: Mapping[str, Candidates] = CANDIDATES,
    generator: torch.Generator | None = None,
) -> EnergyByDistance:
    """Evaluate candidate answers at different distances from the right ones (Figure 5 of the paper).

    Args:
        path: the result of `descent`.
        target: the right answers to its problems.
        candidates: by name, functions ``(target, iterates, generator) -> (count, size)`` for one problem, such as
            `Interpolations`, `Noise` and `Iterates`.
        generator: source of random candidates.

    Raises:
        ValueError: if ``candidates`` is empty, or ``target`` does not have the shape of the answers.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver
        >>> from energysolve.landscape import descent, energy_by_distance
        >>> solver = EnergySolver(lambda x, y: (y - x).square().sum(-1) / 2)
        >>> x = torch.rand(3, 5)
        >>> found = energy_by_distance(descent(solver, x, torch.zeros(3, 5)), x)
        >>> found.kinds
        ('between solution and initial point', 'solution with noise', 'iterates of the descent')
        >>> found.rank_correlation > 0.99  # of an energy that is the distance
        True
    """
    if not candidates:
        raise ValueError("No candidates: pass at least one kind, such as {'noise': Noise()}.")
    distances, energies, problems, kinds, targets = [], [], [], [], []
    for problem in range(path.problems):
        right, iterates = path.flat(target, problem), path.iterates(problem)
        made = [make(right, iterates, generator) for make in candidates.values()]
        points = torch.cat(made)
        energy = path.energy_of(torch.cat((right.unsqueeze(0), points)), problem)
        distances.append((points - right).square().mean(1))
        energies.append(energy[1:] - energy[0])
        targets.append(energy[0])
        problems.append(torch.full((len(points),), problem))
        kinds.append(torch.repeat_interleave(torch.tensor([len(part) for part in made])))
    return EnergyByDistance(
        distance=torch.cat(distances),
        energy=torch.cat(energies),
        problem=torch.cat(problems).to(targets[0].device),
        kind=torch.cat(kinds).to(targets[0].device),
        kinds=tuple(candidates),
        target_energy=torch.stack(targets),
    )


def spearman(a: Float[Tensor, " n"], b: Float[Tensor, " n"]) -> float:
    """Spearman's rank correlation, with average ranks for ties; NaN if one of the two is constant or contains a NaN.

    Examples:
        >>> import torch
        >>> from energysolve.landscape import spearman
        >>> a = torch.tensor([1.0, 2.0, 3.0, 4.0])
        >>> round(spearman(a, a.exp()), 3), round(spearman(a, -a), 3)
        (1.0, -1.0)
    """
    if bool(a.isnan().any() | b.isnan().any()):
        return float("nan")
    ranks = torch.stack([_ranks(a), _ranks(b)])
    ranks = ranks - ranks.mean(1, keepdim=True)
    return float((ranks[0] @ ranks[1]) / (ranks[0].norm() * ranks[1].norm()))


def _ranks(values: Tensor) -> Tensor:
    _, position, counts = values.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts - 1) / 2)[position]
