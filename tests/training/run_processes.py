"""A training run for several processes: writes the weights after 20 iterations to the file given."""

import sys

import torch
from safetensors.torch import save_file

from energysolve import SGD, EnergySolver, MLPEnergy, Uniform
from energysolve.tasks import Addition
from energysolve.training import ReplayBuffer, Trainer, make_accelerator


def main(path: str) -> None:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    accelerator = make_accelerator(cpu=True)
    torch.manual_seed(accelerator.process_index)  # processes that begin with other weights get those of the first
    task = Addition(6)
    energy = MLPEnergy(12, 6, z_dim=2, width=16)
    solver = EnergySolver(energy, SGD(3.0), init=task.init, scratchpad=Uniform((2,)))
    generator = torch.Generator().manual_seed(7)
    trainer = Trainer(
        solver,
        task,
        replay=ReplayBuffer(40),
        batch_size=8,
        accumulate=2,
        clip_norm=1.0,
        ema=0.9,
        lr=1e-2,
        generator=generator,
        accelerator=accelerator,
    )
    trainer.fit(20)
    if accelerator.is_main_process:
        average = {f"average.{name}": value for name, value in trainer.trained_model.state_dict().items()}
        processes = torch.tensor(accelerator.num_processes)
        save_file({**energy.state_dict(), **average, "processes": processes}, path)


if __name__ == "__main__":
    main(sys.argv[1])
