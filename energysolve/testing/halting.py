"""The contract of halting criteria."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..halting import Halting, StepInfo
from ..layout import Dense
from ..optimizers import SGD
from ..ragged import rows_select
from .samples import require, wells


def check_halting(criterion: Halting, *, steps: int = 20, batch: int = 6, shape: Sequence[int] = (3,)) -> None:
    """Check that a halting criterion keeps the contract, along a smooth and an oscillating descent.

    It must return one boolean per sample, which does not depend on the other samples; be stateless, with all memory in
    the state that `update` returns; and never fire before `earliest`.

    Args:
        criterion: the criterion.
        steps: the number of iterates.
        batch: the number of samples.
        shape: the shape of one answer, for criteria that look at answers of that shape, ``(batch, *shape)``.

    Raises:
        AssertionError: if the contract is broken; the message says how to repair it.

    Examples:
        >>> from energysolve import GradientNorm, halting
        >>> from energysolve.testing import check_halting
        >>> check_halting(GradientNorm(1e-3))  # says nothing: the contract is kept
        >>> @halting
        ... def all_low(info):
        ...     return info.energy.max() < 1.0
        >>> check_halting(all_low)
        Traceback (most recent call last):
        ...
        AssertionError: At iterate 0 the criterion returned torch.bool of shape (); expected ... tensor of shape (6,)...
    """
    assert isinstance(criterion, Halting), (
        f"Expected a Halting, got {criterion!r}. Did you forget @halting, or to pass an instance of a class?"
    )
    kept = dict(vars(criterion)) if hasattr(criterion, "__dict__") else {}
    for infos in (list(_descent(steps, batch, lr, shape)) for lr in (0.05, 0.6)):
        decisions = _decide(criterion, infos)
        for step, fires in enumerate(decisions):
            require(
                isinstance(fires, Tensor) and fires.dtype == torch.bool and fires.shape == (batch,),
                f"At iterate {step} the criterion returned {_described(fires)}; expected a torch.bool tensor of shape "
                f"({batch},). Compare with <= or <, combine with & and |, and do not reduce over the batch.",
            )
            require(
                step >= criterion.earliest() or not bool(fires.any()),
                f"The criterion fired at iterate {step}, though earliest() promises {criterion.earliest()} or later.",
            )
        require(
            all(torch.equal(a, b) for a, b in zip(decisions, _decide(criterion, infos), strict=True)),
            "The decisions on the same descent differ the second time. Keep no state on the object: return it from "
            "update(info, state), and start from init(energy).",
        )
        for sample in range(batch):
            alone = _decide(criterion, [_only(info, sample) for info in infos])
            for step, (together, single) in enumerate(zip(decisions, alone, strict=True)):
                require(
                    bool(together[sample]) == bool(single[0]),
                    f"At iterate {step} the decision on sample {sample} differs alone and in a batch. Use no mean, max "
                    "or norm over the batch: every quantity in StepInfo has one value per sample.",
                )
    now = dict(vars(criterion)) if hasattr(criterion, "__dict__") else {}
    changed = [name for name in kept | now if name not in now or kept.get(name, now) is not now[name]]
    require(
        not changed,
        f"The criterion changed its attribute {', '.join(changed)}. Keep no state on the object: return it from "
        "update(info, state), and start from init(energy).",
    )


def _descent(steps: int, batch: int, lr: float, shape: Sequence[int]) -> Iterator[StepInfo]:
    """Iterates of gradient descent on quadratics; with a large step size, energies also rise."""
    objective, free = wells(batch, shape=shape)
    optimizer = SGD(lr)
    at, state, previous = objective(free), optimizer.init(free), None
    first = at.energy
    last = torch.full_like(first, torch.inf)
    for step in range(steps + 1):
        index = torch.tensor(step)
        yield StepInfo(index, at.energy, last, first, at.gradient, at.free, previous, objective.layout)
        previous, last = at.free, at.energy
        moved, state = optimizer.step(at, state, objective)
        at = objective(moved)


def _only(info: StepInfo, sample: int) -> StepInfo:
    rows = torch.tensor([sample])
    free, previous, gradient = rows_select((info.free, info.previous, info.gradient), rows)
    energies = (info.energy[rows], info.previous_energy[rows], info.initial_energy[rows])
    return StepInfo(info.step, *energies, gradient, free, previous, Dense(1))


def _decide(criterion: Halting, infos: list[StepInfo]) -> list[Any]:
    state, decisions = criterion.init(infos[0].energy), []
    for info in infos:
        fires, state = criterion.update(info, state)
        decisions.append(fires)
    return decisions


def _described(value: Any) -> str:
    return f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
