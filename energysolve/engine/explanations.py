"""Errors that torch raises inside an energy, with what to do about them."""

from collections.abc import Iterator
from contextlib import contextmanager

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
    (("double backward", "derivative for ", "once_differentiable", "differentiable only once"), _SECOND),
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
    except EnergyError:
        raise
    except (RuntimeError, NotImplementedError) as error:
        hint = hint_for(error)
        if hint is None:
            raise
        raise EnergyError(f"{hint} torch says: {error}") from error


def hint_for(error: Exception) -> str | None:
    """What to do about an error that torch raised inside an energy; None if that is not known."""
    said = str(error)
    return next((hint for patterns, hint in _HINTS if any(pattern in said for pattern in patterns)), None)


def check_second_derivative(energy: Tensor) -> None:
    """Raise an EnergyError if autograd would silently take a second derivative that does not exist for zero."""
    for node in graph_of(energy):
        backward = getattr(getattr(node, "_forward_cls", None), "backward", None)
        wrapper = getattr(backward, "__code__", None)
        if hasattr(backward, "__wrapped__") and wrapper is not None and wrapper.co_filename == _ONCE:
            raise EnergyError(f"{_SECOND} {node.name()} is marked as differentiable only once.")


def graph_of(tensor: Tensor) -> list:
    """The nodes of the graph behind a tensor."""
    found, waiting = {}, [tensor.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found[node] = None
            waiting += [child for child, _ in node.next_functions]
    return list(found)
