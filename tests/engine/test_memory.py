"""Memory does not grow with the number of steps, and nothing stays alive that should not."""

import gc

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from energysolve import (
    SGD,
    Adam,
    BestSoFar,
    Detached,
    EnergyChange,
    EnergySolver,
    MLPEnergy,
    Never,
    Nothing,
    Truncated,
    Unroll,
)


def allocations(solve) -> tuple[int, int, object]:
    """The peak of live tensor bytes during a call, the bytes still live at its end, and its result."""
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as session:
        result = solve()
    events = sorted(
        (event for event in session.profiler.kineto_results.events() if event.name() == "[memory]"),
        key=lambda event: event.start_ns(),
    )
    live = peak = 0
    for event in events:
        live += event.nbytes()
        peak = max(peak, live)
    return peak, live, result


def solver(differentiation, halting, optimizer=None) -> EnergySolver:
    torch.manual_seed(0)
    return EnergySolver(
        MLPEnergy(40, 30, width=64),
        optimizer or SGD(0.1),
        halting=halting,
        differentiation=differentiation,
        recorder=Nothing() if halting == Never() else BestSoFar(),
    )


PROBLEM = torch.randn(128, 40), torch.randn(128, 30)


@pytest.mark.parametrize("halting", [Never(), EnergyChange(rtol=1e-9).patience(3)], ids=["never", "halting"])
@pytest.mark.parametrize("optimizer", [SGD(0.1), Adam(1e-3)], ids=["sgd", "adam"])
@pytest.mark.parametrize("mode", [Detached(), Truncated(1)], ids=["detached", "truncated"])
def test_peak_and_graph_are_the_same_at_5_and_500_steps(mode, halting, optimizer):
    solve = solver(mode, halting, optimizer)
    (peak_few, graph_few, _), (peak_many, graph_many, _) = (
        allocations(lambda steps=steps: solve.minimize(*PROBLEM, max_steps=steps)) for steps in (5, 500)
    )
    assert peak_many == pytest.approx(peak_few, rel=0.02)
    assert graph_many == pytest.approx(graph_few, rel=0.02)


def test_the_measurement_sees_a_graph_that_grows():
    solve = solver(Unroll(), Never())
    few, many = (allocations(lambda steps=steps: solve.minimize(*PROBLEM, max_steps=steps))[1] for steps in (5, 50))
    assert many > 5 * few


@pytest.mark.parametrize("mode", [Detached(), Truncated(2), Unroll()], ids=repr)
def test_without_gradients_no_graph_is_alive_on_return(mode):
    solve = solver(mode, EnergyChange(rtol=1e-3))
    with torch.no_grad():
        _, live, solution = allocations(lambda: solve.minimize(*PROBLEM, max_steps=20))
    assert not solution.y.requires_grad
    returned = (
        solution.y,
        solution.energy,
        solution.steps,
        solution.status,
        solution.evaluations,
        solution.gradient_norm,
        *solution.record[::2],
        solution.record.step,
    )
    held = sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in returned}.values())
    assert live <= 1.05 * held


@pytest.mark.parametrize("mode", [Detached(), Truncated(2), Unroll()], ids=repr)
def test_repeated_solves_leak_no_tensor(mode):
    solve = solver(mode, EnergyChange(rtol=1e-3))

    def once() -> None:
        solution = solve.minimize(*PROBLEM, max_steps=10)
        if solution.y.requires_grad:
            solution.y.sum().backward()

    once()
    _, live, _ = allocations(lambda: [once() for _ in range(3)])
    gc.collect()
    assert live <= 4096
