"""Compaction: the results of a solve without it, and no work for samples that have halted.

The laws hold bit by bit, since arithmetic is row-wise in float64.
"""

import itertools
import os
import warnings
from dataclasses import dataclass

import optree
import pytest
import torch
from compaction_cases import Case, Watched, assert_same, bowl, cases, graded, identical, problems, solver
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from energysolve import (
    SGD,
    Adam,
    BestSoFar,
    EnergyChange,
    EnergySolver,
    GradientNorm,
    Implicit,
    MLPEnergy,
    Momentum,
    Never,
    Nothing,
    Status,
    Trajectory,
    Truncated,
    Uniform,
    Unroll,
)
from energysolve.differentiation import DifferentiationWarning
from energysolve.engine.compaction import SHARE
from energysolve.optimizers import InnerOptimizer
from energysolve.recorders import Recorder
from energysolve.testing.strategies import (
    RowWise,
    quadratic,
)

EXAMPLES = 20 if os.environ.get("CI") else 60
LAW = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@dataclass(frozen=True)
class Diary(Recorder):
    """Writes down all that a recorder is shown."""

    def init(self, free, energy, layout):
        return [(free, energy, torch.tensor(0))]

    def update(self, state, free, energy, step):
        return [*state, (free, energy, step)]

    def finish(self, state, steps):
        return state


@LAW
@given(cases(), st.sampled_from([Nothing(), BestSoFar(), Trajectory(), Diary()]), st.sampled_from([1, 3, 10]))
def test_compaction_changes_no_result(case, recorder, sync_every):
    parts = {"recorder": recorder, "sync_every": sync_every}
    assert_same(case.solve(compact=True, **parts), case.solve(**parts))


@settings(LAW, max_examples=15)
@given(cases(), st.integers(1, 4), st.sampled_from([1, 3]))
def test_compaction_changes_no_gradient(case, k, sync_every):
    modes = [Unroll(), Truncated(k)] + ([Implicit()] if case.halting.earliest() < float("inf") else [])
    inputs = [case.energy.stiffness, *(leaf.requires_grad_() for leaf in case.leaves())]
    for mode in modes:
        found = []
        for compact in (False, True):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DifferentiationWarning)
                solution = case.solve(differentiation=mode, sync_every=sync_every, compact=compact)
                total = sum(leaf.sum() for leaf in optree.tree_leaves((solution.y, solution.z)))
                gradient = torch.autograd.grad(total, inputs, materialize_grads=True, allow_unused=True)
            found.append((solution, gradient))
        assert_same(found[0][0], found[1][0])
        assert all(identical(p, q) for p, q in zip(found[0][1], found[1][1], strict=True))


@pytest.mark.parametrize("optimizer", [SGD(0.2), Momentum(0.1, 0.5), Adam(0.2)], ids=repr)
@pytest.mark.parametrize("sync_every", [1, 4])
@pytest.mark.parametrize("rows", [None, 100], ids=["dense", "segment"])
def test_samples_leave_once_half_of_them_have_halted(optimizer, sync_every, rows):
    count = 32
    case = Case(Watched(), optimizer, GradientNorm(1e-2), graded(count, rows), 400)
    plain = case.solve(sync_every=sync_every)
    case.energy.sizes.clear()
    compact = case.solve(sync_every=sync_every, compact=True)
    assert_same(compact, plain)

    # What the steps say: at iterates at which the host looks, samples leave if at most half of them move on.
    expected, size = [count], count
    for step in range(int(plain.steps.max())):
        active = int((plain.steps > step).sum())
        if step % sync_every == 0 and active <= SHARE * size:
            size = active
            expected += [size, size]  # the test at two points
        expected.append(size)
    expected += [size] * (-int(plain.steps.max()) % sync_every)  # until the host looks
    assert case.energy.sizes == expected
    assert size < count / 4


class Shapes(TorchDispatchMode):
    """Writes down the leading size of everything that is computed."""

    def __init__(self, sizes):
        super().__init__()
        self.sizes = sizes

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for leaf in optree.tree_leaves(found):
            if isinstance(leaf, torch.Tensor) and leaf.ndim:
                self.sizes.append(("op", len(leaf)))
        return found


def test_a_step_of_few_samples_does_no_work_on_the_whole_batch():
    count, log = 64, []
    batch = graded(count)

    class Logged(RowWise):
        def evaluate(self, context, y, *z):
            log.append(("energy", len(y)))
            return super().evaluate(context, y, *z)

    case = Case(Logged(quadratic), Momentum(0.1, 0.5), GradientNorm(1e-2).patience(2), batch, 400)
    with Shapes(log):
        case.solve(compact=True)
    places = [place for place, (kind, _) in enumerate(log) if kind == "energy"]
    small = 0
    for begin, end in itertools.pairwise(places):
        if log[begin] == log[end] and log[begin][1] <= count / 2:
            # From the first of two steps of the same size to the second; samples leave where the size changes.
            between = {size for _, size in log[begin:end]}
            small += count not in between
            assert count not in between or log[places[places.index(begin) - 1]][1] != log[begin][1]
    assert small > 20


@pytest.mark.parametrize(
    ("pack", "unpack"),
    [
        (lambda x: (x, None, 3.0), lambda x: x[0]),
        (lambda x: {"mode": "a", "parts": [x[:, :1], x[:, 1:]]}, lambda x: torch.cat(x["parts"], 1)),
        (lambda x: (x, torch.zeros(())), lambda x: x[0] + x[1]),
    ],
)
def test_problems_in_trees_with_other_things(pack, unpack):
    x, y = problems()
    found = solver(lambda x, y: bowl(unpack(x), y), compact=True).minimize(pack(x), y)
    assert_same(found, solver(bowl).minimize(x, y))


def test_rows_of_answers_and_numbers_of_samples_are_told_apart():
    """A segment layout whose problem has tensors of samples, of rows, and the index itself."""
    batch = graded(12, 40)
    case = Case(Watched(), SGD(0.2), GradientNorm(1e-2), batch, 400)
    assert_same(case.solve(compact=True), case.solve())
    assert min(case.energy.sizes) < 6


@dataclass(frozen=True)
class Lazy(InnerOptimizer):
    """Momentum whose state gets its shape and dtype from the first gradient."""

    def init(self, free):
        return torch.zeros(())

    def step(self, at, state, evaluate):
        state = 0.5 * state + at.gradient[0]
        return (at.free[0] - 0.1 * state,), state


@pytest.mark.parametrize("halted", [0, 5])
def test_a_state_that_takes_its_shape_later_and_samples_that_halt_at_once(halted):
    x, y = problems()
    y[:halted] = x[:halted]
    solve = solver(bowl, optimizer=Lazy(), recorder=BestSoFar())
    plain = solve.minimize(x, y)
    assert (plain.steps[:halted] == 0).all()
    assert_same(solve.replace(compact=True).minimize(x, y), plain)


def test_samples_that_are_not_finite_leave_too():
    x, y = problems()
    y[::2] = torch.nan
    solve = solver(bowl, differentiation=Truncated(2))
    plain = solve.minimize(x, y)
    assert (plain.status[::2] == Status.NONFINITE).all()
    assert_same(solve.replace(compact=True).minimize(x, y), plain)


def learned():
    """A network on top of bowls of different widths, in float32, so that some problems take longer than others."""
    torch.manual_seed(0)
    network = MLPEnergy(5, 4, width=16)
    x, y = torch.randn(40, 5), torch.randn(40, 4)
    x[:, 0] = torch.linspace(4, 0.2, 40)
    solve = solver(
        network + (lambda x, y: bowl(x[:, :1], y)), halting=EnergyChange(rtol=1e-5).patience(2), max_steps=300
    )
    return network, solve, x, y


def test_answers_of_a_matrix_product_energy_agree_to_rounding():
    _, solve, x, y = learned()
    plain, compact = solve.minimize(x, y), solve.replace(compact=True).minimize(x, y)
    assert plain.steps.max() > 2 * plain.steps.median()
    same = plain.steps == compact.steps  # else the margin of the criterion lay within rounding
    assert same.sum() >= 38
    torch.testing.assert_close(compact.y[same], plain.y[same], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(compact.energy, plain.energy, rtol=1e-4, atol=1e-5)


def test_an_encoder_is_asked_again_only_when_samples_leave():
    network, solve, x, y = learned()
    encode, sizes = network.encode, []
    network.encode = lambda x: (sizes.append(len(x)), encode(x))[1]
    solve.replace(compact=True).minimize(x, y)
    assert len(sizes) > 2
    assert all(b <= SHARE * a for a, b in itertools.pairwise(sizes))


def test_compiling_every_size_is_refused():
    with pytest.raises(ValueError, match="compile=True and compact=True exclude each other"):
        solver(bowl, compile=True, compact=True)
    with pytest.raises(ValueError, match="exclude each other"):
        solver(bowl, compact=True).replace(compile=True)


def test_compaction_is_saved_with_the_solver(tmp_path):
    made = EnergySolver(MLPEnergy(6, 3, width=8), SGD(0.1), init=Uniform((3,)), compact=True)
    made.save_pretrained(tmp_path)
    assert EnergySolver.from_pretrained(tmp_path).compact is True
    assert EnergySolver.from_pretrained("addition-mlp").compact is False  # written before there was compaction


def test_nothing_leaves_where_nothing_halts():
    case = Case(Watched(), SGD(0.2), Never(), graded(8), 10)
    assert_same(case.solve(compact=True), case.solve())
    assert set(case.energy.sizes) == {8}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu():
    x, y = (leaf.cuda() for leaf in problems(64))
    solve = solver(bowl, recorder=BestSoFar())
    assert_same(solve.replace(compact=True).minimize(x, y), solve.minimize(x, y))
