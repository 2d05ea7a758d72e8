"""The contract of inner optimizers."""

from typing import Any

import torch
from torch import Tensor

from ..engine.objective import Objective
from ..layout import Dense
from ..optimizers import InnerOptimizer
from ..ragged import rows_select
from ..trees import tree_leaves, tree_map, tree_structure
from .samples import copied, require, same, wells


def check_optimizer(optimizer: InnerOptimizer, *, steps: int = 5, batch: int = 4) -> None:
    """Check that an inner optimizer keeps the contract, on a quadratic with a scratchpad.

    Its steps must be pure, and keep structure, shapes and dtypes of the free variables and of its state. A step of one
    sample must not depend on the others, not even if the gradient of one of them is NaN.

    Args:
        optimizer: the optimizer.
        steps: the number of steps.
        batch: the number of samples.

    Raises:
        AssertionError: if the contract is broken; the message says how to repair it.
    """
    assert isinstance(optimizer, InnerOptimizer), f"Expected an InnerOptimizer instance, got {optimizer!r}."
    objective, free = wells(batch)
    path = _steps(optimizer, objective, free, steps)
    again = _steps(optimizer, objective, free, steps)
    require(
        all(same(a, b) for a, b in zip(path, again, strict=True)),
        "The same steps gave different results the second time. Keep no state on the object: return a new state.",
    )
    for sample in range(batch):
        rows = torch.tensor([sample])
        single = Objective(objective.function, rows_select(objective.context, rows), Dense(1))
        alone = _steps(optimizer, single, rows_select(free, rows), steps)
        for step, (together, own) in enumerate(zip(path, alone, strict=True)):
            require(
                _close(rows_select(together, rows), own, 1e-9),
                f"After step {step}, the iterates of sample {sample} differ alone and in a batch. Use no mean, norm or "
                "line search over the whole batch.",
            )
    poisoned = tree_map(lambda leaf: torch.cat([leaf[:1] * torch.nan, leaf[1:]]), free)
    others = torch.arange(1, batch)
    for clean, dirty in zip(path, _steps(optimizer, objective, poisoned, steps), strict=True):
        require(
            same(rows_select(clean, others), rows_select(dirty, others)),
            "A sample that is NaN changed the steps of others. Mask with torch.where, and never multiply by a mask.",
        )


def _steps(optimizer: InnerOptimizer, objective: Objective, free: Any, steps: int) -> list[Any]:
    state, path = optimizer.init(free), []
    shape = None
    for _ in range(steps):
        at = objective(free)
        given = [at, state]
        kept = [tree_map(copied, tree) for tree in given]
        moved, state = optimizer.step(at, state, objective)
        require(
            same(kept, given),
            "A step changed the evaluation or the state that it was given in place. Return new tensors.",
        )
        require(
            _structure(moved) == _structure(free),
            f"A step changed the free variables from {_structure(free)} to {_structure(moved)}; it must keep their "
            "structure, shapes and dtypes.",
        )
        free = moved
        path.append(free)
        found = _structure([leaf for leaf in tree_leaves(state) if isinstance(leaf, Tensor)])
        require(
            shape in (None, found),
            f"The optimizer's state changed from {shape} to {found} between steps; shapes and dtypes must stay.",
        )
        shape = found
    return path


def _structure(tree: Any) -> Any:
    return tree_structure(tree), [(tuple(leaf.shape), leaf.dtype) for leaf in tree_leaves(tree)]


def _close(a: Any, b: Any, rtol: float) -> bool:
    pairs = zip(tree_leaves(a), tree_leaves(b), strict=True)
    return all(torch.allclose(p, q, rtol=rtol, atol=rtol) for p, q in pairs)
