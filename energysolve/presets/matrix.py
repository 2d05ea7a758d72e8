"""Matrix completion and matrix inverse."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from ..differentiation import Truncated, Unroll
from ..energies import FactoredCompletion, MLPEnergy, PreconditionedInverse
from ..halting import GradientNorm
from ..initializers import FromInput, Normal, Uniform
from ..optimizers import SGD, Momentum
from ..solver import EnergySolver
from ..tasks import Completion, Inverse
from ..training import OneCycle, TrainingConfig
from .domain import Domain
from .network import network, paper, tuned
from .preset import Preset, Settings, choosing_steps
from .resizing import rebuilt


def _structured_completion(task: Completion, settings: Settings) -> EnergySolver:
    # 0.05 at the paper's size, for which it was chosen. The curvature is proportional to the squared singular values
    # of the factors, about max(rows, columns) / sqrt(rank); in tiny problems the prior adds as much to it.
    step_size = min(0.1, math.sqrt(task.rank / 10) / max(task.rows, task.columns))
    return EnergySolver(
        FactoredCompletion(
            task.rows, task.columns, task.rank, noise=task.noise, penalty=2.0, shrinkage=0.9, believed=(0.5, 10.0)
        ),
        Momentum(step_size),
        init=FromInput(),
        halting=GradientNorm(1e-2),
        max_steps=1500,
        scratchpad=Normal((task.rows + task.columns, task.rank), std=0.3),
    )


def _structured_inverse(task: Inverse, settings: Settings) -> EnergySolver:
    energy, init = PreconditionedInverse(task.size), Uniform((task.size, task.size))
    return EnergySolver(energy, SGD(1.0), init=init, halting=GradientNorm(1e-4), max_steps=500)


def _completion_of(solver: EnergySolver) -> Completion:
    energy = solver.energy
    if isinstance(energy, FactoredCompletion):
        return Completion(energy.rows, energy.columns, energy.rank, energy.noise)
    return Completion(*_matrix("completion", solver))


def _inverse_of(solver: EnergySolver) -> Inverse:
    energy = solver.energy
    if isinstance(energy, PreconditionedInverse):
        return Inverse(energy.size)
    rows, columns = _matrix("inverse", solver)
    if rows != columns:
        raise ValueError(f"only square matrices have an inverse, and the model answers with {rows} x {columns} ones")
    return Inverse(rows)


def _matrix(name: str, solver: EnergySolver) -> tuple[int, int]:
    """Rows and columns of the answers of an `MLPEnergy`, which are those of the initial answers."""
    energy, shape = solver.energy, getattr(solver.init, "shape", ())
    if not isinstance(energy, MLPEnergy) or len(shape) != 2:
        raise ValueError(f"the model is no energy for {name}: not an MLPEnergy whose initial answers are matrices")
    if not energy.x_dim == energy.y_dim == math.prod(shape):
        raise ValueError(f"the model is no energy for {name}, which maps a matrix to one of the same size")
    return shape[0], shape[1]


def _completion_at_size(solver: EnergySolver, problem_shape: tuple[int, ...]) -> EnergySolver:
    energy = solver.energy
    if not isinstance(energy, FactoredCompletion):
        return solver
    rows, columns = _rows_and_columns("completion", problem_shape)
    return rebuilt(solver, BEST_COMPLETION, Completion(rows, columns, energy.rank, energy.noise))


def _inverse_at_size(solver: EnergySolver, problem_shape: tuple[int, ...]) -> EnergySolver:
    if not isinstance(solver.energy, PreconditionedInverse):
        return solver
    rows, columns = _rows_and_columns("inverse", problem_shape)
    if rows != columns:
        raise ValueError(f"Only square matrices have an inverse; got problems of shape {problem_shape}.")
    return rebuilt(solver, BEST_INVERSE, Inverse(rows))


def _inverse_checks(solver: EnergySolver) -> Mapping[str, Callable[[Tensor, Tensor], Tensor]]:
    return {"residual": solver.energy.residual} if isinstance(solver.energy, PreconditionedInverse) else {}


def _rows_and_columns(name: str, problem_shape: tuple[int, ...]) -> tuple[int, int]:
    entries = math.prod(problem_shape)
    rows, columns = problem_shape if len(problem_shape) == 2 else (math.isqrt(entries),) * 2
    if rows * columns != entries or not entries:
        raise ValueError(
            f"{name} takes an array (problems, rows, columns), or square matrices flattened; got problems of shape "
            f"{problem_shape}." + (" Is the file one table? --table completes it." if name == "completion" else "")
        )
    return rows, columns


BEST_COMPLETION = Preset(
    _structured_completion,
    60,
    TrainingConfig(train_steps=150, differentiation=Truncated(50), batch_size=64, lr=3e-2, schedule=OneCycle()),
    in_use=choosing_steps,
    stream="train best",
)
BEST_INVERSE = Preset(
    _structured_inverse,
    300,
    TrainingConfig(train_steps=5, differentiation=Unroll(), batch_size=64, lr=0.2, schedule=OneCycle()),
    in_use=choosing_steps,
    stream="train best",
)
_COMPLETION = network(lambda task: (task.rows * task.columns,) * 2, "completion")
_INVERSE = network(lambda task: (task.size**2,) * 2, "inverse")
_TEST: dict[str, Any] = {"test_step_size": 30.0, "test_atol": 1e-5}
_TUNED_INVERSE: dict[str, Any] = {
    "iterations": 24_000,
    "train_steps": 3,
    "betas": (0.9, 0.99),
    "standardized": True,
    "start": "probes",
    "test_step_size": 20.0,
    "test_max_steps": 50,
}
_ITERATIVE_COMPLETION = {"same": 0.0253, "harder": 0.2102}
_ITERATIVE_INVERSE = {"same": 0.0270, "harder": 0.5250}

COMPLETION = Domain(
    name="completion",
    title="Matrix completion",
    task=lambda size: Completion(size, size),
    size=20,
    task_of=_completion_of,
    presets={
        "paper": paper(_COMPLETION, **_TEST),
        "tuned": tuned(_COMPLETION, **_TEST),
        "best": BEST_COMPLETION,
    },
    at_size=_completion_at_size,
    paper={
        "feedforward": {"same": 0.0203, "harder": 0.2720},
        "recurrent": {"same": 0.0266, "harder": 0.3285},
        "programmatic": {"same": 0.0203, "harder": 0.2637},
        "iterative": _ITERATIVE_COMPLETION,
        "unrolled": _ITERATIVE_COMPLETION,
        "irem": {"same": 0.0183, "harder": 0.2074},
    },
    limit="Bayes limit: posterior mean",
)

INVERSE = Domain(
    name="inverse",
    title="Matrix inverse",
    task=Inverse,
    size=20,
    task_of=_inverse_of,
    presets={
        "paper": paper(_INVERSE, **_TEST),
        "tuned": tuned(_INVERSE, **{**_TEST, **_TUNED_INVERSE}),
        "best": BEST_INVERSE,
    },
    at_size=_inverse_at_size,
    checks=_inverse_checks,
    paper={
        "feedforward": {"same": 0.0112, "harder": 0.2150},
        "recurrent": {"same": 0.0109, "harder": 0.2123},
        "programmatic": {"same": 0.0124, "harder": 0.2209},
        "iterative": _ITERATIVE_INVERSE,
        "unrolled": _ITERATIVE_INVERSE,
        "irem": {"same": 0.0108, "harder": 0.2083},
    },
)
