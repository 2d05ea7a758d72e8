"""What a solve costs and what an optimizer keeps (after jaxopt's common tests)."""

import optree
import pytest
import torch
import torchopt

from energysolve import (
    SGD,
    Adam,
    Dense,
    Energy,
    EnergySolver,
    GradientNorm,
    Momentum,
    Never,
    Projected,
    RMSProp,
    TorchOpt,
    Truncated,
    Unroll,
)
from energysolve.engine.objective import Objective
from energysolve.optimizers import Box

OPTIMIZERS = {
    "sgd": SGD(0.1),
    "momentum": Momentum(0.1),
    "adam": Adam(0.1),
    "rmsprop": RMSProp(0.1),
    "adamw": TorchOpt(lambda: torchopt.adamw(0.1)),
    "projected": Projected(Adam(0.1), Box(-1.0, 1.0)),
}


class Counting(Energy):
    """Counts its calls."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.encoded = self.evaluated = 0

    def encode(self, x):
        self.encoded += 1
        return self.scale * x

    def evaluate(self, context, y):
        self.evaluated += 1
        return (y - context).square().sum(-1)


def counts(differentiation=None, halting=None, max_steps=7):
    energy = Counting()
    halting = Never() if halting is None else halting
    options = {} if differentiation is None else {"differentiation": differentiation}
    solver = EnergySolver(energy, SGD(0.1), halting=halting, max_steps=max_steps, **options)
    solution = solver.minimize(torch.ones(3, 2), torch.zeros(3, 2))
    return energy.evaluated, energy.encoded, int(solution.steps.max())


@pytest.mark.parametrize("max_steps", [0, 1, 7])
def test_a_solve_of_n_steps_evaluates_the_energy_n_plus_1_times(max_steps):
    assert counts(max_steps=max_steps) == (max_steps + 1, 1, max_steps)


def test_no_step_is_taken_after_the_last_sample_has_halted():
    evaluated, encoded, steps = counts(halting=GradientNorm(0.1), max_steps=500)
    assert 1 < steps < 500
    assert (evaluated, encoded) == (steps + 1, 1)


@pytest.mark.parametrize("k", [1, 2, 7, 20])
def test_truncated_costs_no_evaluation_more_where_nothing_halts_early(k):
    assert counts(Truncated(k)) == (8, 1, 7)


def test_with_early_halting_the_tracked_steps_are_taken_once_more():
    plain, _, steps = counts(halting=GradientNorm(0.1), max_steps=500)
    evaluated, encoded, _ = counts(Truncated(3), GradientNorm(0.1), 500)
    assert (evaluated, encoded) == (plain + 3, 1)
    evaluated, encoded, _ = counts(Unroll(), GradientNorm(0.1), 500)
    assert (evaluated, encoded) == (plain + steps, 1)


def signature(state):
    leaves, structure = optree.tree_flatten(state)
    kinds = [(leaf.dtype, leaf.shape) if isinstance(leaf, torch.Tensor) else type(leaf) for leaf in leaves]
    return str(structure), kinds


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_structure_and_dtype_of_the_state_are_stable_and_steps_are_pure(name, dtype):
    optimizer = OPTIMIZERS[name]
    free = ({"a": torch.ones(3, 2, dtype=dtype), "b": (torch.ones(3, dtype=dtype),)},)
    objective = Objective(lambda x, y: y["a"].square().sum(-1) + y["b"][0].square(), None, Dense(3))
    state = optimizer.init(free)
    expected = signature(state), signature(free)
    for _ in range(3):
        before = [leaf.clone() for leaf in optree.tree_leaves((free, state)) if isinstance(leaf, torch.Tensor)]
        moved, after = optimizer.step(objective(free), state, objective)
        again, _ = optimizer.step(objective(free), state, objective)
        kept = [leaf for leaf in optree.tree_leaves((free, state)) if isinstance(leaf, torch.Tensor)]
        assert all(map(torch.equal, before, kept))
        assert all(optree.tree_leaves(optree.tree_map(torch.equal, moved, again)))
        assert (signature(after), signature(moved)) == expected
        free, state = moved, after
