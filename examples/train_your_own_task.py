"""Training an energy on a custom task: sorting six numbers.

A task draws problems with their answers and defines the error. The trainer learns an energy with its minimum at the
answer.
"""

import torch

from energysolve import SGD, EnergyChange, EnergySolver, MLPEnergy, Uniform
from energysolve.tasks import Task
from energysolve.training import Progress, ReplayBuffer, Trainer


class Sorting(Task):
    """Sort numbers; ``x`` and the target are ``(batch, size)``."""

    difficulties = ("same", "harder")

    def __init__(self, size: int = 6):
        self.size = size
        self.init = Uniform((size,))

    def sample(self, batch, difficulty="same", generator=None, device=None):
        self.check_difficulty(difficulty)
        bound = 1.0 if difficulty == "same" else 1.5
        x = (torch.rand(batch, self.size, generator=generator, device=device) * 2 - 1) * bound
        return x, x.sort(-1).values

    def error(self, solution, target):
        return (solution.y - target).square().mean(-1)


def show(progress: Progress) -> None:
    if progress.iteration % 100 == 0:
        print(f"iteration {progress.iteration}: loss {progress.loss:.4f}")


def main() -> None:
    torch.manual_seed(0)
    task = Sorting()
    energy = MLPEnergy(x_dim=task.size, y_dim=task.size, width=128)
    solver = EnergySolver(energy, SGD(lr=10.0), init=task.init)
    trainer = Trainer(
        solver, task, train_steps=5, replay=ReplayBuffer(10_000), generator=torch.Generator().manual_seed(1)
    )
    trainer.fit(400, show)

    # The solver now takes as many steps as each problem needs.
    solver = solver.replace(halting=EnergyChange(rtol=1e-4).patience(2), max_steps=200)
    generator = torch.Generator().manual_seed(2)
    for difficulty in task.difficulties:
        x, target = task.sample(1000, difficulty, generator)
        solution = solver.minimize(x, generator=generator)
        error, floor = task.error(solution, target).mean().item(), target.square().mean().item()
        steps = solution.steps.float().mean().item()
        print(f"{difficulty}: error {error:.4f}, {floor / error:.0f} times below answering zero, {steps:.1f} steps")


if __name__ == "__main__":
    main()
