"""Trains in child processes, each killed at a random moment and followed by one that resumes; prints what happened.

Arguments: a folder, the number of kills, a seed.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
import torch._dynamo  # which optimizers load: once, not in every child
from safetensors.torch import load_file, save_file

from energysolve import SGD, EnergyChange, EnergySolver, MLPEnergy, Uniform
from energysolve.tasks import Addition
from energysolve.training import Callback, Checkpoints, ReplayBuffer, Trainer, Validation, make_accelerator

ITERATIONS = 250


class Ready(Callback):
    """Tells the parent that training begins."""

    def __init__(self, pipe: int):
        self._pipe = pipe

    def on_start(self, iteration, iterations):
        os.write(self._pipe, b".")


def train(folder: Path, pipe: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    task = Addition(8)
    energy = MLPEnergy(16, 8, z_dim=2, width=24)
    solver = EnergySolver(energy, SGD(3.0), init=task.init, scratchpad=Uniform((2,)))
    tested = solver.replace(halting=EnergyChange(rtol=1e-3), max_steps=10)
    trainer = Trainer(
        solver,
        task,
        replay=ReplayBuffer(2_000),
        batch_size=32,
        ema=0.95,
        validation=Validation(tested, every=20, problems=16, early_stopping=50),
        generator=torch.Generator().manual_seed(1),
        accelerator=make_accelerator(cpu=True, trackers=("csv",), folder=folder),
    )
    checkpoints = Checkpoints(folder / "checkpoints", every=5)
    trainer.fit(ITERATIONS, callbacks=[Ready(pipe)], checkpoints=checkpoints, resume=True)
    average = {f"average.{name}": value for name, value in trainer.trained_model.state_dict().items()}
    save_file({**energy.state_dict(), **average}, folder / "end.safetensors")


def child(folder: Path) -> int:
    """A process that trains; returns when it has loaded its checkpoint."""
    folder.mkdir(exist_ok=True)
    ready, pipe = os.pipe()
    process = os.fork()
    if process == 0:
        code = 1
        try:
            train(folder, pipe)
            code = 0
        finally:
            os._exit(code)
    os.close(pipe)
    os.read(ready, 1)
    os.close(ready)
    return process


def wait_for_writing(checkpoints: Path) -> None:
    """Until a checkpoint is being written, a second at most."""
    end = time.perf_counter() + 1
    while time.perf_counter() < end and not any(checkpoints.glob(".*.tmp")):
        pass


def main(folder: Path, kills: int, seed: int) -> None:
    random.seed(seed)
    process = child(folder / "whole")
    begin = time.perf_counter()
    _, status = os.waitpid(process, 0)
    assert status == 0
    whole = time.perf_counter() - begin
    killed, writing = [], 0
    while len(killed) < kills:
        process = child(folder / "killed")
        time.sleep(random.uniform(0, 2 / kills) * whole)
        if len(killed) % 4 == 3:
            wait_for_writing(folder / "killed" / "checkpoints")
        os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        if os.WIFEXITED(status):  # finished before the kill: begin again
            (folder / "killed" / "checkpoints").rename(folder / f"finished {len(killed)}")
            continue
        done = Checkpoints(folder / "killed" / "checkpoints").iterations()
        killed.append(done[-1] if done else 0)
        writing += any((folder / "killed" / "checkpoints").glob(".*.tmp"))
    _, status = os.waitpid(child(folder / "killed"), 0)
    assert status == 0
    a, b = (load_file(folder / name / "end.safetensors") for name in ("whole", "killed"))
    equal = a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    print(json.dumps({"equal": equal, "killed": killed, "while writing": writing, "seconds": whole}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
