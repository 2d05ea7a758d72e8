"""The laws of optimizers that search: refused candidates are no iterates, and samples decide on their own.

Optimizer, criterion, layout, structure and scratchpad are drawn jointly; arithmetic is row-wise, so that the laws hold
exactly in float64.
"""

import warnings

import optree
import torch
from hypothesis import given
from hypothesis import strategies as st
from law_cases import LAW, Case, equal, rows

from energysolve import (
    LBFGS,
    SGD,
    After,
    Backtracking,
    BestSoFar,
    Detached,
    EnergyChange,
    EnergySolver,
    GradientNorm,
    Implicit,
    Momentum,
    Never,
    NewtonCG,
    Status,
    Trajectory,
    Truncated,
    Unroll,
    halting,
)
from energysolve.differentiation import DifferentiationWarning
from energysolve.testing.strategies import (
    Batch,
    RowWise,
    batch_layout,
    batches,
    criteria,
    energies,
    pseudo_huber,
    quadratic,
    quartic,
)
from energysolve.trees import tree_leaves

SEARCHING = [LBFGS(), LBFGS(memory=2), Backtracking(SGD(0.1)), Backtracking(Momentum(0.1)), NewtonCG()]
STEADY = [LBFGS(), LBFGS(memory=2), Backtracking(SGD(0.1)), NewtonCG()]
"""Without momentum, which can carry a search along a cliff until it stalls."""
SLOPES_ALONE = [LBFGS(), Backtracking(SGD(0.1)), Backtracking(Momentum(0.1))]
"""One call of the energy for each trial; products with the Hessian take one more."""


def stops():
    """Criteria, most of which let a search go on for some steps."""
    usual = [GradientNorm(1e-7), EnergyChange(rtol=1e-6).patience(2), EnergyChange(rtol=1e-3), Never()]
    return st.one_of(st.sampled_from(usual), criteria())


def cases(dtype=torch.float64, shapes=None, far=(1.0, 5.0, 40.0), optimizers=SEARCHING, **batch_options):
    """Far from the minimum, candidates are refused."""
    shapes = energies() if shapes is None else shapes
    drawn = st.builds(stretched, batches(dtype=dtype, **batch_options), st.sampled_from(far))
    return st.builds(Case, shapes, st.sampled_from(optimizers), stops(), drawn, st.integers(0, 14))


def stretched(batch, factor):
    return Batch(batch.x, *optree.tree_map(lambda leaf: factor * leaf, (batch.y, batch.z)))


def selected(x, samples):
    return Batch(x, x["target"], None).select(samples).x


def assert_same(a, b):
    assert equal((a.y, a.z), (b.y, b.z))
    for part in ("energy", "steps", "status", "evaluations"):
        assert torch.equal(getattr(a, part), getattr(b, part)), part


@LAW
@given(st.sampled_from([torch.float64, torch.float32]).flatmap(cases))
def test_energies_never_rise_and_evaluations_are_bounded(case):
    found = case.solve(recorder=Trajectory())
    path = torch.stack(found.record.energy)
    rounding = 8 * torch.finfo(path.dtype).eps * path.abs().amax(0)
    assert (path[1:] <= path[:-1] + rounding).all()
    assert (found.evaluations <= case.max_steps + 1).all()
    assert (found.evaluations >= found.steps + 1).all()
    assert (found.evaluations[found.status == Status.MAX_STEPS] == case.max_steps + 1).all()


@LAW
@given(cases())
def test_entry_k_of_the_trajectory_is_iterate_k(case):
    found = case.solve(recorder=Trajectory(), max_steps=9)
    layout = case.batch.layout
    assert len(found.record.y) == len(found.record.energy) == int(found.steps.max()) + 1
    for k, (y, z, energy) in enumerate(zip(*found.record, strict=True)):
        assert torch.equal(case.energies(y, z), energy)
        there = found.steps >= k
        halted = case.solve(halting=After(k), max_steps=9)
        assert (halted.steps[there] == k).all()
        assert equal(rows(layout, there, (halted.y, halted.z)), rows(layout, there, (y, z)))
        assert equal(rows(layout, ~there, (found.y, found.z)), rows(layout, ~there, (y, z)))
        if k:  # no step has the length zero
            change = optree.tree_map(torch.sub, (y, z), (found.record.y[k - 1], found.record.z[k - 1]))
            assert (layout.norm(change)[there] > 0).all()


@LAW
@given(cases(), st.floats(1e-8, 0.5), st.integers(1, 3))
def test_criteria_see_accepted_iterates_only(case, rtol, n):
    """Against a reading of the definition of the energy change with patience, on the path that never halts."""
    path = torch.stack(case.solve(halting=Never(), recorder=Trajectory(), max_steps=15).record.energy)
    full = case.solve(halting=Never(), max_steps=15)
    found = case.solve(halting=EnergyChange(rtol=rtol).patience(n), max_steps=15)
    for sample, energies_ in enumerate(path.unbind(1)):
        last = int(full.steps[sample])
        run, expected = 0, None
        for k in range(1, last + 1):
            close = abs(energies_[k] - energies_[k - 1]) <= rtol * abs(energies_[0] - energies_[k])
            run = run + 1 if close else 0
            if run == n:
                expected = k
                break
        assert int(found.steps[sample]) == (last if expected is None else expected)
        assert bool(found.converged[sample]) == (expected is not None)


@LAW
@given(cases(min_batch=2), st.randoms(use_true_random=False))
def test_splitting_and_permuting_the_batch_change_nothing(case, random):
    together = case.solve()
    order = list(range(case.batch.layout.batch))
    random.shuffle(order)
    for samples in [torch.tensor(order)] + [torch.tensor([sample]) for sample in order]:
        alone = case.solve(case.batch.select(samples))
        _, chosen = case.batch.layout.select(samples)
        assert equal((alone.y, alone.z), optree.tree_map(lambda leaf, i=chosen: leaf[i], (together.y, together.z)))
        for part in ("energy", "steps", "status", "evaluations"):
            assert torch.equal(getattr(alone, part), getattr(together, part)[samples]), part


@LAW
@given(cases(), st.integers(1, 5))
def test_halted_samples_stay(case, extra):
    short, long = case.solve(), case.solve(max_steps=case.max_steps + extra)
    halted, layout = short.status != Status.MAX_STEPS, case.batch.layout
    assert equal(rows(layout, halted, (short.y, short.z)), rows(layout, halted, (long.y, long.z)))
    for part in ("energy", "steps", "status", "evaluations"):
        assert torch.equal(getattr(short, part)[halted], getattr(long, part)[halted]), part


@LAW
@given(cases(), st.integers(1, 7))
def test_recorders_synchronization_and_compaction_change_nothing(case, sync_every):
    plain = case.solve()
    best = case.solve(recorder=BestSoFar(), sync_every=sync_every)
    for found in (best, case.solve(recorder=Trajectory(), sync_every=sync_every)):
        assert_same(found, plain)
    path = torch.stack(case.solve(recorder=Trajectory()).record.energy)
    assert torch.equal(best.record.energy, path.min(0).values)
    assert torch.equal(best.record.step, path.argmin(0))
    assert torch.equal(case.energies(best.record.y, best.record.z), best.record.energy)
    compact = case.solve(compact=True, select=selected, recorder=BestSoFar(), sync_every=sync_every)
    assert_same(compact, plain)
    assert equal(tuple(compact.record)[2:], tuple(best.record)[2:])


class Cliff(RowWise):
    """NaN where an entry of y lies more than a short distance above its target."""

    margin = 0.3

    def evaluate(self, context, y, *z):
        layout = batch_layout(context)
        pairs = zip(tree_leaves(y), tree_leaves(context["target"]), strict=True)
        beyond = sum(layout.sum((leaf > goal + self.margin).to(leaf.dtype)) for leaf, goal in pairs)
        return torch.where(beyond > 0, torch.nan, super().evaluate(context, y, *z))


@LAW
@given(cases(shapes=st.builds(Cliff, st.sampled_from([quadratic, pseudo_huber])), far=[1.0], optimizers=STEADY))
def test_a_nan_region_beside_the_minimum_does_not_stop_a_search(case):
    """Steps go over the edge, but the way down does not lead along it: scratchpads begin at the answers."""
    below = optree.tree_map(lambda goal, leaf: goal - leaf.abs(), case.batch.x["target"], case.batch.y)
    start = Batch(case.batch.x, below, None if case.batch.z is None else below)
    found = case.solve(start, halting=GradientNorm(1e-5), max_steps=400)
    assert found.converged.all(), found


@LAW
@given(cases(), st.integers(1, 4))
def test_values_do_not_depend_on_the_mode_and_gradients_are_finite(case, k):
    expected = case.solve(differentiation=Detached())
    modes = [Unroll(), Truncated(k)] + ([Implicit()] if case.halting.earliest() < float("inf") else [])
    for mode in modes:
        with torch.no_grad():
            assert_same(case.solve(differentiation=mode), expected)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DifferentiationWarning)
            found = case.solve(differentiation=mode)
            assert_same(found, expected)
            total = sum(leaf.sum() for leaf in tree_leaves(found.y))
            (gradient,) = torch.autograd.grad(total, [case.energy.stiffness], materialize_grads=True, allow_unused=True)
        assert gradient.isfinite()


class Watched(RowWise):
    """Keeps every point at which it was evaluated."""

    def evaluate(self, context, y, *z):
        self.points = [*getattr(self, "points", []), optree.tree_map(torch.Tensor.detach, y)]
        return super().evaluate(context, y, *z)


@LAW
@given(cases(shapes=st.builds(Watched, st.sampled_from([quartic, quadratic])), optimizers=SLOPES_ALONE, min_batch=2))
def test_halted_samples_are_evaluated_at_their_answers_only(case):
    case.energy.points = []
    found = case.solve()
    layout = case.batch.layout
    for trial, y in enumerate(case.energy.points):
        halted = found.evaluations <= trial
        assert equal(rows(layout, halted, y), rows(layout, halted, found.y))


@LAW
@given(st.integers(0, 2**16), st.sampled_from(SEARCHING), st.sampled_from([1, 5]), st.booleans())
def test_a_halted_sample_does_not_make_an_energy_raise(seed, optimizer, sync_every, compact):
    """Sample 0 halts at once at the edge of the domain of a function that raises for the whole batch."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(4, 2, generator=generator, dtype=torch.float64)
    y = torch.randn(4, 2, generator=generator, dtype=torch.float64)
    y[0] = 0

    def energy(x, y):
        edge = torch.where((x == 7).all(1), 1e-300 - y.square().sum(1), 1.0)  # of sample 0 alone
        torch.linalg.cholesky(edge.detach().view(-1, 1, 1))
        return ((y - x).square() + (y - x).square().square()).sum(1)

    x[0] = 7
    found = EnergySolver(
        energy, optimizer, halting=at_zero | GradientNorm(1e-6), sync_every=sync_every, compact=compact, max_steps=500
    ).minimize(x, y)
    assert found.converged.all()
    assert found.steps[0] == 0
    assert (found.y[0] == 0).all()


@halting
def at_zero(info):
    """The samples whose answer is exactly zero."""
    return (info.free[0] == 0).all(1)
