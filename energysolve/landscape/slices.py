"""Slices of an energy landscape through the answer, with the descent projected onto them (Figure 1 of the paper)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ..checks import check_nonnegative, check_whole
from .descents import DescentPath


class Axes(NamedTuple):
    """The axes of a slice.

    Attributes:
        directions: orthonormal directions, one per axis.
        zero: the answer whose coordinates are zero.
        labels: labels of the axes.

    Examples:
        >>> import torch
        >>> from energysolve.landscape import Axes
        >>> axes = Axes(torch.tensor([[0.6, 0.8, 0.0]]), zero=torch.zeros(3), labels=("along (3, 4, 0)",))
        >>> axes.coordinates(torch.tensor([[3.0, 4.0, 7.0]])).round(decimals=3)
        tensor([[5.]])
    """

    directions: Float[Tensor, "axes size"]
    zero: Float[Tensor, " size"]
    labels: tuple[str, ...]

    def coordinates(self, points: Float[Tensor, "n size"]) -> Float[Tensor, "n axes"]:
        """The coordinates of answers, projected onto the slice."""
        return (points - self.zero) @ self.directions.mT


Directions = Callable[[Tensor], Axes]
"""Chooses the axes of a slice, given the iterates (iterates, size) of a descent."""


@dataclass(frozen=True)
class Coordinates:
    """Elements of the answer as axes, by default the first two, as in Figure 1 of the paper.

    Args:
        elements: their numbers, counted from 1 as in the labels of the axes: element 1 is ``y_1``.

    Raises:
        ValueError: from `line` and `plane`, for elements that answers lack, or one given twice.

    Examples:
        >>> import torch
        >>> from energysolve.landscape import Coordinates
        >>> axes = Coordinates((1, 3))(torch.zeros(2, 3))  # as `plane` calls it, with the iterates
        >>> axes.labels, axes.coordinates(torch.tensor([[5.0, 6.0, 7.0]]))
        (('$y_{1}$', '$y_{3}$'), tensor([[5., 7.]]))
    """

    elements: Sequence[int] = (1, 2)

    def __call__(self, iterates: Float[Tensor, "iterates size"]) -> Axes:
        size = iterates.shape[1]
        if len(set(self.elements)) < len(self.elements) or not all(1 <= element <= size for element in self.elements):
            raise ValueError(f"Coordinates needs different elements from 1 to {size}, got {tuple(self.elements)}.")
        directions = iterates.new_zeros(len(self.elements), size)
        directions[range(len(self.elements)), [element - 1 for element in self.elements]] = 1
        return Axes(directions, torch.zeros_like(iterates[0]), tuple(f"$y_{{{element}}}$" for element in self.elements))


@dataclass(frozen=True)
class Principal:
    """The principal directions of the descent as axes, with the answer at zero.

    They are the right singular vectors of the iterates minus the answer, largest singular value first, and point
    towards the initial point. If the descent is straight, those after the first are arbitrary orthogonal directions.

    Args:
        count: the number of directions.

    Raises:
        ValueError: from `line` and `plane`, if the descent has fewer directions.

    Examples:
        >>> import torch
        >>> from energysolve.landscape import Principal
        >>> iterates = torch.tensor([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]])  # a straight descent to (6, 8)
        >>> axes = Principal(count=1)(iterates)
        >>> axes.coordinates(iterates).round(decimals=3)[:2]  # distances from the answer
        tensor([[10.],
                [ 5.]])
    """

    count: int = 2

    def __post_init__(self):
        check_whole("Principal", least=1, count=self.count)

    def __call__(self, iterates: Float[Tensor, "iterates size"]) -> Axes:
        answer = iterates[-1]
        directions = torch.linalg.svd(iterates - answer, full_matrices=False).Vh[: self.count]
        if len(directions) < self.count:
            raise ValueError(
                f"A descent of {len(iterates) - 1} steps to an answer of {len(answer)} elements has "
                f"{len(directions)} principal directions, not {self.count}. Use Coordinates(...), or allow more steps."
            )
        away = directions @ (iterates[0] - answer) < 0
        directions = torch.where(away[:, None], -directions, directions)
        return Axes(directions, answer, tuple(f"principal direction {k + 1} of the descent" for k in range(self.count)))


@dataclass(frozen=True, eq=False)
class Slice:
    """Energies on a line or a plane through the answer to one problem.

    The answer is fixed in all other directions. Iterates and target are projected onto the slice, so their energies
    there differ from those of the descent, unless answers have as many elements as the slice has axes; ``off`` gives
    the distances.

    Attributes:
        axes: directions and labels.
        grid: the coordinates at which energies were evaluated, along each axis.
        energy: energies on the grid, ``(n,)``, or ``(n, n)`` with the first axis first.
        path: coordinates of the iterates, the answer last.
        path_energy: the energies at the iterates, projected onto the slice.
        off: the distance of each iterate from the slice.
        target: coordinates of the right answer, if known.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver
        >>> from energysolve.landscape import Coordinates, descent, line
        >>> solver = EnergySolver(lambda x, y: (y - x).square().sum(-1))
        >>> path = descent(solver, torch.ones(1, 3), torch.zeros(1, 3))
        >>> found = line(path, directions=Coordinates((1,)), resolution=3, margin=1.0)  # a `Slice`
        >>> found.grid[0].round(decimals=2), found.energy.round(decimals=2)
        (tensor([-1.0000,  0.5000,  2.0000]), tensor([4.0000, 0.2500, 1.0000]))
    """

    axes: Axes
    grid: tuple[Float[Tensor, " n"], ...]
    energy: Float[Tensor, " n"] | Float[Tensor, "n n"]
    path: Float[Tensor, "iterates axes"]
    path_energy: Float[Tensor, " iterates"]
    off: Float[Tensor, " iterates"]
    target: Float[Tensor, " axes"] | None = None


def line(
    path: DescentPath,
    target: Any = None,
    *,
    problem: int = 0,
    directions: Directions = Principal(1),
    resolution: int = 201,
    margin: float = 0.25,
) -> Slice:
    """The energy along one direction through the answer to one problem.

    Args are those of `plane`; ``directions`` gives one direction, such as ``Principal(1)`` or ``Coordinates((1,))``.

    Raises:
        ValueError: if there is no such problem, or ``directions`` does not give one direction.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver
        >>> from energysolve.landscape import descent, line
        >>> solver = EnergySolver(lambda x, y: (y - x).square().sum(-1))
        >>> path = descent(solver, torch.ones(1, 3), torch.zeros(1, 3))
        >>> found = line(path, resolution=51)  # along the descent, with the answer at 0
        >>> found.energy.shape, abs(found.grid[0][found.energy.argmin()]) < 0.05
        (torch.Size([51]), tensor(True))
    """
    return _slice(path, target, problem, directions, 1, resolution, margin)


def plane(
    path: DescentPath,
    target: Any = None,
    *,
    problem: int = 0,
    directions: Directions = Coordinates(),
    resolution: int = 61,
    margin: float = 0.25,
) -> Slice:
    """The energy on a plane through the answer to one problem (Figure 1 of the paper).

    Args:
        path: the result of `descent`.
        target: the right answers to all the problems; figures mark the one of this problem.
        problem: the index of the problem.
        directions: maps the iterates to `Axes` of two directions, such as ``Coordinates((1, 2))`` or ``Principal()``.
        resolution: the number of points along each axis, 2 or more.
        margin: how far the slice extends beyond iterates and target on each side, as a fraction of their range.

    Raises:
        ValueError: if there is no such problem, or ``directions`` does not give two directions.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver
        >>> from energysolve.energies import Rosenbrock
        >>> from energysolve.landscape import descent, plane
        >>> path = descent(EnergySolver(Rosenbrock()), torch.zeros(1, 2), torch.tensor([[-1.2, 1.0]]))
        >>> found = plane(path, resolution=31)
        >>> found.energy.shape, len(found.path) == len(path.iterates(0)), found.path[-1].round(decimals=2)
        (torch.Size([31, 31]), True, tensor([1., 1.]))
    """
    return _slice(path, target, problem, directions, 2, resolution, margin)


def _slice(
    path: DescentPath, target: Any, problem: int, directions: Directions, count: int, resolution: int, margin: float
) -> Slice:
    check_whole("A slice", least=2, resolution=resolution)
    check_nonnegative("A slice", margin=margin)
    iterates = path.iterates(problem)
    axes = directions(iterates)
    if axes.directions.shape != (count, iterates.shape[1]):
        raise ValueError(
            f"{directions!r} gave directions of shape {tuple(axes.directions.shape)}; expected {count} of "
            f"{iterates.shape[1]} elements, ({count}, {iterates.shape[1]})."
        )
    steps = axes.coordinates(iterates)
    right = None if target is None else axes.coordinates(path.flat(target, problem).unsqueeze(0))[0]
    grid = _grid(steps if right is None else torch.cat((steps, right.unsqueeze(0))), resolution, margin)
    nodes = torch.stack(torch.meshgrid(*grid, indexing="ij"), dim=-1).flatten(0, -2)
    moved = torch.cat((nodes, steps)) - steps[-1]
    energies = path.energy_of(iterates[-1] + moved @ axes.directions, problem)
    projected = iterates[-1] + (steps - steps[-1]) @ axes.directions
    return Slice(
        axes=axes,
        grid=grid,
        energy=energies[: len(nodes)].reshape([resolution] * count),
        path=steps,
        path_energy=energies[len(nodes) :],
        off=(iterates - projected).norm(dim=1),
        target=right,
    )


def _grid(marked: Tensor, resolution: int, margin: float) -> tuple[Tensor, ...]:
    """Coordinates along each axis, around all marked points."""
    low, high = marked.amin(0), marked.amax(0)
    width = torch.where(high > low, high - low, torch.ones_like(low))
    low, high = low - margin * width, high + margin * width
    shares = torch.linspace(0, 1, resolution).to(marked)
    return tuple(torch.lerp(a, b, shares) for a, b in zip(low, high, strict=True))
