"""Recursive application of an operator: each answer becomes part of the next problem (Section 4.4 of the paper)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .layout import as_matrix
from .solution import Solution, Status

Join = Callable[[Tensor, Tensor], Any]
"""From the previous answer and the next operand to the next problem."""


@runtime_checkable
class Operator(Protocol):
    """Anything that answers a batch of problems, such as an `EnergySolver` or a baseline.

    Examples:
        >>> import torch
        >>> from energysolve import Solution, compose
        >>> from energysolve.composition import Operator
        >>> class Exact:  # adds without a search
        ...     def solve(self, x, max_steps=None, *, generator=None):
        ...         first, second = x.chunk(2, dim=1)
        ...         return Solution.of_answers(first + second)
        >>> isinstance(Exact(), Operator), compose(Exact(), torch.ones(1, 5, 2)).y
        (True, tensor([[5., 5.]]))
    """

    def solve(self, x: Any, max_steps: int | None = None, *, generator: torch.Generator | None = None) -> Solution:
        """Answer the problems ``x``, in at most ``max_steps`` steps."""
        ...


@dataclass(frozen=True, eq=False)
class Composition:
    """The answers of composed operations: ``solutions``, one per operation, in the order of application.

    A sample whose answer holds a NaN or an infinity has status ``NONFINITE`` there, whatever the operator reported.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver, compose
        >>> adder = EnergySolver.from_pretrained("addition")
        >>> composition = compose(adder, torch.rand(2, 3, 400))  # three operands each, so two operations
        >>> len(composition.solutions), composition.y.shape, composition.steps.shape
        (2, torch.Size([2, 400]), torch.Size([2]))
    """

    solutions: tuple[Solution, ...]

    @property
    def y(self) -> Float[Tensor, "batch *answer"]:
        """The answers of the last operation."""
        return self.solutions[-1].y

    @property
    def status(self) -> Int[Tensor, " batch"]:
        """The worst `Status` of each sample over all operations.

        The status of the last operation alone could hide a failure: a solver returns the last finite iterate of a
        sample that became NaN, and later operations may converge from there.
        """
        return torch.stack([solution.status for solution in self.solutions]).amax(0)

    @property
    def steps(self) -> Int[Tensor, " batch"]:
        """The number of steps of each sample in all operations together."""
        return torch.stack([solution.steps for solution in self.solutions]).sum(0)


def compose(
    solver: Operator,
    operands: Sequence[Tensor] | Tensor,
    *,
    join: Join | None = None,
    max_steps: int | None = None,
    generator: torch.Generator | None = None,
) -> Composition:
    """Apply an operator recursively: ``y_1 = o_1`` and ``y_k = Alg(y_{k-1}, o_k)`` (Equation 7 of the paper).

    With an operator that adds two vectors the answer is the sum of all the operands. Composing ``k`` operations takes
    ``k + 1`` operands.

    Args:
        solver: answers problems by ``solve(x, max_steps, generator=generator)``.
        operands: the operands, each ``(batch, *shape)``, or all of them as one tensor ``(batch, count, *shape)``.
        join: makes the next problem from the previous answer and the next operand, in this order; by default it
            concatenates them along the last dimension, as the addition task does with its summands.
        max_steps: the largest number of steps of each operation; by default the solver's own.
        generator: source of random initial answers; the operations draw from it in turn.

    Raises:
        TypeError: if the solver has no ``solve``, or an operand or an answer is not a tensor.
        ValueError: if there are fewer than two operands, or shapes do not match.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver, compose
        >>> adder = EnergySolver.from_pretrained("addition")
        >>> a, b, c = torch.rand(3, 8, 400) * 2 - 1
        >>> total = compose(adder, [a, b, c])  # (a + b) + c
        >>> torch.allclose(total.y, a + b + c, atol=1e-2)
        True
    """
    if isinstance(solver, type) or not isinstance(solver, Operator):
        raise TypeError(
            f"compose needs an operator with a method solve(x, max_steps, *, generator), got {solver!r}. An "
            "EnergySolver or a baseline has one."
        )
    first, *others = _checked(operands, alike=join is None)
    make_problem = join or (lambda previous, operand: torch.cat((previous, operand), dim=-1))
    previous, solutions = first, []
    for operand in others:
        solution = solver.solve(make_problem(previous, operand), max_steps, generator=generator)
        previous = _answer(solution, operand, alike=join is None)
        finite = as_matrix(previous.detach()).isfinite().all(1)  # not every operator checks
        solutions.append(replace(solution, status=torch.where(finite, solution.status, Status.NONFINITE)))
    return Composition(tuple(solutions))


def _checked(operands: Sequence[Tensor] | Tensor, alike: bool) -> list[Tensor]:
    """The operands as a list, after checking that they share one batch size, and one shape if ``alike``."""
    if isinstance(operands, Tensor):
        if operands.ndim < 3:
            raise ValueError(
                f"operands has shape {tuple(operands.shape)}; expected (batch, count, size), or a sequence of tensors "
                "(batch, size)."
            )
        operands = operands.unbind(1)
    operands = list(operands)
    if len(operands) < 2:
        raise ValueError(
            f"compose needs 2 operands or more, got {len(operands)}: k operations take k + 1 operands, since the first "
            "operation takes two."
        )
    for number, operand in enumerate(operands, start=1):
        if not isinstance(operand, Tensor):
            raise TypeError(f"Operand {number} is a {type(operand).__name__}; expected a tensor (batch, size).")
        if operand.ndim == 0:
            raise ValueError(f"Operand {number} has shape (), without a batch dimension; expected (batch, size).")
        got, first = tuple(operand.shape), tuple(operands[0].shape)
        if alike and got != first:
            raise ValueError(
                f"Operand {number} has shape {got}, but operand 1 has shape {first}. To combine operands of different "
                "shapes, pass join=a function of the previous answer and the next operand."
            )
        if got[0] != first[0]:
            raise ValueError(f"Operand {number} has {got[0]} samples (shape {got}), but operand 1 has {first[0]}.")
    return operands


def _answer(solution: Solution, operand: Tensor, alike: bool) -> Tensor:
    """The answer, after checking that it can be an operand of the next operation."""
    y = solution.y
    if not isinstance(y, Tensor):
        raise TypeError(f"The operator answered with a {type(y).__name__}; compose needs answers that are one tensor.")
    if alike and y.shape != operand.shape:
        raise ValueError(
            f"The operator answered with shape {tuple(y.shape)}, but operands have shape {tuple(operand.shape)}. Pass "
            "join=a function of the previous answer and the next operand that makes a problem of them."
        )
    if y.ndim == 0 or y.shape[0] != len(solution.status):
        raise ValueError(
            f"The operator answered {len(solution.status)} problems with shape {tuple(y.shape)}; compose needs one row "
            "per problem."
        )
    return y
