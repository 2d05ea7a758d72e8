"""Hypothesis strategies for property-based tests of energies, halting criteria, optimizers and solvers.

Every strategy shrinks to the simplest case: dense tensors, no scratchpad, gradient descent, one criterion.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from ..energy import Energy
from ..halting import After, EnergyChange, EnergyIncrease, GradientNorm, Halting, Never, StepNorm, TargetEnergy
from ..layout import Dense, Layout, Segment
from ..optimizers import SGD, Adam, Box, InnerOptimizer, Momentum, Projected, RMSProp, TorchOpt
from ..ragged import rows_select
from ..trees import tree_leaves


@dataclass(frozen=True, eq=False)
class Batch:
    """A batch of problems with an initial point.

    Attributes:
        x: the problems, a dict: ``width`` ``(batch, 1)``; ``target``, with the structure of ``y``; and, for segment
            layouts, ``index``.
        y: initial answers.
        z: initial scratchpads, or None.

    Examples:
        >>> from energysolve import SGD, EnergySolver
        >>> from energysolve.testing.strategies import Batch, batch_layout, batches, energies
        >>> from hypothesis import given, settings
        >>> @settings(max_examples=2, deadline=None)
        ... @given(batches(), energies())
        ... def check(batch: Batch, energy):
        ...     solver = EnergySolver(energy, SGD(0.1), layout=batch_layout, max_steps=2)
        ...     assert len(solver.minimize(batch.x, batch.y, batch.z).steps) == batch.layout.batch
        >>> print(check())  # nothing was found
        None
    """

    x: dict[str, Any]
    y: Any
    z: Any

    @property
    def layout(self) -> Layout:
        """The layout of the answers."""
        return batch_layout(self.x)

    def select(self, samples: Tensor) -> "Batch":
        """The batch of the samples with these indices."""
        layout, rows = self.layout.select(samples)

        x = {"width": self.x["width"][samples], "target": rows_select(self.x["target"], rows)}
        if isinstance(layout, Segment):
            x["index"] = layout.index
        return Batch(x, *rows_select((self.y, self.z), rows))


class RowWise(Energy):
    """An energy for any `Batch`, in row-wise arithmetic, whose rounding does not depend on the batch.

    The sum over all entries of ``width * shape(y - target)`` and, with a scratchpad, of ``coupling * (z - y)^2``.

    Args:
        shape: ``shape(d)`` for a tensor of differences, entry by entry.
        coupling: weight of the scratchpad's term.

    Examples:
        >>> import torch
        >>> from energysolve.testing.strategies import RowWise
        >>> x = {"width": torch.tensor([[1.0], [2.0]]), "target": torch.zeros(2, 3)}
        >>> RowWise(torch.square)(x, torch.ones(2, 3)).detach()  # width times the sum of squares
        tensor([3., 6.])
    """

    def __init__(self, shape: Any, coupling: float = 0.3):
        super().__init__()
        self.shape = shape
        self.stiffness = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.coupling = coupling

    def evaluate(self, context: dict[str, Any], y: Any, *z: Any) -> Tensor:
        layout = batch_layout(context)
        width = context["width"].squeeze(1) * self.stiffness.to(context["width"].dtype)
        leaves, targets = tree_leaves(y), tree_leaves(context["target"])
        terms = [layout.sum(self.shape(leaf - goal)) for leaf, goal in zip(leaves, targets, strict=True)]
        total = width * sum(terms[1:], start=terms[0])
        for pads in z:
            for pad, leaf in zip(tree_leaves(pads), leaves, strict=True):
                total = total + self.coupling * layout.sum((pad - leaf).square())
        return total

    def extra_repr(self) -> str:
        return f"{self.shape.__name__}, coupling={self.coupling}"


def batch_layout(x: dict[str, Any]) -> Layout:
    """The layout of the problems of a `Batch`, for the solver's ``layout=``.

    Examples:
        >>> import torch
        >>> from energysolve.testing.strategies import batch_layout
        >>> x = {"width": torch.ones(2, 1), "target": torch.zeros(3, 1)}
        >>> batch_layout(x), batch_layout(x | {"index": torch.tensor([0, 0, 1])}).rows
        (Dense(batch=2), 3)
    """
    count = len(x["width"])
    return Segment(x["index"], count) if "index" in x else Dense(count)


def quadratic(d: Tensor) -> Tensor:
    """A bowl."""
    return d.square()


def quartic(d: Tensor) -> Tensor:
    """Flat at the minimum, steep far from it."""
    return 0.1 * d.square().square() + 0.05 * d.square()


def pseudo_huber(d: Tensor) -> Tensor:
    """A bowl with linear walls. (Not log cosh: torch rounds cosh differently at the end of a vector register.)"""
    return (1 + d.square()).sqrt() - 1


def bumpy(d: Tensor) -> Tensor:
    """A bowl with local minima."""
    return d.square() + 0.5 * (1 - (3 * d).cos())


def tolerances(low: float = 1e-6, high: float = 1.0) -> st.SearchStrategy[float]:
    """Positive tolerances over several orders of magnitude.

    Examples:
        >>> from energysolve.testing.strategies import tolerances
        >>> from hypothesis import find
        >>> 0.01 <= find(tolerances(), lambda tolerance: tolerance >= 0.01) <= 1
        True
    """
    return st.floats(low, high)


def energies() -> st.SearchStrategy[RowWise]:
    """Energies for any `Batch`, with a parameter to differentiate by.

    Examples:
        >>> import torch
        >>> from energysolve.testing.strategies import energies
        >>> from hypothesis import find
        >>> energy = find(energies(), lambda energy: True)  # the simplest: a bowl
        >>> energy({"width": torch.ones(1, 1), "target": torch.zeros(1, 2)}, torch.ones(1, 2)).detach()
        tensor([2.])
    """
    return st.builds(RowWise, st.sampled_from([quadratic, quartic, pseudo_huber, bumpy]))


def simple_criteria() -> st.SearchStrategy[Halting]:
    """Halting criteria without composition.

    Examples:
        >>> from energysolve import GradientNorm
        >>> from energysolve.testing.strategies import simple_criteria
        >>> from hypothesis import find
        >>> type(find(simple_criteria(), lambda criterion: isinstance(criterion, GradientNorm))).__name__
        'GradientNorm'
    """
    return st.one_of(
        st.builds(After, st.integers(0, 12)),
        st.builds(EnergyChange, atol=tolerances()),
        st.builds(EnergyChange, rtol=tolerances()),
        st.builds(GradientNorm, tolerances(high=10.0)),
        st.builds(StepNorm, tolerances()),
        st.builds(TargetEnergy, st.floats(-1, 5)),
        st.just(EnergyIncrease()),
        st.just(Never()),
    )


def criteria() -> st.SearchStrategy[Halting]:
    """Halting criteria and their compositions.

    Examples:
        >>> from energysolve.testing import check_halting
        >>> from energysolve.testing.strategies import criteria
        >>> from hypothesis import given, settings
        >>> @settings(max_examples=3, deadline=None)
        ... @given(criteria())
        ... def check(criterion):
        ...     check_halting(criterion, steps=4, batch=2)
        >>> print(check())  # nothing was found
        None
    """
    return st.recursive(
        simple_criteria(),
        lambda inner: st.one_of(
            st.builds(lambda a, b: a | b, inner, inner),
            st.builds(lambda a, b: a & b, inner, inner),
            st.builds(lambda a, n: a.patience(n), inner, st.integers(1, 3)),
        ),
        max_leaves=3,
    )


def optimizers() -> st.SearchStrategy[InnerOptimizer]:
    """Inner optimizers, mostly with step sizes that suit `energies`.

    Examples:
        >>> from energysolve.testing import check_optimizer
        >>> from energysolve.testing.strategies import optimizers
        >>> from hypothesis import given, settings
        >>> @settings(max_examples=3, deadline=None)
        ... @given(optimizers())
        ... def check(optimizer):
        ...     check_optimizer(optimizer, steps=2, batch=2)
        >>> print(check())  # nothing was found
        None
    """
    lr = st.sampled_from([0.05, 0.01, 0.2, 0.5])
    plain = st.one_of(
        st.builds(SGD, lr),
        st.builds(Momentum, lr, st.sampled_from([0.9, 0.5])),
        st.builds(Adam, lr),
        st.builds(RMSProp, lr),
        st.just(TorchOpt(_adamw)),
    )
    return st.one_of(plain, st.builds(Projected, plain, st.builds(Box, st.just(-1.0), st.just(1.5))))


@st.composite
def batches(
    draw: Callable[[Any], Any], *, min_batch: int = 1, max_batch: int = 4, dtype: torch.dtype = torch.float64
) -> Batch:
    """Batches of every layout (dense, segment) and structure (tensor, tuple, dict), with and without scratchpad.

    Examples:
        >>> from energysolve.testing.strategies import batches
        >>> from hypothesis import given, settings
        >>> @settings(max_examples=2, deadline=None)
        ... @given(batches(min_batch=2))
        ... def check(batch):
        ...     assert batch.layout.batch >= 2
        >>> print(check())  # nothing was found
        None
    """
    count = draw(st.integers(min_batch, max_batch))
    segment = draw(st.booleans())
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    x: dict[str, Any] = {"width": torch.rand(count, 1, generator=generator, dtype=dtype) + 0.5}
    rows = count
    if segment:
        # Rows in any order, and samples that own none.
        rows = draw(st.integers(1, 3 * count))
        x["index"] = torch.randint(count, (rows,), generator=generator)
    shapes = draw(st.sampled_from([((3,),), ((),), ((2, 2),), ((2,), (3, 1))]))

    def leaves() -> list:
        return [torch.randn(rows, *shape, generator=generator, dtype=dtype) for shape in shapes]

    if len(shapes) == 1:
        structure = draw(st.sampled_from(["tensor", "tuple", "dict"]))
    else:
        structure = draw(st.sampled_from(["tuple", "dict"]))
    build = {
        "tensor": lambda parts: parts[0],
        "tuple": tuple,
        "dict": lambda parts: dict(zip("ab", parts, strict=False)),
    }
    x["target"] = build[structure](leaves())
    y = build[structure](leaves())
    z = build[structure](leaves()) if draw(st.booleans()) else None
    return Batch(x, y, z)


def _adamw() -> Any:
    import torchopt

    return torchopt.adamw(0.05, weight_decay=0.01)
