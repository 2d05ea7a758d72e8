"""Arguments of a solve that would be taken for something else, or end in an error of torch."""

import warnings
from typing import Any

import torch
from torch import Tensor

from ..layout import tensors
from ..optimizers.base import Evaluation
from ..trees import detach, tree_map
from .agreement import same_alone
from .reports import DifferentiationWarning
from .solve import Solve


def optimizer_hint(value: Any) -> str:
    """What to write in place of an optimizer of ``torch.optim``; empty for anything else."""
    kind = value if isinstance(value, type) else type(value)
    if not issubclass(kind, torch.optim.Optimizer):
        return ""
    return (
        f" torch.optim.{kind.__name__} holds parameters; an inner optimizer is a rule that every solve starts afresh: "
        "SGD(lr), Momentum(lr), Adam(lr), RMSProp(lr), LBFGS(), or any torchopt transformation, "
        "TorchOpt(lambda: torchopt.adamw(1e-2))."
    )


def refuse_transforms() -> None:
    """Raise a RuntimeError inside a transformation of `torch.func`, in which the solver's autograd does not work."""
    functorch = torch._C._functorch  # pyright: ignore[reportAttributeAccessIssue]  (without type stubs)
    if not torch.compiler.is_compiling() and functorch.peek_interpreter_stack() is not None:
        raise RuntimeError(
            "A solver cannot run inside torch.func.grad, vmap, jacrev or another transformation of torch.func. "
            "Problems are already solved in batches: in place of vmap, stack them along the leading axis of x. For "
            "derivatives, give the solver differentiation=Implicit() or Unroll() and call torch.autograd.grad."
        )


def refuse_single_problem(solve: Solve, free: Any) -> None:
    """Raise a ValueError for a vector ``x`` that is one problem rather than a batch of numbers.

    In a batch, the energy of the first sample does not depend on the other entries.
    """
    if not (isinstance(solve.x, Tensor) and solve.x.ndim == 1 and len(solve.x) > 1):
        return
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            same = _first_is_the_same_alone(solve, free)
    except ValueError:  # with a remedy of its own
        raise
    except Exception:  # of any kind: numbers do not fit the user's code
        same = False
    if not same:
        raise ValueError(
            f"x has the shape {tuple(solve.x.shape)}, so it was taken for a batch of {len(solve.x)} problems of one "
            "number each, but the energy of the first one alone is another one, or fails. For one problem, write "
            "x.unsqueeze(0)."
        )


def _first_is_the_same_alone(solve: Solve, free: Any) -> bool:
    first = torch.zeros(1, dtype=torch.int64, device=solve.x.device)
    part, rows = solve.layout.select(first)
    at = solve.descent(detach(solve.encode(solve.x))).objective(detach(free))
    known = Evaluation(_rows(at.free, rows), at.energy[first], _rows(at.gradient, rows))
    alone = solve.descent(detach(solve.encoded(first)), part).objective(known.free)
    return same_alone([known, known], [alone, alone], part)


def _rows(tree: Any, rows: Tensor) -> Any:
    return tree_map(lambda leaf: leaf.index_select(0, rows), tree)


def warn_if_detached(*trees: Any) -> None:
    """Warn where a gradient is asked for that the mode `Detached` does not give."""
    if any(leaf.requires_grad for tree in trees for leaf in tensors(tree)):
        warnings.warn(
            "x or y requires a gradient, but the solver's differentiation=Detached() gives none: backward() through "
            "the answers would fail or leave this path out. Give the solver differentiation=Implicit(), Truncated(k) "
            "or Unroll(), or pass x.detach().",
            DifferentiationWarning,
            stacklevel=4,
        )


def half_precision(energy: Any) -> torch.dtype | None:
    """The half precision in which an energy computes, by its parameters; None for others."""
    parameters = energy.parameters() if isinstance(energy, torch.nn.Module) else ()
    dtypes = {parameter.dtype for parameter in parameters} & {torch.float16, torch.bfloat16}
    return dtypes.pop() if len(dtypes) == 1 else None


def free_variables(tree: Any) -> Any:
    """Initial free variables of their own, in float32 where they are in half precision, which loses small steps."""

    def own(leaf: Tensor) -> Tensor:
        return leaf.float() if leaf.dtype in (torch.float16, torch.bfloat16) else leaf.clone()

    return tree_map(own, tree)
