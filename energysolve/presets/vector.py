"""Addition."""

from typing import Any

import torch

from ..composition import compose
from ..differentiation import Unroll
from ..energies import MLPEnergy, SharedQuadratic
from ..halting import GradientNorm
from ..initializers import Uniform
from ..optimizers import SGD
from ..seeding import stream
from ..solver import EnergySolver
from ..tasks import Addition
from ..training import OneCycle, TrainingConfig
from .domain import Domain
from .network import network, paper, tuned
from .preset import Preset, Settings, choosing_steps
from .resizing import rebuilt

OPERATIONS = 10
"""The largest number of composed additions."""


def composition(model: Any, task: Addition, seed: int, problems: int) -> list[float]:
    """Mean squared error of 1, 2, ..., `OPERATIONS` additions in a row (Section 4.4 of the paper)."""
    device = next(model.parameters()).device
    generator = stream("measure composition", seed, device)
    operands = torch.rand(problems, OPERATIONS + 1, task.size, generator=generator, device=device) * 2 - 1
    sums = operands.cumsum(1)
    answers = compose(model, operands, generator=generator).solutions
    return [(each.y - sums[:, k + 1]).square().double().mean().item() for k, each in enumerate(answers)]


def _structured(task: Addition, settings: Settings) -> EnergySolver:
    energy, init = SharedQuadratic(task.size), Uniform((task.size,))
    return EnergySolver(energy, SGD(0.5), init=init, halting=GradientNorm(1e-4), max_steps=200)


def _task_of(solver: EnergySolver) -> Addition:
    energy = solver.energy
    if isinstance(energy, MLPEnergy) and energy.x_dim == 2 * energy.y_dim:
        return Addition(energy.y_dim)
    if isinstance(energy, SharedQuadratic) and energy.terms == 2:
        return Addition(energy.size)
    raise ValueError(
        "the model is no energy for addition, which maps two summands to one sum of the same size: an MLPEnergy with "
        "x_dim twice its y_dim, or a SharedQuadratic of two terms"
    )


def _at_size(solver: EnergySolver, problem_shape: tuple[int, ...]) -> EnergySolver:
    if not isinstance(solver.energy, SharedQuadratic):
        return solver
    entries = torch.Size(problem_shape).numel()
    if entries % 2 or not entries:
        raise ValueError(f"Two concatenated summands have an even number of entries; got problems of {problem_shape}.")
    return rebuilt(solver, BEST, Addition(entries // 2))


# Few problems per batch: every entry of a problem is an example for the shared weights.
BEST = Preset(
    _structured,
    600,
    TrainingConfig(train_steps=10, differentiation=Unroll(), batch_size=16, lr=0.5, schedule=OneCycle()),
    in_use=choosing_steps,
    stream="train best",
)
_NETWORK = network(lambda task: (2 * task.size, task.size), "addition")
_TEST: dict[str, Any] = {"test_step_size": 10.0, "test_atol": 4e-6}
_ITERATIVE = {"same": 0.0144, "harder": 0.1577}

ADDITION = Domain(
    name="addition",
    title="Addition",
    task=Addition,
    size=400,
    task_of=_task_of,
    presets={"paper": paper(_NETWORK, **_TEST), "tuned": tuned(_NETWORK, **_TEST), "best": BEST},
    at_size=_at_size,
    paper={
        "feedforward": {"same": 0.0448, "harder": 0.7029},
        "recurrent": {"same": 0.3610, "harder": 2.6133},
        "programmatic": {"same": 0.0111, "harder": 0.3446},
        "iterative": _ITERATIVE,
        "unrolled": _ITERATIVE,
        "irem": {"same": 0.0003, "harder": 0.0021},
    },
    measures={"composition": composition},
)
"""Table 1 of the paper has one iterative network; of ours, one follows the paper's text, one the authors' release."""
