"""The mean target of a task: the best constant answer."""

import torch
from torch import Tensor

from ..checks import check_whole
from ..tasks import Task

MEAN_SAMPLE = 20_000
"""Number of problems whose targets are averaged."""
_CHUNK = 1000


def mean_target(task: Task, difficulty: str, generator: torch.Generator, sample: int = MEAN_SAMPLE) -> Tensor:
    """The mean target of fresh problems, in float64.

    Args:
        task: a task whose targets are tensors with one row per sample.
        difficulty: difficulty of the problems.
        generator: source of the problems; use another than for the problems to evaluate on.
        sample: number of problems.
    """
    check_whole("mean_target", least=1, sample=sample)
    sums, done = [], 0
    while done < sample:  # in chunks, so that memory does not grow with the sample
        _, target = task.sample(min(_CHUNK, sample - done), difficulty, generator, generator.device)
        sums.append(target.sum(0, dtype=torch.float64))
        done += len(target)
    return torch.stack(sums).sum(0) / sample
