"""The contract of energies."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..energy import encode_and_evaluate
from ..engine.agreement import same_alone
from ..engine.objective import Objective
from ..layout import Layout, SelectFunction, layout_of, select_problems
from ..optimizers.base import Evaluation
from ..ragged import rows_select
from ..trees import detach, tree_leaves, tree_map
from .samples import copied, require, same


def check_energy(
    energy: Callable[..., Tensor],
    x: Any,
    y: Any,
    z: Any = None,
    *,
    layout: Layout | None = None,
    select: SelectFunction | None = None,
    rtol: float | None = None,
) -> None:
    """Check that an energy keeps the contract, on a batch of two or more problems.

    The energy must return one floating-point number per sample, which does not depend on the other samples, not even
    if one of them is NaN; be deterministic; leave its inputs unchanged; and have first and second derivatives that
    agree with finite differences (training needs both).

    Args:
        energy: ``energy(x, y) -> (batch,)`` or ``energy(x, y, z) -> (batch,)``.
        x: problems.
        y: answers away from kinks; float64 makes the checks sharp.
        z: scratchpads, if the energy takes them.
        layout: of ``y``; by default that of a solver without ``layout``.
        select: ``select(x, samples)``, as of `EnergySolver`.
        rtol: relative tolerance of the derivatives; by default the 1/4 power of the precision.

    Raises:
        AssertionError: if the contract is broken; the message says where, and how to repair it.

    Examples:
        >>> import torch
        >>> from energysolve.testing import check_energy
        >>> x, y = torch.rand(2, 3, 4, dtype=torch.float64)
        >>> check_energy(lambda x, y: (y - x).square().sum(-1), x, y)  # says nothing: the contract is kept
        >>> check_energy(lambda x, y: (y - y.mean(0)).square().sum(-1), x, y)
        Traceback (most recent call last):
        ...
        AssertionError: Sample 0 ... Samples must not depend on each other...
    """
    layout = layout_of(x) if layout is None else layout
    if layout.batch < 2:
        raise ValueError(f"check_energy needs a batch of 2 or more to see whether samples mix, got {layout.batch}.")
    free: Any = (y,) if z is None else (y, z)
    encode, evaluate = encode_and_evaluate(energy)
    kept = [tree_map(copied, tree) for tree in (x, free)]
    objective = Objective(evaluate, detach(encode(x)), layout)
    try:
        at = objective.checked(free)
    except ValueError as error:
        raise AssertionError(str(error)) from error
    except RuntimeError as error:
        require("in-place operation" not in str(error), _IN_PLACE)  # autograd noticed it first
        raise
    tolerance = torch.finfo(at.energy.dtype).eps ** 0.25 if rtol is None else rtol
    require(
        bool(objective.finite(at).all()),
        "The energy or its gradient is NaN or infinite at the y that was given, so nothing else can be checked.",
    )
    require(same(kept, [x, free]), _IN_PLACE)
    require(
        torch.equal(objective(free).energy, at.energy),
        "Two evaluations at the same y gave different energies. An energy must be deterministic: no dropout (call "
        ".eval()), no sampling inside.",
    )
    _check_samples_alone(objective, lambda samples: encode(select_problems(x, samples, layout, select)), free, at)
    _check_poison(objective, free, at)
    _check_gradient(objective, free, at, tolerance)
    _check_second_derivative(objective, free, tolerance)


_IN_PLACE = "The energy changed x, y or z in place. Write y * 2 rather than y.mul_(2)."


def _check_samples_alone(objective: Objective, encoded: Callable[[Tensor], Any], free: Any, at: Evaluation) -> None:
    layout = objective.layout
    known = at, objective(_moved(free, _random_like(free, layout), 1.0))
    for sample in range(layout.batch):
        samples = torch.tensor([sample], device=at.energy.device)
        part, rows = layout.select(samples)
        expected = [
            Evaluation(rows_select(one.free, rows), one.energy[samples], rows_select(one.gradient, rows))
            for one in known
        ]
        try:
            alone = Objective(objective.function, detach(encoded(samples)), part)
            found = [alone(one.free) for one in expected]
        except Exception as error:
            raise AssertionError(
                f"Sample {sample} cannot be evaluated alone: {str(error).rstrip('.')}. If x is not made of tensors "
                "with one row per sample, pass select=, a function (x, samples) -> x of these samples."
            ) from error
        require(
            same_alone(expected, found, part),
            f"Sample {sample} has energy {at.energy[sample].item():.8g} in the batch and "
            f"{found[0].energy.item():.8g} alone, or another gradient. Samples must not depend on each other: no batch "
            "normalization, no mean, max or softmax over the batch. A tensor in x with as many rows as the batch must "
            "have one row per sample; otherwise pass select=.",
        )


def _check_poison(objective: Objective, free: Any, at: Evaluation) -> None:
    layout = objective.layout
    others = torch.arange(layout.batch, device=at.energy.device) > 0
    poisoned = layout.where(others, free, tree_map(lambda leaf: torch.full_like(leaf, torch.nan), free))
    found = objective(poisoned)
    clean = tree_map(torch.nan_to_num, layout.where(others, at.gradient, _zeros(free)))
    dirty = layout.where(others, found.gradient, _zeros(free))
    require(
        torch.equal(found.energy[1:], at.energy[1:]) and same(clean, dirty),
        "A NaN in sample 0 changed the energy or gradient of other samples. Samples must not mix, not even multiplied "
        "by zero: mask with torch.where.",
    )


def _check_gradient(objective: Objective, free: Any, at: Evaluation, rtol: float) -> None:
    layout = objective.layout
    direction = _random_like(free, layout)
    length = torch.finfo(at.energy.dtype).eps ** (1 / 3)
    ahead, behind = (objective(_moved(free, direction, sign * length)).energy for sign in (1, -1))
    expected, found = (ahead - behind) / (2 * length), layout.dot(at.gradient, direction)
    scale = layout.norm(at.gradient) + 1 + at.energy.abs()
    worst = int(((expected - found).abs() / scale).argmax())
    require(
        bool(((expected - found).abs() <= rtol * scale).all()),
        f"The gradient that autograd finds is not the slope of the energy: sample {worst} has the derivative "
        f"{found[worst].item():.6g} along a direction in which finite differences give {expected[worst].item():.6g}. "
        "Look for .detach(), .data, torch.no_grad(), rounding or a custom backward inside the energy.",
    )


def _check_second_derivative(objective: Objective, free: Any, rtol: float) -> None:
    layout = objective.layout
    point = tree_map(lambda leaf: leaf.detach().requires_grad_(), free)
    try:
        gradient = objective.tracked()(point).gradient
        direction = _random_like(free, layout)
        along = layout.dot(gradient, direction)
        leaves = tree_leaves(point)
        if along.requires_grad:
            product = torch.autograd.grad(along.sum(), leaves, materialize_grads=True)
        else:  # a linear energy, or a gradient that has lost its graph
            product = [torch.zeros_like(leaf) for leaf in leaves]
    except RuntimeError as error:
        raise AssertionError(
            f"The gradient of the energy cannot be differentiated again, which training needs: {error}. Fused kernels "
            "and custom backwards often lack a second derivative; replace them by plain operations."
        ) from error
    length = torch.finfo(along.dtype).eps ** (1 / 3)
    ahead, behind = (objective(_moved(free, direction, sign * length)).gradient for sign in (1, -1))
    expected = [(a - b) / (2 * length) for a, b in zip(*map(tree_leaves, (ahead, behind)), strict=True)]
    scale = 1 + max(float(leaf.detach().abs().max()) for leaf in (*expected, *tree_leaves(gradient)) if leaf.numel())
    require(
        all(bool(((a - b).abs() <= rtol * scale).all()) for a, b in zip(expected, product, strict=True)),
        "The second derivative that autograd finds is not the slope of the gradient. Look for a custom backward, or "
        ".detach() on a part of the gradient.",
    )


def _zeros(tree: Any) -> Any:
    return tree_map(torch.zeros_like, tree)


def _moved(free: Any, direction: Any, length: float) -> Any:
    return tree_map(lambda leaf, along: leaf + length * along, free, direction)


def _random_like(free: Any, layout: Layout) -> Any:
    """A direction of unit length for each sample, the same at every call."""
    generator = torch.Generator().manual_seed(0)
    direction = tree_map(
        lambda leaf: torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype).to(leaf.device), free
    )
    return layout.scale(1 / layout.norm(direction).clamp(min=1e-12), direction)
