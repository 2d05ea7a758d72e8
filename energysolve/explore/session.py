"""What the page shows, computed by the library's solver: planes, energies on them, and descents."""

import threading
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from ..landscape import Axes, Coordinates, DescentPath, Principal, descent
from ..layout import select_problems
from ..optimizers import InnerOptimizer
from ..ragged import rows_select
from ..recorders import Nothing, Recorder
from ..seeding import stream
from ..solution import Status
from ..solver import EnergySolver
from ..trees import tree_leaves, tree_map, tree_unflatten
from .deadline import Deadline
from .settings import CRITERIA, OPTIMIZERS, OWN, STEPPED, Method, Settings
from .subject import Subject

SECONDS = 10.0
"""The longest time of one descent."""
_GRID_SECONDS = 3.0
_RESOLUTIONS = (81, 61, 41, 31, 21, 15)
_ENTRIES = 2**19
"""The most entries of answers that are evaluated together; bounds the memory."""
_FAR = 1e6
T = TypeVar("T")


class Plane(NamedTuple):
    """A plane through the answer to a problem.

    Attributes:
        axes: directions and labels.
        reference: the descent whose answer it goes through.
        target: coordinates of the right answer, if known.
    """

    axes: Axes
    reference: DescentPath
    target: Tensor | None


class Grid(NamedTuple):
    """Energies ``(n, n)`` on a plane, the second coordinate first, as figures want them."""

    first: Tensor
    second: Tensor
    energy: Tensor


class Trace(NamedTuple):
    """One descent. All but the last three have one row for each iterate.

    Attributes:
        label: the name of the optimizer, with its step size.
        points: coordinates in the plane.
        off: the distance from the plane.
        energy: the energies.
        slope: the gradient norms.
        evaluations: the number of evaluations until this iterate was found, from 1.
        status: how it ended.
        total: the number of evaluations of the whole descent.
        late: whether it was stopped by the limit of time.
    """

    label: str
    points: Tensor
    off: Tensor
    energy: Tensor
    slope: Tensor
    evaluations: Tensor
    status: Status
    total: int
    late: bool

    def reached(self, evaluations: int) -> int:
        """The iterate that the descent has reached after so many evaluations."""
        return max(int((self.evaluations <= evaluations).sum()) - 1, 0)


class Session:
    """Computes what the page shows of a subject, and remembers the last results. One request at a time.

    Args:
        subject: what is explored.
        first: the number of the problem that is shown first.

    Raises:
        ValueError: if there is no such problem.

    Examples:
        >>> from energysolve.energies import Booth
        >>> from energysolve.explore import Session, Settings, energy_subject
        >>> session = Session(energy_subject("Booth", Booth(), (2,)))
        >>> settings = Settings(plane=(1, 2))
        >>> trace = session.trace(settings, settings.methods[0])
        >>> trace.label, trace.status.name, trace.points[-1].round(decimals=3)  # the minimum is at (1, 3)
        ('LBFGS', 'CONVERGED', tensor([1., 3.], dtype=torch.float64))
    """

    def __init__(self, subject: Subject, first: int = 0):
        if subject.problems is not None and first >= subject.problems:
            raise ValueError(f"There is no problem {first}: there are {subject.problems}, counted from 0.")
        self.subject, self.first = subject, first
        self._lock = threading.RLock()
        self._reference = lru_cache(8)(self._descend)
        self._planes = lru_cache(16)(self._plane)
        self._grids = lru_cache(32)(self._grid)
        self._traces = lru_cache(64)(self._trace)

    def size(self, problem: int = 0) -> int:
        """The number of elements of an answer."""
        with self._lock:
            layout, (y, _) = self._initial(self.subject.problem(problem)[0], problem)
        return sum(leaf.numel() for leaf in tree_leaves((y,))) if layout.batch else 0

    def plane(self, settings: Settings) -> Plane:
        """The plane of the settings. Raises whatever the energy raises."""
        return self._locked(self._planes, settings.problem, settings.plane)

    def view(self, settings: Settings) -> tuple[float, float, float, float]:
        """The ranges of the coordinates that are shown, by default those of all that is of interest."""
        if settings.view is not None:
            return settings.view
        plane = self.plane(settings)
        marked = plane.axes.coordinates(plane.reference.iterates())
        more = [] if plane.target is None else [plane.target.unsqueeze(0)]
        if self.subject.minima:
            more.append(torch.tensor(self.subject.minima).to(marked))
        return fitted(torch.cat([marked, *more]))

    def grid(self, settings: Settings) -> Grid:
        """The energies in the view."""
        return self._locked(self._grids, settings.problem, settings.plane, self.view(settings))

    def trace(self, settings: Settings, method: Method) -> Trace:
        """The descent of one optimizer."""
        rest = (settings.criterion, settings.tolerance, settings.max_steps)
        return self._locked(self._traces, settings.problem, settings.plane, settings.start, method, *rest)

    def _locked(self, function: Callable[..., T], *arguments: Any) -> T:
        with self._lock:
            return function(*arguments)

    def _initial(self, x: Any, problem: int) -> tuple[Any, tuple[Any, Any]]:
        solver, generator = self.subject.solver, stream("explore", problem)
        layout = solver.layout_of(x)
        assert solver.init is not None
        y = solver.init(x, layout, generator)
        return layout, (y, None if solver.scratchpad is None else solver.scratchpad(x, layout, generator))

    def _descend(self, problem: int) -> tuple[DescentPath, Any]:
        """The descent of the solver itself, and the right answer."""
        x, target = self.subject.problem(problem)
        _, start = self._initial(x, problem)
        solver = self.subject.solver
        return descent(solver.replace(halting=solver.halting | Deadline(SECONDS)), x, *start), target

    def _plane(self, problem: int, elements: tuple[int, int] | None) -> Plane:
        reference, target = self._reference(problem)
        iterates = reference.iterates()
        axes = _principal(iterates) if elements is None else Coordinates(elements)(iterates)
        if elements is not None:  # the other elements are those of the answer
            axes = axes._replace(zero=iterates[-1] - axes.coordinates(iterates[-1:])[0] @ axes.directions)
        right = None if target is None else _flat(target).to(iterates)
        seen = right is not None and right.shape == iterates[-1].shape
        return Plane(axes, reference, axes.coordinates(right.unsqueeze(0))[0] if right is not None and seen else None)

    def _grid(self, problem: int, elements: Any, view: tuple[float, float, float, float]) -> Grid:
        plane = self._planes(problem, elements)
        some = self._nodes(plane, view, _RESOLUTIONS[-1])[2]
        self._evaluated(plane, some[:2])  # a first evaluation may take longer
        began = time.monotonic()
        self._evaluated(plane, some)
        each = (time.monotonic() - began) / len(some)
        fitting = (count for count in _RESOLUTIONS if count * count * each <= _GRID_SECONDS)
        first, second, points = self._nodes(plane, view, next(fitting, _RESOLUTIONS[-1]))
        energy, _ = self._evaluated(plane, points)
        return Grid(first, second, energy.reshape(len(second), len(first)))

    def _nodes(
        self, plane: Plane, view: tuple[float, float, float, float], count: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        left, right, bottom, top = view
        first, second = (torch.linspace(*ends, count, dtype=torch.float64) for ends in ((left, right), (bottom, top)))
        nodes = torch.stack(torch.meshgrid(first, second, indexing="xy"), dim=-1).reshape(-1, 2)
        return first, second, _answers(plane.axes, nodes)

    def _evaluated(self, plane: Plane, points: Tensor, z: Any = None) -> tuple[Tensor, Tensor]:
        """Energies and gradient norms at answers, one in each row; ``z`` holds their scratchpads one after another."""
        path = plane.reference
        most = max(1, _ENTRIES // max(1, points.shape[1]))
        found = []
        for begin in range(0, len(points), most):
            part = points[begin : begin + most]
            samples = torch.zeros(len(part), dtype=torch.int64)
            layout, rows = path.layout.select(samples)
            still = _still(path.solver, layout)
            x = select_problems(path.x, samples, path.layout, path.solver.select)
            pad = rows_select(path.solution.z, rows) if z is None else tree_map(_rows(begin, len(part), len(points)), z)
            with torch.no_grad():
                solution = still.minimize(x, _shaped(part, path.solution.y), pad)
            found.append((solution.energy, solution.gradient_norm))
        energy, slope = (torch.cat(parts) for parts in zip(*found, strict=True))
        return energy.double(), slope.double()

    def _trace(self, problem: int, elements: Any, start: Any, method: Method, *rest: Any) -> Trace:
        plane = self._planes(problem, elements)
        path = plane.reference
        y, z = path.solution.record.y[0], path.solution.record.z[0]
        if start is not None:
            y = _shaped(_answers(plane.axes, torch.tensor([start], dtype=torch.float64)), y)
        solver, deadline = self._solver(method, *rest)
        with torch.no_grad():
            found = solver.minimize(path.x, y, z)
        record: _Walk = found.record
        iterates = torch.stack([_flat(each) for each in record.y])
        points = plane.axes.coordinates(iterates)
        pads = None if record.z[0] is None else tree_map(lambda *leaves: torch.cat(leaves), *record.z)
        _, slope = self._evaluated(plane, iterates, pads)
        inside = plane.axes.zero + points @ plane.axes.directions
        return Trace(
            label=_label(method, solver.optimizer),
            points=points.double(),
            off=(iterates - inside).norm(dim=1).double(),
            energy=torch.cat(record.energy).double(),
            slope=slope,
            evaluations=torch.tensor(record.evaluations),
            status=Status(int(found.status)),
            total=int(found.evaluations[0]) if found.evaluations is not None else len(iterates),
            late=deadline.passed,
        )

    def _solver(self, method: Method, criterion: str, tolerance: float, steps: int) -> tuple[EnergySolver, Deadline]:
        solver, deadline = self.subject.solver, Deadline(SECONDS)
        optimizer = solver.optimizer if method.name == OWN else OPTIMIZERS[method.name](method.step)
        halting = solver.halting if criterion == OWN else CRITERIA[criterion](tolerance)
        parts = {"optimizer": optimizer, "halting": halting | deadline, "max_steps": steps, "recorder": Walk()}
        return solver.replace(**parts), deadline


class _Walk(NamedTuple):
    y: list[Any]
    z: list[Any]
    energy: list[Tensor]
    evaluations: list[int]


class Walk(Recorder):
    """Records the iterates of one problem, with the number of evaluations until each was found."""

    def init(self, free, energy, layout):
        return _Walk([free[0]], [free[1] if len(free) == 2 else None], [energy], [1]), [1]

    def update(self, state, free, energy, step):
        walk, trials = state
        trials[0] += 1
        if int(step.max()) == len(walk.y):  # not a refused candidate
            for kept, new in zip(walk, (free[0], free[1] if len(free) == 2 else None, energy, trials[0]), strict=True):
                kept.append(new)
        return state

    def finish(self, state, steps):
        count = int(steps.max()) + 1
        return _Walk(*(kept[:count] for kept in state[0]))


def _label(method: Method, optimizer: InnerOptimizer) -> str:
    if method.name == OWN:
        return f"{type(optimizer).__name__}, as saved"
    return f"{method.name}, step {method.step:g}" if method.name in STEPPED else method.name


def fitted(points: Tensor, margin: float = 0.25) -> tuple[float, float, float, float]:
    """Ranges around all points that are not very far away, with equal scales on both axes where they are similar."""
    near = points[points.isfinite().all(1) & (points.abs().amax(1) < _FAR)].double()
    if not len(near):
        near = points.new_zeros(1, 2).double()
    low, high = near.amin(0), near.amax(0)
    width = high - low
    width = torch.maximum(width, width.max() / 4)
    width = torch.where(width > 1e-9 * (1 + low.abs().max()), width, torch.ones_like(width))
    middle = (low + high) / 2
    low, high = middle - (0.5 + margin) * width, middle + (0.5 + margin) * width
    (left, bottom), (right, top) = low.tolist(), high.tolist()
    return left, right, bottom, top


def _principal(iterates: Tensor) -> Axes:
    """`Principal`, with random directions where the descent has fewer than two."""
    size = iterates.shape[1]
    if len(iterates) > 2:
        return Principal()(iterates)
    drawn = torch.randn(size, 2, generator=stream("explore directions", size), dtype=torch.float64).to(iterates)
    labels = ["random direction"] * 2
    if len(iterates) == 2:
        drawn[:, 0] = iterates[0] - iterates[1]
        labels[0] = "direction of the descent"
    directions = torch.linalg.qr(drawn).Q.mT
    away = directions @ (iterates[0] - iterates[-1]) < 0
    return Axes(torch.where(away[:, None], -directions, directions), iterates[-1], tuple(labels))


def _answers(axes: Axes, coordinates: Tensor) -> Tensor:
    return axes.zero + coordinates.to(axes.zero) @ axes.directions


def _still(solver: EnergySolver, layout: Any) -> EnergySolver:
    return solver.replace(max_steps=0, recorder=Nothing(), layout=lambda x: layout)


def _flat(y: Any) -> Tensor:
    return torch.cat([leaf.detach().flatten() for leaf in tree_leaves((y,))])


def _shaped(points: Tensor, like: Any) -> Any:
    """Answers, one in each row, with the structure of those to one problem."""
    leaves = tree_leaves((like,))
    parts = points.split([leaf.numel() for leaf in leaves], dim=1)
    shaped = [part.reshape(-1, *leaf.shape[1:]).to(leaf) for part, leaf in zip(parts, leaves, strict=True)]
    return tree_unflatten((like,), shaped)[0]


def _rows(begin: int, count: int, whole: int) -> Callable[[Tensor], Tensor]:
    """Takes ``count`` samples of ``whole``, which own equally many rows of a tensor."""
    return lambda leaf: leaf[begin * (len(leaf) // whole) : (begin + count) * (len(leaf) // whole)]
