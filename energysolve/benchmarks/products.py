"""The matrix products that a training iteration needs, and the rate at which the machine multiplies matrices."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class Product(NamedTuple):
    """A product of a ``rows × inner`` and an ``inner × columns`` matrix, each possibly stored transposed."""

    rows: int
    inner: int
    columns: int
    left_transposed: bool = False
    right_transposed: bool = False

    @property
    def flop(self) -> int:
        """Number of floating-point operations."""
        return 2 * self.rows * self.inner * self.columns


def iteration_products(rows: int, x_dim: int, y_dim: int, width: int, depth: int, steps: int) -> list[Product]:
    """The products of a training iteration with an MLP energy under ``Truncated(1)``, in the order of the algorithm.

    ``x`` passes its half of the first layer once. Every step is a forward and a backward pass through the layers, for
    the gradient with respect to ``y``. The last step is differentiated again: the gradient at ``y`` passes the layers
    upwards and gives one part of each weight's gradient; its effect on the forward pass is propagated down again and
    gives the other part. The head, a single row of weights, is left out: it is less than a thousandth of the work.

    Args:
        rows: number of problems, new and replayed.
        x_dim, y_dim, width, depth: arguments of `MLPEnergy`.
        steps: number of inner steps.
    """

    def up(a: int, b: int) -> Product:
        return Product(rows, a, b, right_transposed=True)

    def down(a: int, b: int) -> Product:
        return Product(rows, b, a)

    def weight(a: int, b: int) -> Product:
        return Product(b, rows, a, left_transposed=True)

    layers = [(y_dim, width), *[(width, width)] * (depth - 1)]
    step = [*(up(*layer) for layer in layers), *(down(*layer) for layer in reversed(layers))]
    upwards = [product for layer in layers for product in (up(*layer), weight(*layer))]
    downwards = [product for layer in reversed(layers[1:]) for product in (weight(*layer), down(*layer))]
    ends = [weight(y_dim, width), weight(x_dim, width)]
    return [up(x_dim, width), *step * steps, *upwards, *downwards, *ends]


def flop(products: Sequence[Product]) -> int:
    """Total number of floating-point operations."""
    return sum(product.flop for product in products)


def multiplying(products: Sequence[Product], device: torch.device | str = "cpu") -> Callable[[], None]:
    """A function that computes the products in float32, one after the other, and nothing else."""
    made: dict[Any, Tensor] = {}

    def matrix(name: str, rows: int, columns: int, transposed: bool = False) -> Tensor:
        key = name, rows, columns, transposed
        if key not in made:
            made[key] = torch.randn((columns, rows) if transposed else (rows, columns), device=device)
        return made[key].t() if transposed else made[key]

    triples = [
        (
            matrix("left", each.rows, each.inner, each.left_transposed),
            matrix("right", each.inner, each.columns, each.right_transposed),
            matrix("out", each.rows, each.columns),
        )
        for each in products
    ]

    def multiply() -> None:
        for left, right, out in triples:
            torch.mm(left, right, out=out)

    return multiply


def executed_flop(function: Callable[[], Any]) -> int:
    """The number of floating-point operations in the matrix products that torch executes during a call."""
    with _CountedFlop() as counted:
        function()
    return counted.total


class _CountedFlop(TorchDispatchMode):
    # torch's FlopCounterMode hooks modules in a way that torch.autograd.grad rejects; the formulas are the same.
    total = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        formula = flop_registry.get(function._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=out)
        return out
