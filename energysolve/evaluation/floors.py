"""Answers that need no solver: what a solver has to beat. Errors are those of the task, problem by problem."""

import torch
from jaxtyping import Float
from torch import Tensor

from ..checks import check_whole
from ..solution import Solution
from ..tasks import Completion, Inverse, Task

MEAN_SAMPLE = 20_000
"""Targets that a constant answer is the mean of."""


def answer_error(task: Task, y: Tensor, target: Tensor) -> Float[Tensor, " batch"]:
    """The task's error of answers that no solver made.

    Args:
        task: the judge.
        y: the answers, with the shape of ``target``; one answer for all problems may leave out the batch.
        target: the right ones, ``(batch, ...)``.
    """
    return task.error(Solution.of_answers(y.expand_as(target)), target)


def predict_zero(task: Task, target: Tensor) -> Float[Tensor, " batch"]:
    """The error of answering zero."""
    return answer_error(task, torch.zeros_like(target), target)


def copy(
    task: Completion, x: Float[Tensor, "batch rows columns"], target: Float[Tensor, "batch rows columns"]
) -> Float[Tensor, " batch"]:
    """The error of giving back the entries that were seen, and zero elsewhere: ``(rank / scale² + noise²) / 2``."""
    return answer_error(task, x, target)


def mean_target(task: Task, difficulty: str, generator: torch.Generator, sample: int = MEAN_SAMPLE) -> Tensor:
    """The mean target of fresh problems: the best answer that is the same for every problem of that difficulty.

    In float64.

    Args:
        task: whose targets are tensors.
        difficulty: of the problems that it is the mean of.
        generator: source of randomness, on the CPU; not the one that the judged problems come from.
        sample: how many problems.
    """
    check_whole("mean_target", least=1, sample=sample)
    sums, done = [], 0
    while done < sample:
        # Some at a time, for memory not to grow with the sample.
        _, target = task.sample(min(1000, sample - done), difficulty, generator)
        sums.append(target.sum(0, dtype=torch.float64))
        done += len(target)
    return torch.stack(sums).sum(0) / sample


def floors(
    task: Task, difficulty: str, x: Tensor, target: Tensor, generator: torch.Generator, sample: int = MEAN_SAMPLE
) -> dict[str, Float[Tensor, " batch"]]:
    """The errors of the simple answers that suit a task, by name.

    ``"predict zero"`` for every task and ``"copy"`` for completion. For the inverse ``"training mean"``, the mean
    target of ``"same"`` problems, whatever the difficulty, and for other difficulties also ``"own mean"``, the mean
    target of problems of that difficulty, which nobody knows who trained on ``"same"`` problems alone.

    Args:
        task: with one tensor as ``x`` and one as target.
        difficulty: of the problems.
        x: the problems.
        target: their answers.
        generator: source of randomness of the means, on the CPU; not the one that the problems come from.
        sample: how many problems the means are of.
    """
    task.check_difficulty(difficulty)
    errors = {"predict zero": predict_zero(task, target)}
    if isinstance(task, Completion):
        errors["copy"] = copy(task, x, target)
    if isinstance(task, Inverse):
        training = task.difficulties[0]
        names = {"training mean": training} | ({} if difficulty == training else {"own mean": difficulty})
        for name, of in names.items():
            constant = mean_target(task, of, generator, sample).to(target)
            errors[name] = answer_error(task, constant, target)
    return errors
