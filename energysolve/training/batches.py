"""The batches of a training run: drawn, shared between processes, and stored for replay."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from ..ragged import Ragged, rows_cat, rows_count, rows_select
from ..tasks.base import Task
from ..trees import tree_map
from .replay import ReplayBuffer

Batch = tuple[Any, Any, Any, Any]
"""Problems, targets, answers and scratchpads: ``(x, target, y, z)``."""


@dataclass
class Batches:
    """The source of batches, and where they go once they are solved.

    `draw` samples new problems, joins replayed ones, and returns this process's shard. `store` gathers the solved
    shards of all processes into the replay buffer. Every process draws from the same stream of random numbers and
    stores the same samples, so the buffers stay equal.

    A batch has ``size`` new problems, over all processes. ``start`` maps problems and a generator to initial answers
    and scratchpads, ``(y, z)``; it is None for models that start from ``x`` alone.
    """

    task: Task
    size: int
    start: Callable[[Any, torch.Generator], tuple[Any, Any]] | None
    replay: ReplayBuffer | None
    generator: torch.Generator
    accelerator: Accelerator

    def draw(self) -> Batch:
        """The local shard of the next batch: new problems, and as many replayed ones once the buffer holds so many."""
        new = self._new(self.size, self.generator)
        if self.replay is None and self.accelerator.num_processes == 1:
            return new
        rows = self.task.split(new)
        if rows_count(rows) != self.size:
            raise ValueError(
                f"{type(self.task).__name__}.sample was asked for {self.size} problems and drew {rows_count(rows)}. "
                "Its first argument is the size of the batch, which the first axis of every tensor has."
            )
        if self.replay is not None and len(self.replay) >= self.size:
            rows = rows_cat(rows, self.replay.sample(self.size, self.generator))
        return self.task.merge(local_shard(rows, self.accelerator))

    def store(self, solved: Iterable[Batch], good: Tensor) -> None:
        """Insert solved shards into the replay buffer, unless ``good``, a boolean on the device, is False."""
        if self.replay is not None:
            for batch in solved:
                self.replay.insert(gather_all(self.task.split(batch), self.accelerator), keep=good)

    def example(self) -> Any:
        """One sample in the form in which the replay buffer stores it. Leaves the generator as it is."""
        return self.task.split(self._new(1, torch.Generator(self.accelerator.device)))

    def _new(self, count: int, generator: torch.Generator) -> Batch:
        drawn = self.task.sample(count, generator=generator, device=self.accelerator.device)
        if not isinstance(drawn, tuple | list) or len(drawn) != 2:
            raise ValueError(
                f"{type(self.task).__name__}.sample must return problems and answers, (x, target); got a "
                f"{type(drawn).__name__}."
            )
        x, target = drawn
        # Tasks split and merge whole batches only: the target stands in for answers that no model starts from.
        y, z = (target, None) if self.start is None else self.start(x, generator)
        return x, target, y, z


def local_shard(rows: Any, accelerator: Accelerator) -> Any:
    """The samples of a rows tree that this process works on: contiguous, and equally many for every process."""
    if accelerator.num_processes == 1:
        return rows
    size = rows_count(rows) // accelerator.num_processes
    start = accelerator.process_index * size
    return rows_select(rows, slice(start, start + size))


def gather_all(rows: Any, accelerator: Accelerator) -> Any:
    """The samples of all processes, in the order of the batch."""
    if accelerator.num_processes == 1:
        return rows

    def gather(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return accelerator.gather(leaf.detach().contiguous())
        lengths = accelerator.gather(leaf.lengths)
        assert isinstance(lengths, Tensor)
        padded = accelerator.gather(leaf.padded(int(lengths.max())).detach().contiguous())
        assert isinstance(padded, Tensor)
        return Ragged.from_padded(padded, lengths)

    return tree_map(gather, rows)
