"""The protocol of inner optimizers."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..checks import check_nonnegative
from ..layout import Layout
from ..solution import Advice
from ..trees import tree_map


class Evaluation(NamedTuple):
    """Energies and gradients at one iterate.

    Attributes:
        free: the free variables, ``(y,)`` or ``(y, z)``, each a tensor or a tree of tensors.
        energy: ``(batch,)``.
        gradient: with the structure of ``free``; the rows of a sample hold the gradient of its energy.
        layout: of the free variables; None in the state of the loop.

    Examples:
        >>> import torch
        >>> from energysolve import SGD
        >>> from energysolve.optimizers import Evaluation
        >>> y = torch.tensor([[2.0, 4.0]])
        >>> at = Evaluation(free=(y,), energy=y.square().sum(1) / 2, gradient=(y,))  # of 1/2 |y|^2
        >>> SGD(lr=0.5).step(at, state=(), evaluate=None)  # the next y, and the state of SGD, which is empty
        ((tensor([[1., 2.]]),), ())
    """

    free: Any
    energy: Float[Tensor, " batch"]
    gradient: Any
    layout: Layout | None = None


@runtime_checkable
class Evaluate(Protocol):
    """The energy of the problem, as an optimizer sees it."""

    @property
    def layout(self) -> Layout:
        """Of the free variables."""
        ...

    @property
    def overwrites(self) -> bool:
        """Whether `InnerOptimizer.step` may overwrite the tensors of the state that it is given."""
        ...

    def __call__(self, free: Any) -> Evaluation:
        """Energies and gradients at ``free``; an evaluation of the batch."""
        ...

    def residuals(self, free: Any) -> Tensor:
        """The residuals ``(batch, m)`` of a `LeastSquares` energy, part of the gradient graph; else a TypeError."""
        ...

    def hessian(self, free: Any) -> Callable[[Any], Any]:
        """The product of a tree like ``free`` with the Hessian of each sample's energy there, as a function."""
        ...


@dataclass(frozen=True, eq=False)
class PerSample:
    """A part of an optimizer's state whose tensors have one row per sample, not the rows of the free variables.

    Examples:
        >>> import torch
        >>> from energysolve import LBFGS, Segment
        >>> edges = torch.zeros(5, 1)  # five rows of two samples
        >>> state = LBFGS(memory=3).begin((edges,), Segment(torch.tensor([0, 0, 1, 1, 1]), batch=2))
        >>> type(state.pairs).__name__, state.pairs.value.curvatures.shape  # one row per sample
        ('PerSample', torch.Size([2, 4]))
    """

    value: Any


class InnerOptimizer(ABC):
    """One step of descent on the free variables ``(y,)`` or ``(y, z)``.

    Optimizers are pure: the object holds the configuration, and everything that changes is explicit state. A step of
    one sample must not depend on the others. Every tensor in the state has the rows of the free variables, or no
    dimension (a step count); tensors with one row per sample are wrapped in `PerSample`.

    An optimizer that chooses its steps sets ``searches`` and overrides `accept`: a candidate is one evaluation of the
    batch, and each sample accepts or refuses it. A refused candidate is no iterate; nothing but the optimizer's state
    sees it.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver
        >>> from energysolve.optimizers import InnerOptimizer
        >>> class SignDescent(InnerOptimizer):  # steps of one length, whatever the slope
        ...     def init(self, free):
        ...         return ()
        ...
        ...     def step(self, at, state, evaluate):
        ...         moved = [leaf - 0.25 * slope.sign() for leaf, slope in zip(at.free, at.gradient)]
        ...         return tuple(moved), state
        >>> solver = EnergySolver(lambda x, y: (y - x).square().sum(-1), SignDescent())
        >>> solver.minimize(torch.tensor([[1.0, -0.5]]), torch.zeros(1, 2)).y
        tensor([[ 1.0000, -0.5000]])
    """

    searches: ClassVar[bool] = False
    """Whether `accept` may refuse a finite candidate."""

    @property
    def constrains(self) -> bool:
        """Whether a constraint may hold answers where the gradient is not zero."""
        return False

    @property
    def advice(self) -> Advice:
        """What `Solution.raise_for_status` suggests for samples that failed under this optimizer."""
        return _SEARCHING if self.searches else _fixed(self)

    @abstractmethod
    def init(self, free: Any) -> Any:
        """The state before the first step, a tree of tensors."""

    def begin(self, free: Any, layout: Layout) -> Any:
        """The state before the first step, for optimizers with `PerSample` state; by default ``init(free)``."""
        return self.init(free)

    @abstractmethod
    def step(self, at: Evaluation, state: Any, evaluate: Evaluate) -> tuple[Any, Any]:
        """The next free variables, and the next state.

        Args:
            at: the current free variables with their energy and gradient.
            state: from the last step, or from `init`.
            evaluate: the energy: its layout, its values elsewhere, its residuals and Hessian products.
        """

    def accept(self, at: Evaluation, trial: Evaluation, state: Any) -> tuple[Bool[Tensor, " batch"], Any]:
        """Which samples move to the candidate, and the next state; only called if the optimizer ``searches``.

        Args:
            at: the current free variables with their energy and gradient.
            trial: the candidate with its energy and gradient, which may be NaN or infinite.
            state: returned by `step` with the candidate.
        """
        raise NotImplementedError(f"{type(self).__name__} searches, so it must override accept(at, trial, state).")

    def stalled(self, state: Any) -> Bool[Tensor, " batch"]:
        """The samples whose energy no step of the optimizer can lower; only called if the optimizer ``searches``."""
        raise NotImplementedError(f"{type(self).__name__} searches, so it must override stalled(state).")

    def follow(self, at: Evaluation, state: Any, saved: Any) -> Any:
        """The state from which `step` repeats an accepted step; only called if the optimizer ``searches``.

        The modes that differentiate through steps repeat the accepted steps of each sample, tracked: `follow`, then
        `step`, for each of them. `accept` is not called, and refused trials are not repeated. What was decided for a
        sample (the length of its step, whether it fell back to another direction) comes from ``saved`` and has no
        derivative. By default, every `PerSample` part is taken from ``saved`` and everything else from ``state``.
        Override it if a `PerSample` part has a derivative, or if refusals change what `step` does next beyond that.

        Args:
            at: the iterate, tracked.
            state: returned by `step` with the iterate, tracked; for the first repeated step, returned by `accept`.
            saved: the state from which `step` proposed the accepted candidate, after refusals if there were any. Only
                its `PerSample` parts are there; other leaves are ``...``.
        """
        return tree_map(lambda own, other: other if isinstance(other, PerSample) else own, state, saved)

    def residual(self, at: Evaluation) -> Any:
        """What vanishes at a solution and gradient criteria see: the gradient, or the projected gradient."""
        return at.gradient


_PROGRESS = (
    "Look at the energies of recorder=Trajectory(): where they still fall fast, more steps are all that is missing; "
    "where they fall slowly, variables of similar size help; where they fall for ever, the energy has no minimum."
)
_SEARCHING = Advice(
    nonfinite="Steps to such points are refused, so the energy of the same answer must have changed between calls.",
    unfinished=f"Raise max_steps, which also bounds the trials that were refused. {_PROGRESS}",
)


def _fixed(optimizer: InnerOptimizer) -> Advice:
    """For steps that do not depend on the energy."""
    other = "an optimizer that chooses its steps, such as LBFGS()"
    if optimizer.constrains:
        other = f"Backtracking({type(optimizer).__name__}(...)), which chooses its steps"
    inner = optimizer
    while isinstance(within := getattr(inner, "optimizer", None), InnerOptimizer):
        inner = within
    name = type(inner).__name__
    return Advice(
        nonfinite=f"Give {name} a smaller step size, or use {other}.",
        unfinished=f"Raise max_steps, change the step size of {name}, or use {other}. {_PROGRESS}",
        stalled=f"Steps may also be too short: give {name} a larger step size, or use {other}.",
    )


def check_step_size(owner: str, lr: float) -> None:
    """Raise a ValueError for a step size that is negative, infinite or NaN."""
    check_nonnegative(owner, lr=lr)


def where_state(layout: Layout, mask: Tensor, new: Any, old: Any) -> Any:
    """`Layout.where` for optimizer states: a shared step count becomes one count per row.

    Leaves that are not tensors, such as the transformation in a torchopt state, are taken from ``new``.
    """

    def select(a: Any, b: Any) -> Any:
        if isinstance(a, PerSample):
            return PerSample(tree_map(lambda new, old: torch.where(_columns(mask, new), new, old), a.value, b.value))
        if not isinstance(a, Tensor):
            return a
        like = b if b.ndim > a.ndim else a
        return torch.where(layout.expand(mask, like if like.ndim else like.view(1, 1)), a, b)

    return tree_map(select, new, old)


def _columns(mask: Tensor, like: Tensor) -> Tensor:
    return mask.view(-1, *[1] * (like.ndim - 1))
