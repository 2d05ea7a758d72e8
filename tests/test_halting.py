"""Criteria against their definitions, one sample at a time, on iterates drawn at random."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from energysolve import (
    After,
    Dense,
    EnergyChange,
    EnergyIncrease,
    GradientNorm,
    Never,
    StepInfo,
    StepNorm,
    TargetEnergy,
    halting,
)

VALUES = st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0, 3.0])  # coarse, so that ties are common


@st.composite
def infos(draw):
    """Iterates 0, 1, ... of three samples, with a scratchpad."""
    length = draw(st.integers(1, 5))

    def numbers(*shape):
        count = math.prod(shape)
        return torch.tensor(draw(st.lists(VALUES, min_size=count, max_size=count)), dtype=torch.float64).view(shape)

    energies = [torch.full((3,), math.inf, dtype=torch.float64), *(numbers(3) for _ in range(length))]
    frees = [None, *((numbers(3, 2), numbers(3)) for _ in range(length))]
    return [
        StepInfo(
            step=torch.tensor(step),
            energy=energies[step + 1],
            previous_energy=energies[step],
            initial_energy=energies[1],
            gradient=(numbers(3, 2), numbers(3)),
            free=frees[step + 1],
            previous=frees[step],
            layout=Dense(3),
        )
        for step in range(length)
    ]


def decide(criterion, infos):
    state, found = criterion.init(infos[0].energy), []
    for info in infos:
        fires, state = criterion.update(info, state)
        found.append(fires.tolist())
    return found


def norm(free, i, less=None):
    entries = [*free[0][i].tolist(), float(free[1][i])]
    back = [0.0] * 3 if less is None else [*less[0][i].tolist(), float(less[1][i])]
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(entries, back, strict=True)))


def change(atol, rtol):
    def holds(info, i):
        now, before, first = (float(e[i]) for e in (info.energy, info.previous_energy, info.initial_energy))
        return info.step > 0 and abs(now - before) <= atol + rtol * abs(first - now)

    return holds


CASES = [
    (EnergyChange(atol=1.0), change(1.0, 0.0)),
    (EnergyChange(rtol=0.5), change(0.0, 0.5)),
    (EnergyChange(rtol=1.0), change(0.0, 1.0)),
    (EnergyChange(atol=0.5, rtol=0.5), change(0.5, 0.5)),
    (GradientNorm(2.0), lambda info, i: norm(info.gradient, i) <= 2.0),
    (StepNorm(2.0), lambda info, i: info.step > 0 and norm(info.free, i, info.previous) <= 2.0),
    (StepNorm(0.0), lambda info, i: info.step > 0 and norm(info.free, i, info.previous) == 0),
    (TargetEnergy(1.0), lambda info, i: info.energy[i] <= 1.0),
    (EnergyIncrease(), lambda info, i: info.energy[i] > info.previous_energy[i]),
    (After(0), lambda info, i: True),
    (After(2), lambda info, i: info.step >= 2),
    (Never(), lambda info, i: False),
    (halting(lambda info: info.energy > 1), lambda info, i: info.energy[i] > 1),
]


@settings(max_examples=50, deadline=None)
@pytest.mark.parametrize(("criterion", "holds"), CASES, ids=[repr(case[0]).partition(" at 0x")[0] for case in CASES])
@given(infos())
def test_a_criterion_fires_where_its_definition_holds(criterion, holds, infos):
    assert decide(criterion, infos) == [[bool(holds(info, i)) for i in range(3)] for info in infos]
    assert all(not any(fires) for fires in decide(criterion, infos)[: int(min(criterion.earliest(), len(infos)))])


@settings(max_examples=100, deadline=None)
@given(infos(), st.sampled_from(CASES), st.sampled_from(CASES), st.integers(1, 3))
def test_combinations(infos, first, second, n):
    (a, holds_a), (b, holds_b) = first, second
    grid = [[(bool(holds_a(info, i)), bool(holds_b(info, i))) for i in range(3)] for info in infos]
    assert decide(a | b, infos) == [[p or q for p, q in row] for row in grid]
    assert decide(a & b, infos) == [[p and q for p, q in row] for row in grid]
    in_a_row = [
        [step + 1 >= n and all(grid[step - back][i][0] for back in range(n)) for i in range(3)]
        for step in range(len(infos))
    ]
    assert decide(a.patience(n), infos) == in_a_row
    assert decide(a.patience(n).patience(2), infos) == decide(a.patience(n + 1), infos)
    long, short = a.patience(n), b.patience(2)  # with memory on both sides
    each = torch.tensor(decide(long, infos)), torch.tensor(decide(short, infos))
    assert decide(long | short, infos) == (each[0] | each[1]).tolist()
    assert decide(long & short, infos) == (each[0] & each[1]).tolist()


@pytest.mark.parametrize(
    ("criterion", "first"),
    [
        (EnergyChange(atol=1.0), 1),
        (GradientNorm(1.0), 0),
        (StepNorm(1.0), 1),
        (TargetEnergy(1.0), 0),
        (EnergyIncrease(), 1),
        (After(7), 7),
        (Never(), math.inf),
        (After(3) | After(5), 3),
        (After(3) & After(5), 5),
        (After(3).patience(4), 6),
        (halting(lambda info: info.energy > 1), 0),
    ],
)
def test_earliest(criterion, first):
    assert criterion.earliest() == first


def test_norms_at_iterate_0():
    y, z = torch.tensor([[3.0, 0.0]]), torch.tensor([4.0])
    e = torch.ones(1)
    info = StepInfo(torch.tensor(0), e, e, e, (y, z), (y, z), None, Dense(1))
    assert info.gradient_norm.tolist() == [5.0]
    assert info.step_norm.tolist() == [math.inf]
    moved = info._replace(previous=(torch.tensor([[3.0, 4.0]]), torch.tensor([1.0])))
    assert moved.step_norm.tolist() == [5.0]


def test_or_and_and_drop_no_criterion():
    for combine in (lambda a, b: a or b, lambda a, b: a and b, lambda a, b: not a):
        with pytest.raises(TypeError, match=r"with \| and &"):
            combine(GradientNorm(1e-3), Never())
