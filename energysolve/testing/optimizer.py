"""The contract of inner optimizers."""

from typing import Any

import torch
from torch import Tensor

from ..engine.objective import Objective
from ..engine.observers import decisions
from ..layout import Dense
from ..optimizers import InnerOptimizer
from ..optimizers.base import Evaluation, PerSample
from ..ragged import rows_select
from ..trees import tree_leaves, tree_map, tree_structure
from .samples import copied, require, same, wells


def check_optimizer(optimizer: InnerOptimizer, *, steps: int = 5, batch: int = 4, scratchpad: bool = True) -> None:
    """Check that an inner optimizer keeps the contract, on a small problem with a known minimum.

    Its steps must be pure, and keep structure, shapes and dtypes of the free variables and of its state. A step of one
    sample must not depend on the others, not even if the gradient of one of them is NaN.

    One that searches is driven as the solver does. It must accept only candidates at which the energy has not risen by
    more than its rounding, and `InnerOptimizer.follow` must lead to the candidates that were accepted.

    Args:
        optimizer: the optimizer.
        steps: the number of steps; an optimizer that searches makes four times as many trials.
        batch: the number of samples.
        scratchpad: whether there is a scratchpad; False for an optimizer that takes none.

    Raises:
        AssertionError: if the contract is broken; the message says how to repair it.

    Examples:
        >>> from energysolve import SGD
        >>> from energysolve.optimizers import InnerOptimizer
        >>> from energysolve.testing import check_optimizer
        >>> check_optimizer(SGD(0.1))  # says nothing: the contract is kept
        >>> class Global(InnerOptimizer):  # steps of a length that all samples share
        ...     def init(self, free):
        ...         return ()
        ...
        ...     def step(self, at, state, evaluate):
        ...         moved = [leaf - slope / slope.norm() for leaf, slope in zip(at.free, at.gradient)]
        ...         return tuple(moved), state
        >>> check_optimizer(Global())
        Traceback (most recent call last):
        ...
        AssertionError: After step 0, the iterates of sample 0 differ alone and in a batch...
    """
    assert isinstance(optimizer, InnerOptimizer), f"Expected an InnerOptimizer instance, got {optimizer!r}."
    steps = 4 * steps if optimizer.searches else steps
    objective, free = wells(batch, scratchpad=scratchpad, steep=optimizer.searches)
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
        if optimizer.searches:
            _check_follow(optimizer, single, rows_select(free, rows), steps)
    poisoned = tree_map(lambda leaf: torch.cat([leaf[:1] * torch.nan, leaf[1:]]), free)
    others = torch.arange(1, batch)
    for clean, dirty in zip(path, _steps(optimizer, objective, poisoned, steps), strict=True):
        require(
            same(rows_select(clean, others), rows_select(dirty, others)),
            "A sample that is NaN changed the steps of others. Mask with torch.where, and never multiply by a mask.",
        )


def _steps(optimizer: InnerOptimizer, objective: Objective, free: Any, steps: int) -> list[Any]:
    state, path = optimizer.begin(free, objective.layout), []
    shape = None
    for _ in range(steps):
        at = objective(free)
        given = [at, state]
        kept = tree_map(copied, _opened(given))
        moved, state = optimizer.step(at, state, objective)
        require(
            same(kept, _opened(given)),
            "A step changed the evaluation or the state that it was given in place. Return new tensors.",
        )
        require(
            _structure(moved) == _structure(free),
            f"A step changed the free variables from {_structure(free)} to {_structure(moved)}; it must keep their "
            "structure, shapes and dtypes.",
        )
        if optimizer.searches:
            accepted, state = _decide(optimizer, objective, at, moved, state)
            moved = objective.layout.where(accepted, moved, free)
        free = moved
        path.append(free)
        found = _structure([leaf for leaf in tree_leaves(_opened(state)) if isinstance(leaf, Tensor)])
        require(
            shape in (None, found),
            f"The optimizer's state changed from {shape} to {found} between steps; shapes and dtypes must stay.",
        )
        shape = found
    return path


def _decide(
    optimizer: InnerOptimizer, objective: Objective, at: Evaluation, moved: Any, state: Any
) -> tuple[Tensor, Any]:
    """Evaluate the candidate; where it is accepted, and the state afterwards."""
    trial = objective(moved)
    finite = objective.finite(trial)
    trial = trial._replace(energy=torch.where(finite, trial.energy, torch.inf))
    given = at, trial, state
    kept = tree_map(copied, _opened(given))
    accepted, state = optimizer.accept(at, trial, state)
    require(
        same(kept, _opened(given)),
        "accept changed the evaluations or the state that it was given in place. Return new tensors.",
    )
    for name, mask in (("accept", accepted), ("stalled", optimizer.stalled(state))):
        require(
            isinstance(mask, Tensor) and mask.dtype == torch.bool and mask.shape == at.energy.shape,
            f"{name} returned {mask!r}; expected a torch.bool tensor of shape {tuple(at.energy.shape)}, one decision "
            "per sample.",
        )
    rises = trial.energy > at.energy + 8 * torch.finfo(at.energy.dtype).eps * at.energy.abs()
    require(
        not bool((accepted & finite & rises).any()),
        "A candidate of higher energy was accepted. Refuse it, and propose a shorter step from the same iterate.",
    )
    return accepted & finite, state


def _check_follow(optimizer: InnerOptimizer, objective: Objective, free: Any, steps: int) -> None:
    """Check that the accepted steps of one sample can be repeated."""
    state = repeated = optimizer.begin(free, objective.layout)
    for trial in range(steps):
        at, saved = objective(free), decisions(state)
        moved, state = optimizer.step(at, state, objective)
        accepted, state = _decide(optimizer, objective, at, moved, state)
        if bool(accepted.all()):
            again, repeated = optimizer.step(at, optimizer.follow(at, repeated, saved), objective)
            require(
                _close(moved, again, 1e-7),
                f"After follow, step does not repeat the step that was accepted at trial {trial}. Take what was "
                "decided for a sample from the saved state, and everything else as if no candidate had been refused.",
            )
            free = moved


def _opened(tree: Any) -> Any:
    """The tree with `PerSample` parts replaced by what they hold."""
    return tree_map(lambda leaf: _opened(leaf.value) if isinstance(leaf, PerSample) else leaf, tree)


def _structure(tree: Any) -> Any:
    return tree_structure(tree), [(tuple(leaf.shape), leaf.dtype) for leaf in tree_leaves(tree)]


def _close(a: Any, b: Any, rtol: float) -> bool:
    pairs = zip(tree_leaves(a), tree_leaves(b), strict=True)
    return all(torch.allclose(p, q, rtol=rtol, atol=rtol) for p, q in pairs)
