"""The matrix products that a training iteration cannot do without, and how fast the machine multiplies matrices."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class Product(NamedTuple):
    """A product of a ``rows × inner`` with an ``inner × columns`` matrix, either of them stored transposed."""

    rows: int
    inner: int
    columns: int
    left_transposed: bool = False
    right_transposed: bool = False

    @property
    def flop(self) -> int:
        """Floating-point operations."""
        return 2 * self.rows * self.inner * self.columns


def iteration_products(rows: int, x_dim: int, y_dim: int, width: int, depth: int, steps: int) -> list[Product]:
    """The products of a training iteration with an MLP energy under ``Truncated(1)``, in the order of the algorithm.

    ``x`` passes its half of the first layer once. Every step goes forward and backward through the layers to the
    gradient with respect to ``y``. The last step is differentiated once more: the gradient that arrives at ``y`` passes
    the layers upwards, leaving a part of each weight's gradient behind, and what it does to the forward pass comes down
    again, leaving the other part. The head, with its single row of weights, is left out: it is less than a thousandth.

    Args:
        rows: problems, new and replayed.
        x_dim, y_dim, width, depth: as of `MLPEnergy`.
        steps: inner steps.
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
    """Floating-point operations of them all."""
    return sum(product.flop for product in products)


def multiplying(products: Sequence[Product], device: torch.device | str = "cpu") -> Callable[[], None]:
    """A function that does the products in float32, one after the other, and nothing else."""
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


class CountedFlop(TorchDispatchMode):
    """Counts the floating-point operations of the matrix products that torch executes, in ``total``.

    torch's own `FlopCounterMode` hooks modules in a way that `torch.autograd.grad` refuses; its formulas are these.
    """

    def __init__(self):
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        formula = flop_registry.get(function._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=out)
        return out
