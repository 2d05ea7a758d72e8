"""How the processes of a run share a batch: each takes its part, and all get the answers of all."""

from typing import Any

from accelerate import Accelerator
from torch import Tensor

from ..ragged import Ragged, rows_count, rows_select
from ..trees import tree_map


def local_shard(rows: Any, accelerator: Accelerator) -> Any:
    """The samples of a batch that this process works on; the parts are contiguous and of equal size."""
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
