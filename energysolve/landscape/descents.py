"""Solves with all their iterates, and the energies of other candidate answers to the same problems.

One problem of a batch at a time, with its answer as one vector: the entries of all the leaves of ``y`` that belong to
it, one after the other. So answers may be vectors, matrices, images, trees of them, or the edges of graphs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..energy import Energy
from ..engine.objective import Objective
from ..layout import Dense, Layout, layout_of, select_problems
from ..recorders import Path, Trajectory
from ..solution import Solution
from ..solver import EnergySolver
from ..trees import tree_leaves, tree_unflatten

_ENTRIES = 2**21
"""How many entries of candidates are evaluated together, at most: this bounds the memory."""


@dataclass(frozen=True, eq=False)
class DescentPath:
    """A solve with all its iterates, see `descent`.

    Attributes:
        solver: that made it.
        x: the problems.
        layout: of the answers.
        solution: of the solve, with a `Path` as its record.
    """

    solver: EnergySolver
    x: Any
    layout: Layout
    solution: Solution

    @property
    def problems(self) -> int:
        """How many problems were solved."""
        return self.layout.batch

    def iterates(self, problem: int = 0) -> Float[Tensor, "iterates size"]:
        """The answers to one problem, from the initial point to the last step that it took."""
        return torch.stack([self.flat(y, problem) for y in self._record.y[: self._length(problem)]])

    def energies(self, problem: int = 0) -> Float[Tensor, " iterates"]:
        """The energies of the `iterates`, each with the scratchpad of its step."""
        return torch.stack([energy[problem] for energy in self._record.energy[: self._length(problem)]])

    def squared_errors(self, target: Any, problem: int = 0) -> Float[Tensor, "iterates size"]:
        """The squared error of each element of the answer, at each of the `iterates` (Figure 4 of the paper).

        Args:
            target: the right answers to all the problems.
            problem: the index of the problem.
        """
        return (self.iterates(problem) - self.flat(target, problem)).square()

    def flat(self, y: Any, problem: int = 0) -> Float[Tensor, " size"]:
        """What belongs to one problem in answers to all of them, as a vector.

        Raises:
            ValueError: if ``y`` does not have the shapes of the answers of the solve.
        """
        got, expected = tree_leaves((y,)), tree_leaves((self.solution.y,))
        if [leaf.shape for leaf in got] != [leaf.shape for leaf in expected]:
            raise ValueError(f"Got answers of shape {_shapes(got)}; those of the solve have {_shapes(expected)}.")
        _, rows = self.layout.select(self._samples(problem, 1))
        return torch.cat([leaf.detach().index_select(0, rows).flatten() for leaf in got])

    def energy_of(self, candidates: Float[Tensor, "n size"], problem: int = 0) -> Float[Tensor, " n"]:
        """The energies of candidate answers to one problem, with the scratchpad held at that of the solution.

        The problem is encoded once, in as many copies as candidates are evaluated together: one under layouts other
        than `Dense`, whose samples may differ in size.

        Raises:
            ValueError: if the problem cannot be taken out of its batch: its answer has another energy alone. This is so
                where problems share a tensor that is as large as the batch.
        """
        answer = self.flat(self.solution.y, problem)
        rows = torch.cat((answer.unsqueeze(0), candidates.to(answer)))
        most = max(1, _ENTRIES // max(1, rows.shape[1])) if isinstance(self.layout, Dense) else 1
        together = min(most, len(rows))
        rows = torch.cat((rows, rows[-1:].expand(-len(rows) % together, -1)))
        objective, held = self._alone(problem, together)
        energies = torch.cat([objective((self._shaped(part, problem), *held)).energy for part in rows.split(together)])
        self._check_alone(energies[0], problem)
        return energies[1 : len(candidates) + 1]

    def _alone(self, problem: int, copies: int) -> tuple[Objective, tuple[Any, ...]]:
        """The energy of one problem, in copies, and their scratchpads, if there are any."""
        samples = self._samples(problem, copies)
        layout, rows = self.layout.select(samples)
        energy, x = self.solver.energy, select_problems(self.x, samples, self.layout)
        with torch.no_grad():
            context = energy.encode(x) if isinstance(energy, Energy) else x
        objective = Objective(energy.evaluate if isinstance(energy, Energy) else energy, context, layout)
        z = self.solution.z
        if z is None:
            return objective, ()
        held = [leaf.detach().index_select(0, rows) for leaf in tree_leaves((z,))]
        return objective, tree_unflatten((z,), held)

    def _shaped(self, candidates: Tensor, problem: int) -> Any:
        """Vectors as answers to copies of the problem."""
        _, rows = self.layout.select(self._samples(problem, 1))
        leaves = tree_leaves((self.solution.y,))
        parts = candidates.split([len(rows) * leaf.shape[1:].numel() for leaf in leaves], dim=1)
        shaped = [part.reshape(-1, *leaf.shape[1:]).to(leaf) for part, leaf in zip(parts, leaves, strict=True)]
        return tree_unflatten((self.solution.y,), shaped)[0]

    def _check_alone(self, energy: Tensor, problem: int) -> None:
        known = self.solution.energy[problem]
        rounding = torch.finfo(known.dtype).eps ** 0.5
        if not torch.allclose(energy, known, rtol=rounding, atol=rounding, equal_nan=True):
            raise ValueError(
                f"Problem {problem} cannot be taken out of its batch: the energy of its answer is {float(known):.6g} "
                f"in the batch and {float(energy):.6g} alone. If its problems share a tensor that is as large as the "
                "batch, solve a batch of another size."
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
    steps: int | None = None,
    generator: torch.Generator | None = None,
) -> DescentPath:
    """Solve problems and keep every iterate.

    Args:
        solver: any solver; its recorder is replaced for this solve.
        x: the problems.
        y: initial answers; by default from the solver's ``init``.
        z: initial scratchpads; by default from the solver's ``scratchpad``.
        steps: the most steps, in place of the solver's ``max_steps``.
        generator: for initial answers that are drawn at random.

    Raises:
        ValueError: if there is no problem, or as `EnergySolver.minimize` does.
    """
    layout = layout_of(x) if solver.layout is None else solver.layout(x)
    if layout.batch == 0:
        raise ValueError("The batch is empty, so there is no descent to look at.")
    recording = solver.replace(recorder=Trajectory())
    with torch.no_grad():
        solution = recording.minimize(x, y, z, max_steps=steps, generator=generator)
    return DescentPath(solver, x, layout, solution)


def _shapes(leaves: Sequence[Tensor]) -> str:
    return ", ".join(str(tuple(leaf.shape)) for leaf in leaves)
