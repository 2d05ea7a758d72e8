"""The mean target of a task: the best answer that is the same for every problem."""

import torch
from torch import Tensor

from ..checks import check_whole
from ..tasks import Task

MEAN_SAMPLE = 20_000
"""Problems whose targets are averaged."""
_CHUNK = 1000


def mean_target(task: Task, difficulty: str, generator: torch.Generator, sample: int = MEAN_SAMPLE) -> Tensor:
    """The mean target of fresh problems, in float64.

    Args:
        task: whose targets are tensors with one row a sample.
        difficulty: of the problems.
        generator: source of the problems; not the one that the judged problems come from.
        sample: how many problems.
    """
    check_whole("mean_target", least=1, sample=sample)
    sums, done = [], 0
    while done < sample:  # in chunks, so that memory does not grow with the sample
        _, target = task.sample(min(_CHUNK, sample - done), difficulty, generator, generator.device)
        sums.append(target.sum(0, dtype=torch.float64))
        done += len(target)
    return torch.stack(sums).sum(0) / sample
