"""The energy of a batch and its gradient with respect to the free variables; nothing else computes either."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from ..layout import Layout, tensors
from ..optimizers.base import Evaluation
from ..trees import tree_leaves, tree_map, tree_unflatten
from .explanations import check_second_derivative, explain, explained


@dataclass(frozen=True, eq=False)
class Objective:
    """An energy of a fixed problem, as a function of the free variables.

    Args:
        function: ``function(context, *free) -> (batch,)``.
        context: the encoded problem.
        layout: which rows of the free variables belong to which sample.
        residual_function: ``residuals(context, *free) -> (batch, m)`` of a `LeastSquares` energy; None for others.
        track: whether energies, gradients and Hessian products carry gradients themselves.
        coarse: the half precision of an energy; free variables are float32, and the energy sees them rounded.
        overwrites: whether an optimizer may overwrite the tensors of the state passed to its step, because that state
            is not used again.
    """

    function: Callable[..., Tensor]
    context: Any
    layout: Layout
    residual_function: Callable[..., Tensor] | None = None
    track: bool = False
    coarse: torch.dtype | None = None
    overwrites: bool = False

    def tracked(self) -> "Objective":
        """The same energy, whose gradients carry gradients themselves."""
        return replace(self, track=True, overwrites=False)

    def __call__(self, free: Any) -> Evaluation:
        """Energies and gradients at ``free``.

        Raises:
            ValueError: if the energy is not a floating-point tensor ``(batch,)`` that depends on ``free``.
        """
        return self._evaluate(free)[0]

    def checked(self, free: Any) -> Evaluation:
        """The first evaluation of a solve, which also checks that the energy depends on the free variables.

        Raises:
            ValueError: if it does not, if its gradient is zero wherever it changes, or if it changes its arguments.
        """
        given = [leaf for leaf in tensors((self.context, free)) if not leaf.is_inference()]
        versions = [leaf._version for leaf in given]
        kept = tree_map(torch.clone, free)
        at, depends = self._evaluate(free)
        if not depends:
            raise ValueError(_NO_GRADIENT)
        if versions != [leaf._version for leaf in given] or not _same(kept, free):
            raise ValueError(_IN_PLACE)
        if self._is_flat(at):
            raise ValueError(_FLAT)
        return at

    def twice(self, free: Any) -> Evaluation:
        """A tracked evaluation whose gradient is to be differentiated.

        Raises:
            EnergyError: if autograd would silently take a second derivative that does not exist for zero.
        """
        return self._evaluate(free, twice=True)[0]

    def residuals(self, free: Any) -> Tensor:
        """The residuals ``(batch, m)`` of a `LeastSquares` energy at ``free``, part of the gradient graph.

        Raises:
            TypeError: if the energy is of another kind.
        """
        if self.residual_function is None:
            raise TypeError("This optimizer needs residuals: write the energy as LeastSquares(residuals).")
        return self.residual_function(self.context, *self.seen(free))

    def seen(self, free: Any) -> Any:
        """The free variables as the energy sees them."""
        return free if self.coarse is None else tree_map(lambda leaf: leaf.to(self.coarse), free)

    def hessian(self, free: Any) -> Callable[[Any], Any]:
        """The product of a tree like ``free`` with the Hessian of each sample's energy at ``free``, as a function."""
        with torch.enable_grad():
            leaves = self._leaves(free)
            at = self.tracked().twice(tree_unflatten(free, leaves))
        slopes = tree_leaves(at.gradient)
        followed = [index for index, leaf in enumerate(slopes) if leaf.requires_grad]

        def product(vector: Any) -> Any:
            if not followed:  # a linear energy
                return tree_map(torch.zeros_like, vector)
            parts = tree_leaves(vector)
            with explained():
                found = torch.autograd.grad(
                    [slopes[index] for index in followed],
                    leaves,
                    [parts[index] for index in followed],
                    retain_graph=True,
                    create_graph=self.track,
                    allow_unused=True,
                    materialize_grads=True,
                )
            return tree_unflatten(free, found if self.track else [leaf.detach() for leaf in found])

        return product

    def finite(self, at: Evaluation) -> Bool[Tensor, " batch"]:
        """The samples whose energy and gradient are finite."""
        probes = [self.layout.sum(leaf - leaf) for leaf in tree_leaves(at.gradient)]  # zero, or NaN
        return sum(probes[1:], start=probes[0]) == at.energy - at.energy

    def surely_finite(self, at: Evaluation) -> Bool[Tensor, " batch"]:
        """A cheaper `finite` that reads each gradient once; also False where the sum of its entries overflows."""
        totals = [self.layout.sum(leaf) for leaf in tree_leaves(at.gradient)]
        total = sum(totals[1:], start=totals[0])
        return total - total == at.energy - at.energy

    def _leaves(self, free) -> list[Tensor]:
        """The leaves of ``free``, to differentiate by."""
        return [
            leaf if self.track and leaf.requires_grad else leaf.detach().requires_grad_() for leaf in tree_leaves(free)
        ]

    def _evaluate(self, free, twice: bool = False) -> tuple[Evaluation, bool]:
        """The evaluation, and whether the energy depends on any of the free variables."""
        if torch.compiler.is_compiling():
            return self._evaluate_functional(free), True
        with torch.enable_grad():
            leaves = self._leaves(free)
            try:
                variables = tree_unflatten(free, leaves)
                energy = self.function(self.context, *(variables if self.coarse is None else self.seen(variables)))
                self._check(energy)
                if twice:
                    check_second_derivative(energy, leaves)
                # For one sample autograd supplies the one itself, in a fraction of the time.
                ones = None if energy.numel() == 1 else torch.ones_like(energy)
                gradient = torch.autograd.grad(energy, leaves, ones, create_graph=self.track, allow_unused=True)
            except RuntimeError as error:
                explain(error)
                raise
        used = [leaf is not None for leaf in gradient]
        if not all(used):
            gradient = [torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves, gradient, strict=True)]
        energy = energy if self.track else energy.detach()
        return Evaluation(free, full_precision(energy), tree_unflatten(free, gradient), self.layout), any(used)

    def _is_flat(self, at: Evaluation) -> bool:
        """Whether the gradient is exactly zero for all samples, also nearby, where the energy is another one."""
        if any(bool(leaf.any()) for leaf in tree_leaves(at.gradient)):
            return False
        generator, changes = torch.Generator().manual_seed(0), False

        def moved(leaf: Tensor, scale: float) -> Tensor:
            by = scale * torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype)
            return leaf + by.to(leaf.device) * (1 + leaf.abs())

        for scale in (0.1, 1.0, 10.0):
            with suppress(Exception):  # of any kind: the energy may not be defined there
                near = self(tree_map(partial(moved, scale=scale), at.free))
                if any(bool(leaf.any()) for leaf in tree_leaves(near.gradient)):
                    return False
                rounding = torch.finfo(at.energy.dtype).eps ** 0.5 * (1 + at.energy.abs())
                changes = changes or bool(((near.energy - at.energy).abs() > rounding).any())
        return changes

    def _evaluate_functional(self, free) -> Evaluation:
        """For compiled code, in which `torch.autograd.grad` cannot be differentiated again."""

        def total(free):
            energy = self.function(self.context, *self.seen(free))
            return energy.sum(), energy

        gradient, (_, energy) = torch.func.grad_and_value(total, has_aux=True)(free)
        return Evaluation(free, full_precision(energy), gradient, self.layout)

    def _check(self, energy: Any) -> None:
        if (
            isinstance(energy, Tensor)
            and energy.shape == (self.layout.batch,)
            and energy.is_floating_point()
            and energy.requires_grad
        ):
            return
        expected = f"expected a floating-point tensor of shape ({self.layout.batch},), one energy per sample"
        if not isinstance(energy, Tensor):
            raise ValueError(f"The energy returned a {type(energy).__name__}; {expected}.")
        if energy.shape != (self.layout.batch,):
            raise ValueError(
                f"The energy returned shape {tuple(energy.shape)}; {expected}. Sum over the features of a sample, "
                "never over the batch: ((x - y) ** 2).sum(-1) rather than ((x - y) ** 2).sum(). A single problem "
                "needs a leading batch dimension: x[None]."
            )
        if not energy.is_floating_point():
            raise ValueError(f"The energy returned dtype {energy.dtype}; {expected}.")
        raise ValueError(_NO_GRADIENT)


_IN_PLACE = (
    "The energy changed x, y or z in place. An energy never changes the tensors that it is given: write y.clamp(0, 1) "
    "rather than y.clamp_(0, 1). To keep answers inside a set, use Projected."
)
_FLAT = (
    "The gradient of the energy is zero everywhere, though the energy changes: there is nothing to descend. Rounding, "
    "comparing, sign and argmax have no slope; replace them by smooth operations (torch.sigmoid, softmax)."
)
_NO_GRADIENT = (
    "The energy does not depend on y (or z) as far as autograd can see, so there is no gradient to descend. Compute it "
    "from y with differentiable torch operations: no .detach(), no .item(), no numpy, no torch.no_grad()."
)


def _same(kept: Any, given: Any) -> bool:
    pairs = zip(*map(tree_leaves, (kept, given)), strict=True)
    return all(torch.equal(a, b) or bool(((a == b) | ((a != a) & (b != b))).all()) for a, b in pairs)


def full_precision(energy: Tensor) -> Tensor:
    """Energies in float32 or better; half precision cannot resolve the small changes that halting criteria compare."""
    return energy.float() if energy.dtype in (torch.float16, torch.bfloat16) else energy
