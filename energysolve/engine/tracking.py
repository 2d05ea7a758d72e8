"""Gradients of the last steps: the steps are repeated with tracking, and their gradient is attached to the answers."""

from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..layout import Dense, Layout
from ..optimizers.base import Evaluation, PerSample, where_state
from ..solution import Status
from ..trees import detach, tree_leaves, tree_map
from .agreement import same_alone
from .explanations import explained, graph_of
from .generators import Generators
from .loop import Descent, Outcome
from .observers import AcceptedSteps, StepStart
from .reports import RaiseError, ZeroGradient
from .solve import Solve


def replay(
    descent: Descent,
    begin: StepStart,
    length: int,
    counts: Tensor | None = None,
    followed: Sequence[Any] | None = None,
) -> tuple[Any, Tensor]:
    """Repeat the last steps of a solve with tracking.

    Args:
        descent: the solve, with a tracked context.
        begin: where the last steps of each sample begin.
        length: the largest number of steps of a sample.
        counts: ``(batch,)``, the number of steps of each sample; by default ``length`` for all. A sample with fewer
            steps waits at its beginning rather than at its end: the beginning is evaluated in any case.
        followed: for an optimizer that searches, what `InnerOptimizer.follow` needs of each of the ``length`` steps.

    Returns:
        The free variables at the end, and the samples for which every evaluation was finite.
    """
    free, state = begin
    layout = descent.layout
    finite = torch.ones(layout.batch, dtype=torch.bool, device=tree_leaves(free)[0].device)
    objective = descent.objective.tracked()
    for step in range(length):
        at = objective(free) if step else objective.twice(free)
        finite = finite & objective.finite(detach(at))
        current = state if followed is None else descent.optimizer.follow(at, state, followed[step])
        moved, next_state = descent.optimizer.step(at, current, objective)
        if counts is None:
            free, state = moved, next_state
        else:
            moves = counts >= length - step
            free, state = layout.where(moves, moved, free), where_state(layout, moves, next_state, state)
    return free, finite


def attach_replay(
    solve: Solve,
    context: Any,
    free: Any,
    found: Outcome,
    begin: StepStart,
    limit: int,
    accepted: AcceptedSteps | None = None,
    generators: Generators | None = None,
) -> Outcome:
    """The answers with the gradient of at most ``limit`` last steps, which are repeated; ``free`` is iterate 0.

    For an optimizer that searches, ``accepted`` are the steps to follow. ``generators`` are the states of torch's
    random generators when the steps began, if they began together. Samples whose derivative is not finite get a
    gradient of zero and are named in a `DifferentiationWarning`.

    Raises:
        DifferentiationError: if the steps lead elsewhere when they are repeated.
        EnergyError: if the energy has no second derivative.
    """
    counts = torch.where(found.status == Status.NONFINITE, 0, found.steps.clamp(max=limit))
    valid, broken = counts > 0, torch.zeros_like(counts, dtype=torch.bool)
    length, followed = int(counts.max()), None
    if accepted is not None:
        first = found.steps - length
        followed = [accepted.followed((first + step).clamp(min=0)) for step in range(length)]
    for attempt in range(ATTEMPTS):
        if not bool(valid.any()):
            break
        part = Part.of(solve, context, valid, free, found)
        start, inner = part.take((begin, followed))
        start = start._replace(free=_differentiable(part.layout, part.valid, part.moved(broken, attempt, start.free)))
        counted = part.chosen(torch.where(valid, counts, 0))
        with generators.restored() if generators else nullcontext():
            ended, _ = replay(part.descent(), start, length, counted, inner)
        finite = finite_derivative(part.layout, ended, start.free)
        if settled(finite, part.valid, attempt):
            _check_same_end(part, valid, detach(ended), found.at.free, begin.free)
            return with_answer(found, tree_map(Attach.apply, found.at.free, part.put(ended, found.at.free)))
        finite = part.spread(finite)
        ZeroGradient().report("Differentiation through steps", valid & ~finite, NO_DERIVATIVE)
        valid, broken = valid & finite, broken | ~finite
    ZeroGradient().report("Differentiation through steps", valid, BESIDE_OTHERS)
    return with_answer(found, without_gradient(solve, found.at.free, context))


ATTEMPTS = 4
"""How often samples without a finite derivative are moved elsewhere before no sample gets a gradient."""
NO_DERIVATIVE = "have no finite second derivative where they are"
BESIDE_OTHERS = "are beside others that have no finite second derivative, not even nearby,"


def settled(finite: Tensor, valid: Tensor, attempt: int) -> bool:
    """Whether the derivatives can be used: all are finite, or those without a gradient are not wherever they are."""
    return bool(finite.all() or (attempt == ATTEMPTS - 1 and (finite | ~valid).all()))


def _differentiable(layout: Layout, valid: Tensor, free: Any) -> Any:
    """The initial points of steps; one that takes no step passes no gradient to where it came from."""
    if not bool(valid.all()):
        free = layout.where(valid, free, detach(free))
    return tree_map(lambda leaf: leaf if leaf.requires_grad else leaf.detach().requires_grad_(), free)


def finite_derivative(layout: Layout, ended: Any, start: Any) -> Tensor:
    """The samples at which ``ended`` has a finite derivative by ``start``, ``(batch,)``."""
    outputs = [leaf for leaf in tree_leaves(ended) if leaf.requires_grad]
    with explained():
        slopes = torch.autograd.grad(
            outputs,
            tree_leaves(start),
            [torch.ones_like(leaf) for leaf in outputs],
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
    return sum((layout.sum(leaf - leaf) for leaf in slopes[1:]), start=layout.sum(slopes[0] - slopes[0])) == 0


def _check_same_end(part: "Part", valid: Tensor, ended: Any, found: Any, start: Any) -> None:
    """Raise a DifferentiationError for samples whose repeated steps lead elsewhere."""
    layout = part.solve.layout
    with torch.no_grad():
        eps = max(torch.finfo(leaf.dtype).eps for leaf in tree_leaves(found))
        ended = part.put(ended, found)
        apart, moved = (layout.norm(tree_map(torch.sub, end, found)) for end in (ended, detach(start)))
        # Far above the rounding of a chaotic descent, and far below what another dropout mask changes.
        other = valid & ~(apart <= eps**0.25 * moved + 1e3 * eps * layout.norm(found))
    RaiseError().report("Differentiation through steps", other, OTHER_PATH)


OTHER_PATH = (
    "came to another point when their last steps were repeated, so their derivative would be that of another path. The "
    "energy and the optimizer must be deterministic during a solve: call .eval() on a network with dropout, draw noise "
    "before the solve and pass it in x, and change no buffer"
)


def with_answer(found: Outcome, free: Any) -> Outcome:
    """The outcome with ``free`` as its answers."""
    return found._replace(at=found.at._replace(free=free))


class Attach(torch.autograd.Function):
    """The value of the first argument with the gradient of the second."""

    @staticmethod
    def forward(ctx, value, tracked):
        return value.clone()

    @staticmethod
    def backward(ctx, *grads):
        return None, grads[0]


@dataclass(frozen=True, eq=False)
class Part:
    """The samples of a solve on which something tracked is evaluated.

    A zero gradient through a derivative that is not finite would be NaN. So a valid sample takes the place of each
    sample that gets no gradient, or where samples differ in size, the valid ones alone are evaluated. Where samples
    cannot be selected (problems that share a tensor as large as the batch), all remain; then entries that are not
    finite become zero, and free variables without a finite second derivative are moved a little.

    Attributes:
        solve: of the whole batch.
        context: the encoded problems of the part.
        layout: of the part.
        valid: ``(part,)`` bool, the samples that get a gradient.
        samples: the indices of the samples; None if they are the whole batch.
        rows: the indices of their rows.
    """

    solve: Solve
    context: Any
    layout: Layout
    valid: Tensor
    samples: Tensor | None = None
    rows: Tensor | None = None

    @classmethod
    def of(cls, solve: Solve, context: Any, valid: Tensor, free: Any, found: Outcome, *, select: bool = True) -> "Part":
        """The samples ``valid``, given the whole encoded problem, the initial free variables and the outcome."""
        whole = cls(solve, context, solve.layout, valid)
        if bool(valid.all()) or not select:
            return whole
        with suppress(Exception):  # of any kind: selected tensors that do not fit reach the user's code
            part = cls._selection(solve, valid)
            with torch.no_grad():
                both = solve.descent(detach(context)).objective(detach(free)), found.at
                known = [Evaluation(part.take(at.free), part.chosen(at.energy), part.take(at.gradient)) for at in both]
                objective = solve.descent(detach(part.context), part.layout).objective
                if same_alone(known, [objective(at.free) for at in known], part.layout, part.valid):
                    return part
        return whole

    @classmethod
    def _selection(cls, solve: Solve, valid: Tensor) -> "Part":
        samples = solve.layout.stand_in(valid)
        if samples is not None:
            return cls(solve, solve.encoded(samples), solve.layout, valid, samples, samples)
        samples = valid.nonzero().squeeze(1)
        layout, rows = solve.layout.select(samples)
        return cls(solve, solve.encoded(samples), layout, valid[samples], samples, rows)

    @property
    def _smaller(self) -> bool:
        return self.layout.batch < self.solve.layout.batch

    def descent(self) -> Descent:
        return self.solve.descent(self.context, self.layout)

    def take(self, tree: Any) -> Any:
        """Of a tree of the whole batch (free variables, states, `PerSample` parts) what belongs to the part."""
        if self.samples is not None:
            return self._selected(tree)
        return tree if bool(self.valid.all()) else tree_map(self._without_nan, tree)

    def chosen(self, values: Tensor) -> Tensor:
        """Of one value for each sample, those of the part; a sample for which another stands in keeps its own."""
        return values[self.samples] if self._smaller else values

    def spread(self, values: Tensor) -> Tensor:
        """One bool for each sample of the part as one for each sample of the batch; True for those left out."""
        if self._smaller:
            return values.new_ones(self.solve.layout.batch).index_copy(0, self._indices, values)
        return values if self.samples is None else values | ~self.valid

    def put(self, tree: Any, whole: Any) -> Any:
        """The free variables of the whole batch, with those of the samples that get a gradient taken from ``tree``."""
        if self._smaller:
            return tree_map(lambda leaf, old: old.index_copy(0, self.rows, leaf), tree, whole)
        return self.layout.where(self.valid, tree, whole)

    @property
    def _indices(self) -> Tensor:
        assert self.samples is not None
        return self.samples

    def moved(self, broken: Tensor, attempt: int, points: Any) -> Any:
        """The points of the part, with those of the samples ``broken``, ``(batch,)`` bool, moved a little."""
        if self.samples is not None or not bool(broken.any()):
            return points
        return self.layout.where(broken, _shifted(points, attempt), points)

    def _without_nan(self, leaf: Any) -> Any:
        """A leaf in which entries of samples without a gradient are finite; to the others a NaN means something."""
        if isinstance(leaf, PerSample):
            return PerSample(
                tree_map(lambda each: _finite_beside(Dense(len(self.valid)), self.valid, each), leaf.value)
            )
        return _finite_beside(self.layout, self.valid, leaf)

    def _selected(self, tree: Any) -> Any:
        def select(leaf: Any, indices: Any) -> Any:
            if isinstance(leaf, PerSample):
                return PerSample(tree_map(partial(select, indices=self.samples), leaf.value))
            return leaf.index_select(0, indices) if isinstance(leaf, Tensor) and leaf.ndim else leaf

        return tree_map(partial(select, indices=self.rows), tree)


def _finite_beside(layout: Layout, valid: Tensor, leaf: Any) -> Any:
    if not isinstance(leaf, Tensor) or not leaf.ndim:
        return leaf
    return torch.where(layout.expand(valid, leaf), leaf, leaf.nan_to_num(0.0, 0.0, 0.0))


def _shifted(points: Any, attempt: int) -> Any:
    """Points nearby, with other entries."""
    generator = torch.Generator().manual_seed(attempt)

    def shift(leaf: Tensor) -> Tensor:
        by = 0.1 + 0.1 * torch.rand(leaf.shape, generator=generator, dtype=leaf.dtype)
        return (leaf + by.to(leaf.device) * (1 + leaf.abs())).detach()

    return tree_map(shift, points)


def without_gradient(solve: Solve, free: Any, context: Any, gradient: float = 0.0) -> Any:
    """The answers with a derivative of zero by all that the energy depends on, so that ``backward`` can be called.

    Args:
        solve: the solve.
        free: the answers.
        context: the encoded problem.
        gradient: every entry of the derivative.
    """
    leaves = [*tree_leaves(solve.x), *solve.parameters, *_captured(solve, free, context)]
    inputs = {id(leaf): leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.requires_grad}
    inputs = [*inputs.values(), torch.zeros(1, requires_grad=True)]
    return tree_map(lambda leaf: _SameGradient.apply(leaf, gradient, *inputs), free)


def _captured(solve: Solve, free: Any, context: Any) -> list[Tensor]:
    """The tensors that require gradients on which the energy depends, those in closures included."""
    energy = solve.descent(context).objective.tracked()(detach(free)).energy
    variables = (getattr(node, "variable", None) for node in graph_of(energy))
    return [leaf for leaf in variables if isinstance(leaf, Tensor)]


class _SameGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value, gradient, *inputs):
        ctx.gradient = gradient
        ctx.save_for_backward(*inputs)
        return value.clone()

    @staticmethod
    def backward(ctx, *grads):
        return None, None, *(torch.full_like(leaf, ctx.gradient) for leaf in ctx.saved_tensors)
