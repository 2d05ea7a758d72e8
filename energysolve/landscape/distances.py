"""The energy landscape of a problem: energy against distance to the answer, and slices with the descent through them.

Section 4.3 of the paper, "Energy Landscape", and its Figures 1, 4 and 5. `descent` solves the problems, for any solver;
`energy_by_distance`, `line` and `plane` look at the landscape around its answers. What they return is drawn by
`energysolve.landscape.figures`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..checks import check_whole
from .descents import DescentPath, descent
from .slices import Axes, Coordinates, Principal, Slice, line, plane

__all__ = [
    "CANDIDATES",
    "Axes",
    "Coordinates",
    "DescentPath",
    "EnergyByDistance",
    "Interpolations",
    "Iterates",
    "Noise",
    "Principal",
    "Slice",
    "descent",
    "energy_by_distance",
    "line",
    "plane",
    "spearman",
]

Candidates = Callable[[Tensor, Tensor, "torch.Generator | None"], Tensor]
"""Makes candidates (count, size) of the target (size,), the iterates of the descent (iterates, size), a generator."""


@dataclass(frozen=True)
class Interpolations:
    """Points at equal distances on the line from the target to the initial point of the descent, which it includes.

    Args:
        count: how many.
    """

    count: int = 20

    def __post_init__(self):
        check_whole("Interpolations", least=1, count=self.count)

    def __call__(self, target, iterates, generator):
        shares = torch.arange(1, self.count + 1).to(target) / self.count
        return target + shares[:, None] * (iterates[0] - target)


@dataclass(frozen=True)
class Noise:
    """The target with normal noise, whose root mean square is graded evenly up to that of the initial point's error.

    Args:
        count: how many.
    """

    count: int = 20

    def __post_init__(self):
        check_whole("Noise", least=1, count=self.count)

    def __call__(self, target, iterates, generator):
        largest = (iterates[0] - target).square().mean().sqrt()
        sizes = largest * torch.arange(1, self.count + 1).to(target) / self.count
        device = target.device if generator is None else generator.device
        noise = torch.randn(self.count, len(target), generator=generator, device=device, dtype=target.dtype)
        return target + sizes[:, None] * noise.to(target.device)


@dataclass(frozen=True)
class Iterates:
    """Iterates of the descent at even intervals, the first and the last included.

    Args:
        count: the most.
    """

    count: int = 20

    def __post_init__(self):
        check_whole("Iterates", least=1, count=self.count)

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
"""The kinds of candidates that `energy_by_distance` looks at by default."""


@dataclass(frozen=True, eq=False)
class EnergyByDistance:
    """Energies of candidate answers at different distances from the right one (Figure 5 of the paper).

    Attributes:
        distance: mean squared difference of each candidate from the target.
        energy: of each candidate, less that of the target: the energies of different problems have different offsets.
        problem: the index of the problem that each candidate answers.
        kind: the index in ``kinds`` of each candidate.
        kinds: the names of the kinds of candidates.
        target_energy: the energy of the target of each problem.
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
        path: of the problems, from `descent`.
        target: their right answers.
        candidates: what to evaluate, by name: functions ``(target, iterates, generator) -> (count, size)`` of one
            problem, such as `Interpolations`, `Noise` and `Iterates`.
        generator: for candidates that are drawn at random.

    Raises:
        ValueError: if no candidates are asked for, or ``target`` does not have the shape of the answers.
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
    """Spearman's rank correlation: of the ranks, equal values sharing the average of theirs.

    NaN where it is not defined: one of the two is constant or holds a NaN.
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
