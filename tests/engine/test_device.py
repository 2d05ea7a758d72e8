"""No step waits for the device, and CUDA gives the CPU's answers."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from energysolve import (
    SGD,
    Adam,
    After,
    BestSoFar,
    Dense,
    EnergyChange,
    EnergyIncrease,
    EnergySolver,
    GradientNorm,
    Implicit,
    MLPEnergy,
    Momentum,
    Never,
    RMSProp,
    Segment,
    StepNorm,
    TargetEnergy,
    Truncated,
    Uniform,
    Unroll,
)
from energysolve.engine.loop import Descent
from energysolve.engine.objective import Objective

CRITERIA = [
    EnergyChange(atol=1e-3, rtol=1e-3).patience(2),
    GradientNorm(1e-3) | StepNorm(1e-3),
    TargetEnergy(-3.0) & After(2),
    EnergyIncrease(),
    Never(),
]
WAITING = ("_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "equal.default")


class Operations(TorchDispatchMode):
    """Writes down every operation that torch executes."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(str(function))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("halting", CRITERIA, ids=repr)
@pytest.mark.parametrize("optimizer", [SGD(0.1), Momentum(0.1), Adam(0.1), RMSProp(0.1)], ids=repr)
@pytest.mark.parametrize("layout", [Dense(5), Segment(torch.tensor([0, 0, 1, 2, 1]), 3)], ids=["dense", "segment"])
def test_a_step_asks_nothing_of_the_device(layout, optimizer, halting):
    target = torch.randn(5, 3)
    objective = Objective(lambda x, y: layout.sum((y - x).square()), target, layout)
    with torch.no_grad():
        carry = Descent(objective, optimizer, halting).start((torch.randn(5, 3),))
        with Operations() as seen:
            Descent(objective, optimizer, halting).advance(carry)
    assert any("sub" in name for name in seen.names)
    assert not [name for name in seen.names if any(word in name for word in WAITING)]


cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.gpu
@cuda
@pytest.mark.parametrize("mode", [Truncated(1), Truncated(3), Unroll(), Implicit()], ids=repr)
@pytest.mark.parametrize("optimizer", [SGD(0.1), Momentum(0.05), Adam(0.05), RMSProp(0.05)], ids=repr)
def test_cuda_gives_the_answers_of_the_cpu(optimizer, mode):
    torch.manual_seed(0)
    x, y = torch.randn(16, 6, dtype=torch.float64), torch.randn(16, 6, dtype=torch.float64)
    found = {}
    for device in ("cpu", "cuda"):
        weight = torch.full((6,), 0.7, dtype=torch.float64, device=device, requires_grad=True)

        def energy(x, y, weight=weight):
            return (weight * (y - x).square() + 0.1 * y.square()).sum(-1)

        solver = EnergySolver(energy, optimizer, halting=GradientNorm(1e-2), differentiation=mode, max_steps=300)
        solution = solver.minimize(x.to(device), y.to(device))
        gradient = torch.autograd.grad(solution.y.square().sum(), weight)[0]
        found[device] = [solution.y, solution.energy, solution.steps, solution.status, gradient]
    for on_cpu, on_cuda in zip(found["cpu"], found["cuda"], strict=True):
        torch.testing.assert_close(on_cuda.cpu(), on_cpu, rtol=1e-9, atol=1e-9)


@pytest.mark.gpu
@cuda
@pytest.mark.parametrize("halting", CRITERIA, ids=repr)
def test_cuda_synchronizes_nowhere_inside_a_step(halting):
    energy = MLPEnergy(8, 4, width=16).cuda()
    objective = Objective(energy.evaluate, energy.encode(torch.randn(5, 8, device="cuda")).detach(), Dense(5))
    with torch.no_grad():
        descent = Descent(objective, SGD(1.0), halting)
        carry = descent.advance(descent.start((torch.randn(5, 4, device="cuda"),)))
        torch.cuda.set_sync_debug_mode("error")
        try:
            descent.advance(carry)
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_cuda_solves_and_trains_in_every_precision(dtype):
    torch.manual_seed(0)
    energy = MLPEnergy(8, 4, width=16).cuda()
    solver = EnergySolver(energy, SGD(1.0), init=Uniform((4,)), recorder=BestSoFar(), differentiation=Truncated(1))
    x = torch.randn(64, 8, device="cuda")
    if dtype == torch.float64:
        solver, x = solver.double(), x.double()
    with torch.autocast("cuda", torch.bfloat16, enabled=dtype == torch.bfloat16):
        solution = solver.minimize(x, generator=torch.Generator("cuda").manual_seed(0))
        solution.y.square().mean().backward()
    assert solution.y.device.type == solution.energy.device.type == "cuda"
    assert energy.from_y.weight.grad.isfinite().all()
