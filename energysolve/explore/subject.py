"""What is explored: a solver and the problems that it is given, one at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..energies.analytic import AnalyticEnergy
from ..halting import Stationary
from ..initializers import Uniform
from ..optimizers import LBFGS
from ..presets import domain_of
from ..recorders import Nothing
from ..seeding import stream
from ..solver import EnergySolver


@dataclass(frozen=True, eq=False)
class Subject:
    """What is explored.

    Attributes:
        name: for headings.
        solver: finds the answer through which the planes are laid; the page replaces its optimizer and its criterion.
        problem: the problem with a number, a batch of one, and its right answer where that is known.
        problems: the number of problems; None where every number makes a new one.
        minima: known minima, where an answer has two numbers.
        own: whether the optimizer and the criterion of the solver are the user's, and so offered on the page.

    Examples:
        >>> from energysolve.energies import Booth
        >>> from energysolve.explore import energy_subject
        >>> subject = energy_subject("Booth", Booth(), (2,))  # a `Subject`
        >>> subject.name, subject.minima, subject.own
        ('Booth', ((1.0, 3.0),), False)
        >>> subject.solver.minimize(subject.problem(0)[0]).y.round(decimals=3)
        tensor([[1., 3.]], dtype=torch.float64)
    """

    name: str
    solver: EnergySolver
    problem: Callable[[int], tuple[Any, Any]]
    problems: int | None = None
    minima: Sequence[Sequence[float]] = ()
    own: bool = False


def energy_subject(
    name: str, energy: Callable[..., Tensor], shape: Sequence[int], problems: Tensor | None = None
) -> Subject:
    """A user's energy.

    The initial answer is the energy's ``start`` if it has one of the right size, as the energies of
    `energysolve.energies.analytic` do; else its numbers are uniform in [-1, 1), drawn anew for each problem.

    Args:
        name: for headings.
        energy: ``energy(x, y) -> (batch,)``.
        shape: of one answer.
        problems: one problem in each row; without them ``x`` is zero, with the shape of the answer.

    Examples:
        >>> import torch
        >>> from energysolve.explore import energy_subject
        >>> problems = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> subject = energy_subject("mine", lambda x, y: (y - x).square().sum(-1), (2,), problems)
        >>> x, target = subject.problem(1)
        >>> subject.problems, x, target  # nobody has told the right answer
        (2, tensor([[3., 4.]], dtype=torch.float64), None)
    """
    shape = tuple(shape)
    dtype = _dtype(energy)
    known = None if problems is None else problems.to(dtype)

    def problem(number: int) -> tuple[Any, Any]:
        return (torch.zeros(1, *shape, dtype=dtype) if known is None else known[number : number + 1]), None

    start = getattr(energy, "start", None)
    fixed = isinstance(start, Sequence) and len(start) == shape[0] and len(shape) == 1
    init = (lambda x, layout, generator: torch.tensor([start], dtype=dtype)) if fixed else Uniform(shape)
    solver = EnergySolver(energy, LBFGS(), init=init, halting=Stationary(), max_steps=200)
    minima = energy.minima if isinstance(energy, AnalyticEnergy) and shape == (2,) and known is None else ()
    count = (1 if fixed else None) if known is None else len(known)
    return Subject(name, solver, problem, count, minima)


def solver_subject(
    name: str, solver: EnergySolver, shape: Sequence[int] | None = None, problems: Tensor | None = None
) -> Subject:
    """A saved solver: with problems of a file, or fresh ones of the task that it solves.

    Args:
        name: for headings.
        solver: with a trained energy.
        shape: of one answer, for a solver that states no initial answers.
        problems: one problem in each row.

    Raises:
        ValueError: if there are no problems, or no initial answers.

    Examples:
        >>> from energysolve import EnergySolver
        >>> from energysolve.explore import solver_subject
        >>> subject = solver_subject("inverse", EnergySolver.from_pretrained("inverse"))
        >>> x, target = subject.problem(7)  # a fresh problem of its task, with the right answer
        >>> x.shape, target.shape, subject.own
        (torch.Size([1, 20, 20]), torch.Size([1, 20, 20]), True)
    """
    domain = domain_of(solver)
    task = None if domain is None else domain.task_of(solver)
    solver = solver if task is None else solver.suited(task)
    if shape is not None and (task is None or solver.init is None):
        solver = solver.replace(init=Uniform(tuple(shape)))
    if solver.init is None:
        raise ValueError(f"{name} states no initial answers: give the shape of one answer (--shape).")
    if problems is None and task is None:
        raise ValueError(f"{name} belongs to no known task, so it needs problems: give a file of them (--problem).")
    known = None if problems is None else problems.to(_dtype(solver.energy))

    def problem(number: int) -> tuple[Any, Any]:
        if known is not None:
            return known[number : number + 1], None
        assert task is not None
        return task.sample(1, "same", stream(f"explore {name}", number))

    plain = solver.replace(recorder=Nothing(), restarts=1, compile=False, compact=False, sync_every=1)
    return Subject(name, plain, problem, None if known is None else len(known), own=True)


def _dtype(energy: Any) -> torch.dtype:
    """The precision of an energy: that of its parameters, or else double."""
    floating = (each for each in _tensors(energy) if each.is_floating_point())
    return next((each.dtype for each in floating), torch.float64)


def _tensors(energy: Any) -> list[Tensor]:
    return [*energy.parameters(), *energy.buffers()] if isinstance(energy, nn.Module) else []
