"""One step of the loop compiles without a graph break and gives the same answers.

In a process of its own: the type-checking import hook of the test run must not be compiled along.
"""

import subprocess
import sys

import pytest

PROGRAM = """
import torch
from energysolve import *
from energysolve.engine.loop import Descent
from energysolve.engine.objective import Objective

torch.set_num_threads(1)
torch.manual_seed(0)

@halting
def own(info):
    return info.energy < -100

criteria = [EnergyChange(atol=1e-3, rtol=1e-3).patience(2), GradientNorm(1e-3), StepNorm(1e-3), TargetEnergy(-3.0),
            EnergyIncrease(), After(4), Never(), own, (EnergyChange(atol=1e-3) | After(3)) & GradientNorm(1.0)]
energy = MLPEnergy(6, 4, width=8)
x, y = torch.randn(5, 6), torch.randn(5, 4)
# What a criterion computes does not depend on the optimizer.
for criterion in criteria if OPTIMIZER == SGD(1.0) else criteria[-1:]:
    torch._dynamo.reset()
    step = torch.compile(Descent.advance, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        descent = Descent(Objective(energy.evaluate, energy.encode(x), Dense(5)), OPTIMIZER, criterion)
        eager = compiled = descent.start((y,))
        for _ in range(3):
            eager, compiled = descent.advance(eager), step(descent, compiled)
    assert torch.allclose(eager.at.free[0], compiled.at.free[0], atol=1e-5)
    assert torch.equal(eager.active, compiled.active) and torch.equal(eager.steps, compiled.steps)
counters = torch._dynamo.utils.counters
assert not counters["graph_break"], counters["graph_break"]
"""

SOLVER = """
import torch
from energysolve import *

torch.set_num_threads(1)
torch.manual_seed(0)
energy = MLPEnergy(6, 4, width=8)
solver = EnergySolver(energy, SGD(1.0), init=Uniform((4,)), halting=EnergyChange(rtol=1e-3).patience(2), max_steps=30)
for _ in range(2):
    x, y = torch.randn(5, 6), torch.randn(5, 4)
    eager, compiled = solver.minimize(x, y), solver.replace(compile=True).minimize(x, y, progress=True)
    assert torch.allclose(eager.y, compiled.y, atol=1e-4)
    assert torch.equal(eager.steps, compiled.steps) and torch.equal(eager.status, compiled.status)
assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1, torch._dynamo.utils.counters
"""


def run(program: str) -> None:
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=500)
    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize("optimizer", ["SGD(1.0)", "Momentum(1.0)", "LBFGS()"])
def test_one_step_traces_whole_with_every_criterion(optimizer):
    run(PROGRAM.replace("OPTIMIZER", optimizer))


@pytest.mark.slow
def test_a_compiled_solver_gives_the_same_answers_from_one_graph():
    run(SOLVER)
