"""Optimizers of the torchopt library as inner optimizers."""

import math
from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
import torchopt
from torch import Tensor
from torchopt.base import GradientTransformation

from ..layout import as_matrix
from ..trees import tree_leaves, tree_map, tree_unflatten
from .base import InnerOptimizer, check_step_size


class TorchOptState(NamedTuple):
    """The transformation of one solve, which may have hidden state, and its explicit state."""

    transformation: GradientTransformation
    inner: Any


class _Adapter(InnerOptimizer):
    @abstractmethod
    def _transformation(self) -> GradientTransformation:
        """A new transformation, for one solve."""

    def init(self, free):
        transformation = self._transformation()
        params = _matrices(free)
        inner = transformation.init(params)
        if params[0].dtype == torch.float64:
            # For Adam's bias correction, torchopt raises its integer counts to powers in torch's default precision.
            inner = tree_map(_count_in_double, inner)
        return TorchOptState(transformation, inner)

    def step(self, at, state, evaluate):
        leaves = tree_leaves(at.free)
        params, gradients = _matrices(at.free), _matrices(at.gradient)
        updates, inner = state.transformation.update(gradients, state.inner, params=params, inplace=False)
        moved = [
            leaf + (update if leaf.ndim == 2 else update.view_as(leaf))
            for leaf, update in zip(leaves, updates, strict=True)
        ]
        return tree_unflatten(at.free, moved), TorchOptState(state.transformation, inner)


@dataclass(frozen=True)
class TorchOpt(_Adapter):
    """Any torchopt gradient transformation.

    It receives the leaves of the free variables as a flat tuple of matrices (rows, features). A transformation that
    looks at several samples at once, such as ``torchopt.clip.clip_grad_norm``, is refused at its first use; `Clipped`
    clips the gradient of each sample for itself.

    Args:
        factory: called without arguments once per solve, returns a new transformation; some have hidden state.

    Raises:
        ValueError: from a solve, if the transformation couples samples.

    Examples:
        >>> import torch
        >>> import torchopt
        >>> from energysolve import EnergySolver, TorchOpt
        >>> solver = EnergySolver(lambda x, y: (y - x).square().sum(-1), TorchOpt(lambda: torchopt.adagrad(1.0)))
        >>> solver.minimize(torch.tensor([[2.0, -1.0]]), torch.zeros(1, 2)).y.round(decimals=2)
        tensor([[ 2., -1.]])
    """

    factory: Callable[[], Any]

    def __post_init__(self):
        if not callable(self.factory):
            raise TypeError(
                "TorchOpt needs a function without arguments that builds a transformation, such as "
                f"lambda: torchopt.sgd(0.1); got a {type(self.factory).__name__}."
            )

    def init(self, free):
        _refuse_coupling(self)
        return super().init(free)

    def _transformation(self):
        made = self.factory()
        if not (hasattr(made, "init") and hasattr(made, "update")):
            raise TypeError(f"The factory of TorchOpt must return a torchopt transformation; it returned {made!r}.")
        return made


_CHECKED: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()
"""The factories whose transformations were found to treat samples separately."""
_OTHERS = (1.0, 1e6, 1e18, math.nan)
"""Gradients of another sample, beside which one sample must move as beside a gradient of zero."""


def _refuse_coupling(optimizer: TorchOpt) -> None:
    """Raise a ValueError for a transformation that moves a sample by the gradients of others, as a global norm does."""
    factory = optimizer.factory
    with suppress(TypeError):  # of factories that cannot be referenced weakly
        if factory in _CHECKED:
            return
    with torch.random.fork_rng(devices=[]):
        alone = _moved_beside(optimizer, 0.0)
        coupled = False
        for size in _OTHERS:
            try:
                coupled = coupled or not torch.equal(_moved_beside(optimizer, size), alone)
            except RuntimeError:  # from transformations that refuse NaN
                coupled = True
    if coupled:
        raise ValueError(
            f"The transformation of {optimizer!r} moves a sample by the gradients of other samples (a norm over the "
            "whole batch, a trust ratio, a centred gradient) or at random. Samples are solved independently: to clip "
            "each sample's gradient for itself, write Clipped(TorchOpt(...), norm=1.0)."
        )
    with suppress(TypeError):
        _CHECKED[factory] = True


def _moved_beside(optimizer: TorchOpt, size: float) -> Tensor:
    """Where a sample is after two steps beside another with gradients of this size."""
    torch.default_generator.manual_seed(0)
    transformation = optimizer._transformation()
    point = torch.tensor([[0.3, -0.2, 0.5], [0.1, 0.4, -0.6]], dtype=torch.float64)
    state = transformation.init((point,))
    for direction in (1.0, -0.7):
        slope = torch.tensor([[0.9, -1.1, 0.4], [1.0, 2.0, -1.0]], dtype=torch.float64) * direction
        slope = torch.where(torch.tensor([[True], [False]]), slope, size * slope)
        (update,), state = transformation.update((slope,), state, params=(point,), inplace=False)
        point = point + update
    return point[0]


@dataclass(frozen=True)
class Momentum(_Adapter):
    """Gradient descent with heavy-ball momentum.

    Args:
        lr: the step size λ.
        momentum: decay of the running sum of gradients, in [0, 1).

    Raises:
        ValueError: if an argument is out of range.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver, Momentum
        >>> def energy(x, y):  # fifty times as steep in one direction as in the other
        ...     return ((y - x).square() * torch.tensor([1.0, 50.0])).sum(-1)
        >>> solver = EnergySolver(energy, Momentum(lr=0.015, momentum=0.7))
        >>> solver.minimize(torch.tensor([[2.0, -1.0]]), torch.zeros(1, 2)).y.round(decimals=2)
        tensor([[ 2., -1.]])
    """

    lr: float
    momentum: float = 0.9

    def __post_init__(self):
        check_step_size("Momentum", self.lr)
        if not 0 <= self.momentum < 1:
            raise ValueError(f"Momentum needs a momentum in [0, 1), got {self.momentum!r}.")

    def _transformation(self):
        return torchopt.sgd(self.lr, momentum=self.momentum)


@dataclass(frozen=True)
class Adam(_Adapter):
    """Adam with torchopt's defaults (decays 0.9 and 0.999).

    Args:
        lr: the step size λ.

    Raises:
        ValueError: if the step size is negative, infinite or NaN.

    Examples:
        >>> import torch
        >>> from energysolve import Adam, EnergySolver
        >>> def energy(x, y):  # a million times as steep in one direction as in the other
        ...     return ((y - x).square() * torch.tensor([1.0, 1e6])).sum(-1)
        >>> solver = EnergySolver(energy, Adam(lr=0.3), max_steps=100)
        >>> solver.minimize(torch.tensor([[2.0, -1.0]]), torch.zeros(1, 2)).y.round(decimals=1)
        tensor([[ 2., -1.]])
    """

    lr: float

    def __post_init__(self):
        check_step_size("Adam", self.lr)

    def _transformation(self):
        # eps_root keeps the derivative of the root finite where a gradient has always been zero. Its root, 1e-18, is
        # too small beside torchopt's eps of 1e-8 to change a value.
        return torchopt.adam(self.lr, eps_root=1e-36)


@dataclass(frozen=True)
class RMSProp(_Adapter):
    """RMSProp with torchopt's defaults (decay 0.99).

    Args:
        lr: the step size λ.

    Raises:
        ValueError: if the step size is negative, infinite or NaN.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver, RMSProp
        >>> solver = EnergySolver(lambda x, y: (y - x).square().sum(-1), RMSProp(lr=0.1))
        >>> solver.minimize(torch.tensor([[2.0, -1.0]]), torch.zeros(1, 2)).y.round(decimals=2)
        tensor([[ 2., -1.]])
    """

    lr: float

    def __post_init__(self):
        check_step_size("RMSProp", self.lr)

    def _transformation(self):
        # For the derivative of the square root, as in Adam.
        return torchopt.rmsprop(self.lr, initial_scale=1e-30)


def _count_in_double(leaf: Any) -> Any:
    return leaf.double() if isinstance(leaf, Tensor) and not leaf.is_floating_point() else leaf


def _matrices(tree: Any) -> tuple[Tensor, ...]:
    return tuple(as_matrix(leaf) for leaf in tree_leaves(tree))
