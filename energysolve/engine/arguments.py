"""Arguments of a solve that would be taken for something else, or end in an error of torch."""

import warnings
from typing import Any

import torch
from torch import Tensor

from ..layout import tensors
from ..trees import tree_map
from .reports import DifferentiationWarning


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


def refuse_single_problem(x: Any) -> None:
    """Raise a ValueError for a bare vector ``x``, which is one problem or a batch of numbers."""
    if isinstance(x, Tensor) and x.ndim == 1:
        raise ValueError(
            f"x has the shape {tuple(x.shape)}: is it one problem, or a batch of {len(x)}? For one problem, write "
            "x.unsqueeze(0); for a batch of problems that are one number each, x.unsqueeze(1). To keep it as it is, "
            "pass y, or give the solver layout=lambda x: Dense(len(x))."
        )


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


def free_variables(tree: Any) -> Any:
    """Initial free variables of their own, in float32 where they are in half precision, which loses small steps."""

    def own(leaf: Tensor) -> Tensor:
        return leaf.float() if leaf.dtype in (torch.float16, torch.bfloat16) else leaf.clone()

    return tree_map(own, tree)
