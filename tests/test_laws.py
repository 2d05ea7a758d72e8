"""The laws of DESIGN: halting, batch independence, values that do not depend on the differentiation mode.

Criterion, optimizer, layout, structure and scratchpad are drawn jointly; arithmetic is row-wise in float64, so the
laws hold exactly.
"""

import warnings

import optree
import torch
from hypothesis import given, note, settings
from hypothesis import strategies as st
from law_cases import Case, equal, law, rows

from energysolve import (
    SGD,
    BestSoFar,
    Detached,
    EnergyChange,
    EnergySolver,
    GradientNorm,
    Implicit,
    MLPEnergy,
    Never,
    Status,
    StepNorm,
    TargetEnergy,
    Trajectory,
    Truncated,
    Unroll,
)
from energysolve.differentiation import DifferentiationWarning
from energysolve.engine.objective import Objective
from energysolve.testing.strategies import RowWise, batches, criteria, energies, optimizers

LAW = law(200)


def cases(**batch_options):
    return st.builds(Case, energies(), optimizers(), criteria(), batches(**batch_options), st.integers(0, 14))


@LAW
@given(cases(), st.integers(1, 5))
def test_a_halted_sample_stays_halted_and_its_answer_bit_identical(case, extra):
    short, long = case.solve(), case.solve(max_steps=case.max_steps + extra)
    halted = short.status != Status.MAX_STEPS
    layout = case.batch.layout
    assert torch.equal(short.steps[halted], long.steps[halted])
    assert torch.equal(short.status[halted], long.status[halted])
    assert torch.equal(short.energy[halted], long.energy[halted])
    assert equal(rows(layout, halted, (short.y, short.z)), rows(layout, halted, (long.y, long.z)))


@LAW
@given(cases())
def test_every_iterate_after_the_halt_is_the_answer(case):
    solution = case.solve(recorder=Trajectory())
    for step, (y, energy) in enumerate(zip(solution.record.y, solution.record.energy, strict=True)):
        halted = solution.steps <= step
        assert equal(rows(case.batch.layout, halted, y), rows(case.batch.layout, halted, solution.y))
        assert torch.equal(energy[halted], solution.energy[halted])


@LAW
@given(cases(min_batch=2), st.randoms(use_true_random=False))
def test_splitting_and_permuting_the_batch_change_nothing(case, random):
    together = case.solve()
    order = list(range(case.batch.layout.batch))
    random.shuffle(order)
    pieces = [torch.tensor(order)] + [torch.tensor([sample]) for sample in order]
    for samples in pieces:
        part = case.batch.select(samples)
        alone = case.solver().minimize(part.x, part.y, part.z)
        _, chosen = case.batch.layout.select(samples)
        expected = optree.tree_map(lambda leaf, chosen=chosen: leaf[chosen], (together.y, together.z))
        assert torch.equal(alone.steps, together.steps[samples])
        assert torch.equal(alone.status, together.status[samples])
        assert torch.equal(alone.energy, together.energy[samples])
        assert equal((alone.y, alone.z), expected)


@LAW
@given(cases(), criteria())
def test_either_halts_at_the_earlier_and_both_never_before_the_later(case, other):
    a, b = case.solve(), case.solve(halting=other)
    assert torch.equal(case.solve(halting=case.halting | other).steps, torch.minimum(a.steps, b.steps))
    assert (case.solve(halting=case.halting & other).steps >= torch.maximum(a.steps, b.steps)).all()


@LAW
@given(cases(), st.sampled_from(["atol", "rtol", "gradient", "step", "energy"]), st.floats(1e-6, 1), st.floats(0, 1))
def test_a_tighter_tolerance_never_takes_fewer_steps(case, kind, loose, factor):
    tight = loose * factor if kind not in ("atol", "rtol") else max(loose * factor, 1e-12)
    make = {
        "atol": lambda tol: EnergyChange(atol=tol),
        "rtol": lambda tol: EnergyChange(rtol=tol),
        "gradient": GradientNorm,
        "step": StepNorm,
        "energy": TargetEnergy,
    }[kind]
    assert (case.solve(halting=make(tight)).steps >= case.solve(halting=make(loose)).steps).all()


@LAW
@given(cases())
def test_steps_are_bounded_and_no_step_returns_the_initial_point(case):
    solution = case.solve()
    assert (solution.steps <= case.max_steps).all()
    assert (solution.steps[solution.status == Status.MAX_STEPS] == case.max_steps).all()
    still = case.solve(max_steps=0)
    assert equal(still.y, case.batch.y)
    assert (still.steps == 0).all()


@LAW
@given(cases(), st.floats(1e-3, 5))
def test_the_gradient_criterion_and_the_energy_hold_at_the_answer(case, tol):
    solution = case.solve(halting=GradientNorm(tol))
    free = (solution.y,) if solution.z is None else (solution.y, solution.z)
    at = Objective(case.energy.evaluate, case.batch.x, case.batch.layout)(free)
    norm = case.batch.layout.norm(case.optimizer.residual(at))
    assert torch.equal(at.energy, solution.energy)
    assert (norm[solution.converged] <= tol).all()
    if case.max_steps:
        running = solution.status == Status.MAX_STEPS
        assert (norm[running] > tol).all()


@LAW
@given(cases(), st.integers(1, 4))
def test_values_do_not_depend_on_differentiation_nor_on_whether_gradients_are_enabled(case, k):
    expected = case.solve(differentiation=Detached())
    modes = [Unroll(), Truncated(k)]
    if case.halting.earliest() < float("inf"):
        modes.append(Implicit())
    with torch.no_grad():
        untracked = [case.solve(differentiation=mode) for mode in modes]
    assert not any(leaf.requires_grad for leaf in optree.tree_leaves([s.y for s in untracked]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DifferentiationWarning)
        tracked = [case.solve(differentiation=mode) for mode in modes]
    for solution in tracked + untracked:
        assert equal((solution.y, solution.z), (expected.y, expected.z))
        assert torch.equal(solution.energy, expected.energy)
        assert torch.equal(solution.steps, expected.steps)
        assert torch.equal(solution.status, expected.status)


@LAW
@given(cases(), st.integers(1, 4))
def test_every_mode_gives_finite_gradients_and_none_to_samples_without_steps(case, k):
    for mode in (Unroll(), Truncated(k)):
        solution = case.solve(differentiation=mode)
        for sample in range(case.batch.layout.batch):
            mask = torch.arange(case.batch.layout.batch) == sample
            own = rows(case.batch.layout, mask, solution.y)
            total = sum(leaf.sum() for leaf in optree.tree_leaves(own))
            (gradient,) = torch.autograd.grad(
                total, [case.energy.stiffness], retain_graph=True, materialize_grads=True, allow_unused=True
            )
            assert gradient.isfinite()
            if solution.steps[sample] == 0:
                assert gradient == 0


@LAW
@given(cases(), st.integers(1, 7))
def test_the_recorder_and_sync_every_change_nothing_and_the_best_is_the_lowest(case, sync_every):
    plain = case.solve()
    best = case.solve(recorder=BestSoFar(), sync_every=sync_every)
    path = case.solve(recorder=Trajectory(), sync_every=sync_every)
    for solution in (best, path):
        assert equal((solution.y, solution.z), (plain.y, plain.z))
        assert torch.equal(solution.steps, plain.steps)
        assert torch.equal(solution.status, plain.status)
    energies = torch.stack(path.record.energy)
    assert len(path.record.y) == len(path.record.energy) == int(plain.steps.max()) + 1
    assert torch.equal(best.record.energy, energies.min(0).values)
    assert torch.equal(best.record.step, energies.argmin(0))
    objective = Objective(case.energy.evaluate, case.batch.x, case.batch.layout)
    best_free = (best.record.y,) if best.record.z is None else (best.record.y, best.record.z)
    assert torch.equal(objective(best_free).energy, best.record.energy)


@LAW
@given(cases(), st.integers(1, 3))
def test_patience_is_a_run_of_firings(case, n):
    """Against a reading of the definition: ask the criterion at every iterate of the sample alone."""
    case = Case(case.energy, case.optimizer, GradientNorm(1.5), case.batch, case.max_steps)
    path = case.solve(halting=Never(), recorder=Trajectory())
    solution = case.solve(halting=GradientNorm(1.5).patience(n))
    objective = Objective(case.energy.evaluate, case.batch.x, case.batch.layout)
    zs = [None] * len(path.record.y) if case.batch.z is None else path.record.z
    fires = []
    for y, z in zip(path.record.y, zs, strict=True):
        at = objective((y,) if z is None else (y, z))
        fires.append(case.batch.layout.norm(case.optimizer.residual(at)) <= 1.5)
    for sample in range(case.batch.layout.batch):
        last = int(path.steps[sample])  # short of max_steps where the sample blows up
        history = [bool(decision[sample]) for decision in fires[: last + 1]]
        ends = [t for t in range(n - 1, len(history)) if all(history[t - n + 1 : t + 1])]
        assert int(solution.steps[sample]) == (ends[0] if ends else last)
        assert bool(solution.converged[sample]) == bool(ends)


@settings(max_examples=200, deadline=None)
@given(st.integers(2, 3), st.integers(0, 2**16), st.sampled_from([0.1, 1.0, 10.0]), st.booleans())
def test_a_matrix_product_energy_in_float32_is_batch_independent_to_rounding(batch, seed, lr, pad):
    torch.manual_seed(seed)
    energy = MLPEnergy(6, 4, z_dim=3 if pad else 0, width=16)
    x, y = torch.randn(batch, 6), torch.randn(batch, 4)
    z = torch.randn(batch, 3) if pad else None
    solver = EnergySolver(energy, SGD(lr), halting=EnergyChange(rtol=1e-2).patience(2), max_steps=8)
    together = solver.minimize(x, y, z)
    fixed = solver.replace(halting=Never()).minimize(x, y, z)
    for sample in range(batch):
        only = slice(sample, sample + 1)
        alone = solver.replace(halting=Never()).minimize(x[only], y[only], None if z is None else z[only])
        torch.testing.assert_close(alone.y, fixed.y[only], rtol=1e-3, atol=1e-4)
        halted = solver.minimize(x[only], y[only], None if z is None else z[only])
        if halted.steps == together.steps[only]:  # else the margin of the criterion lay within rounding
            torch.testing.assert_close(halted.y, together.y[only], rtol=1e-3, atol=1e-4)
    note(f"steps {together.steps.tolist()}")


@LAW
@given(cases(min_batch=2), st.integers(1, 6))
def test_a_sample_that_blows_up_harms_no_other(case, step):
    """Sample 0 is given an energy that is NaN outside its first iterates; the others must not notice."""
    fine = case.solve(recorder=Trajectory())
    bad = Case(Poisoned(case.energy.shape), case.optimizer, case.halting, case.batch, case.max_steps)
    bad.energy.plan(fine, step)
    hurt = bad.solve()
    others = torch.arange(case.batch.layout.batch) > 0
    layout = case.batch.layout
    assert torch.equal(hurt.steps[others], fine.steps[others])
    assert torch.equal(hurt.status[others], fine.status[others])
    assert equal(rows(layout, others, hurt.y), rows(layout, others, fine.y))
    if int(fine.steps[0]) >= step:
        assert hurt.status[0] == Status.NONFINITE
        assert hurt.steps[0] == step - 1
        assert equal(rows(layout, ~others, hurt.y), rows(layout, ~others, fine.record.y[step - 1]))


class Poisoned(RowWise):
    """The energy of sample 0 turns NaN at one iterate of a solve."""

    def plan(self, fine, step):
        self._count, self._step = -1, step

    def evaluate(self, context, y, *z):
        self._count += 1
        energy = super().evaluate(context, y, *z)
        if self._count != self._step:
            return energy
        poison = torch.zeros_like(energy)
        poison[0] = torch.nan
        return energy + poison
