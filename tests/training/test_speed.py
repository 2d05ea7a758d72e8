"""What makes training fast changes no result: nothing waits for the device, and compiled code agrees with eager."""

import subprocess
import sys

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from energysolve import SGD, EnergySolver, MLPEnergy, Momentum, Truncated, Uniform, Unroll
from energysolve.tasks import Addition
from energysolve.training import ReplayBuffer, Trainer

WAITING = ("_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "equal.default")


class Operations(TorchDispatchMode):
    """Writes down every operation that torch executes."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(str(function))
        return function(*args, **(kwargs or {}))


def make(device="cpu", size=3, width=16, **options) -> Trainer:
    torch.manual_seed(0)
    task = Addition(size)
    energy = MLPEnergy(2 * size, size, z_dim=2, width=width).to(device)
    solver = EnergySolver(energy, SGD(3.0), init=task.init, scratchpad=Uniform((2,)))
    generator = torch.Generator(device).manual_seed(1)
    return Trainer(solver, task, replay=ReplayBuffer(100), batch_size=8, generator=generator, **options)


@pytest.mark.parametrize("mode", [Truncated(1), Truncated(3), Unroll()], ids=repr)
def test_an_iteration_asks_nothing_of_the_device(mode):
    trainer = make(differentiation=mode, clip_norm=1.0, ema=0.9)
    for _ in range(3):
        trainer.step()
    trainer._updater._guarded_on_device = True  # as on a GPU
    with Operations() as operations:
        trainer._iterate()
    assert len(operations.names) > 100
    assert not [name for name in operations.names if any(word in name for word in WAITING)]


def test_the_guard_on_the_device_is_the_guard_on_the_host():
    def run(on_device):
        trainer = make(skip_nonfinite=True, lr=1e-2)
        trainer.step()
        trainer._updater._guarded_on_device = on_device
        good = []
        for number in range(6):
            if number in (1, 4):
                trainer.task.__class__.error = lambda self, solution, target: error(self, solution, target) / 0
            try:
                good.append(bool(trainer._iterate()[1]))
            finally:
                trainer.task.__class__.error = error
        return good, [p.detach().clone() for p in trainer.model.parameters()], trainer.replay.state()

    error = Addition.error
    (good, weights, stored), (good_too, weights_too, stored_too) = run(False), run(True)
    assert good == good_too == [number not in (1, 4) for number in range(6)]
    for ours, theirs in zip(weights, weights_too, strict=True):
        assert torch.equal(ours, theirs)
    assert all(torch.equal(stored[name], stored_too[name]) for name in stored)


COMPILED = """
import torch, torch._dynamo
from energysolve import *
from energysolve.tasks import Addition
from energysolve.training import ReplayBuffer, Trainer

torch.set_num_threads(1)

def losses(compile):
    torch.manual_seed(0)
    task = Addition(6)
    energy = MLPEnergy(12, 6, z_dim=PAD, width=16)
    solver = EnergySolver(energy, OPTIMIZER, init=task.init, scratchpad=Uniform((PAD,)) if PAD else None)
    generator = torch.Generator().manual_seed(1)
    trainer = Trainer(solver, task, replay=ReplayBuffer(100), batch_size=8, differentiation=MODE, compile=compile,
                      generator=generator, lr=1e-2)
    found = []
    trainer.fit(12, lambda progress: found.append(progress.loss))
    return torch.tensor(found), torch.cat([p.detach().flatten() for p in energy.parameters()])

(eager, weights), (compiled, weights_too) = losses(False), losses(True)
assert eager[0] == compiled[0]  # the first batch runs eagerly
torch.testing.assert_close(eager, compiled, rtol=1e-4, atol=1e-5)
torch.testing.assert_close(weights, weights_too, rtol=1e-3, atol=1e-4)
assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1, torch._dynamo.utils.counters["stats"]
assert not torch._dynamo.utils.counters["graph_break"]
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "mode", "pad"),
    [("SGD(3.0)", "Truncated(1)", 0), ("SGD(1.0)", "Unroll()", 2)],
)
def test_compiled_training_agrees_with_eager(optimizer, mode, pad):
    """In a process of its own: the type-checking import hook of the test run must not be compiled along."""
    program = COMPILED.replace("OPTIMIZER", optimizer).replace("MODE", mode).replace("PAD", str(pad))
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=500)
    assert finished.returncode == 0, finished.stderr


def test_optimizers_that_cannot_be_compiled_say_so():
    task = Addition(3)
    with pytest.raises(ValueError, match="Train with SGD"):
        Trainer(EnergySolver(MLPEnergy(6, 3, width=8), Momentum(1.0), init=task.init), task, compile=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
class TestOnTheGPU:
    def test_the_losses_are_those_of_the_cpu(self):
        """The same weights and batches: the CPU's batches are taken to the GPU."""
        found = []
        for device in ("cpu", "cuda"):
            trainer = make(device)
            source = torch.Generator().manual_seed(5)
            trainer.batches._new = lambda batch, generator, device=device, source=source: draw(batch, source, device)
            trainer.batches.replay = None
            found.append([trainer.step().cpu() for _ in range(10)])
        torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-4)

    @pytest.mark.parametrize("compile", [False, True])
    def test_steady_iterations_do_not_synchronize(self, compile):
        trainer = make("cuda", compile=compile)
        for _ in range(8):
            trainer._iterate()
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(20):
                trainer._iterate()
        finally:
            torch.cuda.set_sync_debug_mode("default")

    def test_a_resumed_run_goes_on(self, tmp_path):
        from energysolve.training import Checkpoints

        checkpoints = Checkpoints(tmp_path, every=5)
        make("cuda").fit(10, checkpoints=checkpoints)
        checkpoints.path(10).unlink()
        make("cuda").fit(10, checkpoints=checkpoints, resume=True)
        assert checkpoints.iterations() == [5, 10]


def draw(batch, source, device):
    task = Addition(3)
    x, target = task.sample(batch, generator=source)
    y, z = torch.rand(batch, 3, generator=source) * 2 - 1, torch.rand(batch, 2, generator=source) * 2 - 1
    return tuple(tensor.to(device) for tensor in (x, target, y, z))
