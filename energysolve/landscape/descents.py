"""Solves with all their iterates, and the energies of other candidate answers to the same problems.

The answer to one problem is treated as a vector: the concatenated entries of all leaves of ``y`` that belong to it. So
answers may be vectors, matrices, images, trees of them, or the edges of graphs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..layout import Dense, Layout, select_problems
from ..ragged import rows_select
from ..recorders import Nothing, Path, Trajectory
from ..solution import Solution
from ..solver import EnergySolver, same_to_rounding
from ..trees import tree_leaves, tree_unflatten

_ENTRIES = 2**21
"""The most entries of candidates that are evaluated together; bounds the memory."""


@dataclass(frozen=True, eq=False)
class DescentPath:
    """A solve with all its iterates, see `descent`.

    Attributes:
        solver: the solver.
        x: the problems.
        layout: the layout of the answers.
        solution: the solution, with a `Path` as its record.

    Examples:
        >>> import torch
        >>> from energysolve import SGD, EnergySolver
        >>> from energysolve.landscape import descent
        >>> solver = EnergySolver(lambda x, y: (y - x).square().sum(-1) / 2, SGD(0.5), max_steps=2)
        >>> path = descent(solver, torch.ones(1, 2), torch.zeros(1, 2))  # a `DescentPath`
        >>> path.iterates(0)
        tensor([[0.0000, 0.0000],
                [0.5000, 0.5000],
                [0.7500, 0.7500]])
        >>> path.energies(0), path.energy_of(torch.tensor([[1.0, 1.0], [1.0, 3.0]]), 0)
        (tensor([1.0000, 0.2500, 0.0625]), tensor([0., 2.]))
    """

    solver: EnergySolver
    x: Any
    layout: Layout
    solution: Solution

    @property
    def problems(self) -> int:
        """The number of problems."""
        return self.layout.batch

    def iterates(self, problem: int = 0) -> Float[Tensor, "iterates size"]:
        """The iterates of one problem, from the initial point to its answer."""
        return torch.stack([self.flat(y, problem) for y in self._record.y[: self._length(problem)]])

    def energies(self, problem: int = 0) -> Float[Tensor, " iterates"]:
        """The energies of the `iterates`, each with the scratchpad of the same step."""
        return torch.stack([energy[problem] for energy in self._record.energy[: self._length(problem)]])

    def squared_errors(self, target: Any, problem: int = 0) -> Float[Tensor, "iterates size"]:
        """The squared error of each element of the answer, at each of the `iterates` (Figure 4 of the paper).

        Args:
            target: the right answers to all the problems.
            problem: the index of the problem.
        """
        return (self.iterates(problem) - self.flat(target, problem)).square()

    def flat(self, y: Any, problem: int = 0) -> Float[Tensor, " size"]:
        """The part of ``y`` that answers one problem, as a vector.

        Raises:
            ValueError: if ``y`` does not have the shapes of the answers of the solve.
        """
        got, expected = tree_leaves((y,)), tree_leaves((self.solution.y,))
        if [leaf.shape for leaf in got] != [leaf.shape for leaf in expected]:
            raise ValueError(f"Got answers of shape {_shapes(got)}; those of the solve have {_shapes(expected)}.")
        _, rows = self.layout.select(self._samples(problem, 1))
        return torch.cat([leaf.detach().index_select(0, rows).flatten() for leaf in got])

    def energy_of(self, candidates: Float[Tensor, "n size"], problem: int = 0) -> Float[Tensor, " n"]:
        """The energies of candidate answers to one problem, with the scratchpad of the solution.

        Candidates are evaluated together, each with a copy of the problem; under layouts other than `Dense`, whose
        samples may differ in size, one at a time.

        Raises:
            ValueError: if the problem cannot be selected from its batch: its answer has a different energy alone, for
                example because the problems share a tensor whose leading size is that of the batch.
        """
        answer = self.flat(self.solution.y, problem)
        rows = torch.cat((answer.unsqueeze(0), candidates.to(answer)))
        most = max(1, _ENTRIES // max(1, rows.shape[1])) if isinstance(self.layout, Dense) else 1
        together = min(most, len(rows))
        rows = torch.cat((rows, rows[-1:].expand(-len(rows) % together, -1)))
        still, x, z = self._alone(problem, together)
        with torch.no_grad():
            parts = [still.minimize(x, self._shaped(part, problem), z).energy for part in rows.split(together)]
        energies = torch.cat(parts)
        self._check_alone(energies[0], problem)
        return energies[1 : len(candidates) + 1]

    def _alone(self, problem: int, copies: int) -> tuple[EnergySolver, Any, Any]:
        """A solver that takes no step, with copies of one problem and of its scratchpad."""
        samples = self._samples(problem, copies)
        layout, rows = self.layout.select(samples)
        still = self.solver.replace(max_steps=0, recorder=Nothing(), layout=lambda x: layout)
        x = select_problems(self.x, samples, self.layout, self.solver.select)
        return still, x, rows_select(self.solution.z, rows)

    def _shaped(self, candidates: Tensor, problem: int) -> Any:
        """Vectors with the structure and shapes of answers to copies of the problem."""
        _, rows = self.layout.select(self._samples(problem, 1))
        leaves = tree_leaves((self.solution.y,))
        parts = candidates.split([len(rows) * leaf.shape[1:].numel() for leaf in leaves], dim=1)
        shaped = [part.reshape(-1, *leaf.shape[1:]).to(leaf) for part, leaf in zip(parts, leaves, strict=True)]
        return tree_unflatten((self.solution.y,), shaped)[0]

    def _check_alone(self, energy: Tensor, problem: int) -> None:
        known = self.solution.energy[problem]
        change = (known - self._record.energy[0][problem]).abs().nan_to_num(0, 0, 0)
        eps = torch.finfo(tree_leaves((self.solution.y,))[0].dtype).eps
        if bool(known.isfinite()) and not same_to_rounding(known, energy, change, eps):
            raise ValueError(
                f"Problem {problem} cannot be selected from its batch: the energy of its answer is {float(known):.6g} "
                f"in the batch and {float(energy):.6g} alone. If the problems share a tensor that is as large as the "
                "batch, give the solver select=, or solve a batch of another size."
            )

    def _samples(self, problem: int, copies: int) -> Tensor:
        self._check(problem)
        return torch.full((copies,), problem, device=self.solution.steps.device)

    def _check(self, problem: int) -> None:
        if not 0 <= problem < self.problems:
            raise ValueError(f"There is no problem {problem}: the batch has {self.problems}, counted from 0.")

    def _length(self, problem: int) -> int:
        self._check(problem)
        return int(self.solution.steps[problem]) + 1

    @property
    def _record(self) -> Path:
        return self.solution.record


def descent(
    solver: EnergySolver,
    x: Any,
    y: Any = None,
    z: Any = None,
    *,
    max_steps: int | None = None,
    generator: torch.Generator | None = None,
) -> DescentPath:
    """Solve problems and record every iterate.

    Args:
        solver: any solver; its recorder is not used.
        x: the problems.
        y: initial answers; by default from the solver's ``init``.
        z: initial scratchpads; by default from the solver's ``scratchpad``.
        max_steps: replaces the solver's ``max_steps``.
        generator: source of random initial answers.

    Raises:
        ValueError: if the batch is empty, or for the reasons of `EnergySolver.minimize`.

    Examples:
        >>> import torch
        >>> from energysolve import SGD, EnergySolver
        >>> from energysolve.landscape import descent
        >>> solver = EnergySolver(lambda x, y: (y - x).square().sum(-1) / 2, SGD(0.5), max_steps=2)
        >>> path = descent(solver, torch.ones(4, 2), torch.zeros(4, 2))  # four problems
        >>> path.problems, path.iterates(0).shape  # the initial point and two steps
        (4, torch.Size([3, 2]))
    """
    layout = solver.layout_of(x)
    if layout.batch == 0:
        raise ValueError("The batch is empty; descent needs at least one problem.")
    recording = solver.replace(recorder=Trajectory())
    with torch.no_grad():
        solution = recording.minimize(x, y, z, max_steps=max_steps, generator=generator)
    return DescentPath(solver, x, layout, solution)


def _shapes(leaves: Sequence[Tensor]) -> str:
    return ", ".join(str(tuple(leaf.shape)) for leaf in leaves)
