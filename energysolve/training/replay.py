"""Problems that were optimized before, to be optimized further (Section 3.2 of the paper)."""

from typing import Any

import optree
import torch

from ..checks import check_whole


class ReplayBuffer:
    """A ring of training samples on the device: trees of tensors with one row a sample.

    Storage is allocated at the first insertion, with the structure and dtypes met there.

    Args:
        capacity: the most samples that are kept; the oldest are overwritten. 10,000 in the paper.
    """

    def __init__(self, capacity: int = 10_000):
        check_whole("ReplayBuffer", least=1, capacity=capacity)
        self.capacity = capacity
        self._storage: Any = None
        self._size = 0
        self._next = 0

    def __len__(self) -> int:
        return self._size

    def insert(self, rows: Any) -> None:
        """Store a batch, over the oldest samples once the ring is full."""
        rows = optree.tree_map(lambda leaf: leaf.detach()[-self.capacity :], rows)
        count = len(optree.tree_leaves(rows)[0])
        if self._storage is None:
            self._storage = optree.tree_map(lambda leaf: leaf.new_empty(self.capacity, *leaf.shape[1:]), rows)
        device = optree.tree_leaves(rows)[0].device
        slots = (self._next + torch.arange(count, device=device)) % self.capacity
        optree.tree_map_(lambda store, leaf: store.index_copy_(0, slots, leaf), self._storage, rows)
        self._next = (self._next + count) % self.capacity
        self._size = min(self._size + count, self.capacity)

    def sample(self, batch: int, generator: torch.Generator | None = None) -> Any:
        """``batch`` stored samples, drawn uniformly with replacement.

        Raises:
            ValueError: if the buffer is empty.
        """
        if not self._size:
            raise ValueError("The replay buffer is empty; insert samples first.")
        device = optree.tree_leaves(self._storage)[0].device
        rows = torch.randint(self._size, (batch,), generator=generator, device=device)
        return optree.tree_map(lambda store: store.index_select(0, rows), self._storage)
