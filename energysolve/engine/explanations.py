"""Errors that torch raises inside an energy, with what to do about them."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.autograd.function import once_differentiable


class EnergyError(RuntimeError):
    """The energy could not be evaluated or differentiated; the message says how to repair it."""


_SECOND = (
    "The energy has no second derivative, which the modes that differentiate answers, NewtonCG and "
    "training need. Fused kernels and custom backwards often lack one; replace them by plain operations "
    "(attention by softmax(q @ k.mT) @ v, torch.cdist by a norm of differences), and do not compile the energy itself: "
    "EnergySolver(compile=True) compiles the whole step."
)
_ONCE = once_differentiable.__code__.co_filename
_HINTS = (
    (
        ("double backward", "donated buffer", "derivative for ", "once_differentiable", "differentiable only once"),
        _SECOND,
    ),
    (
        ("call numpy()",),
        "The energy leaves torch: it converts y to numpy, which has no gradient. Write it with differentiable torch "
        "operations; .detach() would only hide this.",
    ),
    (
        ("same dtype", "should be the same", "expected scalar type"),
        "The energy mixes precisions: x or y has another dtype than its parameters. Convert the problem "
        "(x.float()) or the solver (solver.double()). Free variables in half precision are kept in float32, where "
        "steps are not lost to rounding: keep parameters in float32 too, and save time with torch.autocast.",
    ),
    (
        ("in-place operation", "modified by an inplace operation"),
        "The energy changes a tensor in place: y, x, or one that its gradient needs. Write y.clamp(0, 1) rather than "
        "y.clamp_(0, 1); an energy never changes the tensors that it is given.",
    ),
    (
        ("linalg.",),
        "The energy raised an error where it should return a number. Tell samples outside its domain by inf or NaN: an "
        "exception stops the whole batch, a number stops that sample alone. For example "
        "factor, info = torch.linalg.cholesky_ex(a) and torch.where(info > 0, torch.inf, ...).",
    ),
)


@contextmanager
def explained() -> Iterator[None]:
    """Turn errors of torch that an energy is known to cause into an `EnergyError` with a remedy."""
    try:
        yield
    except RuntimeError as error:
        explain(error)
        raise


def explain(error: RuntimeError) -> None:
    """Raise an `EnergyError` with a remedy from an error of torch that an energy is known to cause."""
    said = str(error)
    hint = next((hint for patterns, hint in _HINTS if any(pattern in said for pattern in patterns)), None)
    if hint is not None and not isinstance(error, EnergyError):
        raise EnergyError(f"{hint} torch says: {error}") from error


def check_second_derivative(energy: Tensor, variables: Sequence[Tensor]) -> None:
    """Raise an EnergyError if autograd would silently take a second derivative that does not exist for zero.

    Args:
        energy: part of the gradient graph.
        variables: the free variables; what the energy depends on otherwise is not looked at.
    """
    ends = {leaf.grad_fn for leaf in variables} - {None}
    suspects = [node for node in graph_of(energy, ends) if _lacks_second_derivative(node)]
    for node in suspects:
        reached = graph_of(node, ends)
        if any(end in ends or _is_one_of(getattr(end, "variable", None), variables) for end in reached):
            raise EnergyError(f"{_SECOND} The derivative of {node.name()} is one of them.")


def _lacks_second_derivative(node: Any) -> bool:
    backward = getattr(getattr(node, "_forward_cls", None), "backward", None)
    code = getattr(backward, "__code__", None)
    marked = hasattr(backward, "__wrapped__") and code is not None and code.co_filename == _ONCE
    return marked or node.name() == "CompiledFunctionBackward"


def _is_one_of(tensor: Tensor | None, tensors: Sequence[Tensor]) -> bool:
    return any(tensor is other for other in tensors)


def graph_of(start: Any, ends: Collection[Any] = ()) -> list:
    """The nodes of the graph behind a tensor or a node, itself included, up to the nodes ``ends``."""
    found, waiting = {}, [start.grad_fn if isinstance(start, Tensor) else start]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found[node] = None
            waiting += () if node in ends else [child for child, _ in node.next_functions]
    return list(found)
