"""The replay buffer: problems whose answers are optimized further (Section 3.2 of the paper)."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..checks import check_whole
from ..ragged import Ragged, rows_count, rows_select
from ..trees import tree_leaves, tree_structure, tree_unflatten


class ReplayBuffer:
    """A ring buffer of training samples on the device: trees of tensors with one row per sample, or of `Ragged`.

    The first insertion allocates the storage. The position in the ring and the number of samples stay on the device, so
    with dense tensors neither `insert` nor `sample` waits for it. Samples of different sizes are stored padded; a
    sample longer than all others widens the storage, and reading the sizes waits for the device.

    Args:
        capacity: the largest number of samples; beyond it, the oldest are overwritten. 10,000 in the paper.

    Raises:
        ValueError: if the capacity is not a whole number of 1 or more.

    Examples:
        >>> import torch
        >>> from energysolve.training import ReplayBuffer
        >>> buffer = ReplayBuffer(capacity=100)
        >>> x, target, y = torch.rand(8, 3), torch.rand(8, 2), torch.rand(8, 2)
        >>> buffer.insert((x, target, y))
        >>> [drawn.shape for drawn in buffer.sample(20)], len(buffer)
        ([torch.Size([20, 3]), torch.Size([20, 2]), torch.Size([20, 2])], 8)
    """

    def __init__(self, capacity: int = 10_000):
        check_whole("ReplayBuffer", least=1, capacity=capacity)
        self.capacity = capacity
        self._structure: Any = None
        self._forms: list[_Form] = []
        self._columns: dict[str, Tensor] = {}
        self._written = torch.zeros((), dtype=torch.int64)
        self._most = 0

    def __len__(self) -> int:
        """The number of samples stored, discarded insertions included. Does not wait for the device."""
        return self._most

    @torch.no_grad()
    def insert(self, rows: Any, keep: Tensor | None = None) -> None:
        """Store copies of a batch, or discard it.

        Args:
            rows: a tree of tensors with one row per sample, or of `Ragged`. If it has more samples than the capacity,
                the last are stored.
            keep: a boolean of shape () on the device; False discards the batch.

        Raises:
            ValueError: if the batch differs from what is stored in its structure, a dtype, a device or the shape of a
                row, or ``keep`` is not a single boolean.
        """
        if keep is not None and (keep.ndim or keep.dtype != torch.bool):
            raise ValueError(f"keep must be one boolean, got {keep.dtype} of shape {tuple(keep.shape)}.")
        count = rows_count(rows)
        if count > self.capacity:
            rows, count = rows_select(rows, slice(count - self.capacity, None)), self.capacity
        leaves: list[Any] = self._admit(rows)
        slots = (self._written + torch.arange(count, device=self._written.device)) % self.capacity
        if keep is not None:
            slots = torch.where(keep, slots, self.capacity)
        for name, part in _parts(leaves, self._columns).items():
            self._fitting(name, part).index_copy_(0, slots, part)
        self._written = self._written + (count if keep is None else count * keep)
        self._most = min(self._most + count, self.capacity)

    def sample(self, batch: int, generator: torch.Generator | None = None) -> Any:
        """Draw ``batch`` stored samples uniformly with replacement.

        Raises a ValueError if nothing was inserted. If every insertion was discarded, the samples are zeros and empty
        graphs. The generator must be on the device of the samples.
        """
        if not self._most:
            raise ValueError("The replay buffer is empty; insert samples first.")
        # The remainder of so large a number is uniform to one part in 10^14, and needs no size on the host.
        numbers = torch.randint(2**62, (batch,), generator=generator, device=self._written.device)
        slots = numbers % self._written.clamp(1, self.capacity)
        drawn = {name: column.index_select(0, slots) for name, column in self._columns.items()}
        leaves = [
            Ragged.from_padded(drawn[f"{i}.values"], drawn[f"{i}.lengths"]) if form.ragged else drawn[f"{i}"]
            for i, form in enumerate(self._forms)
        ]
        return tree_unflatten(self._structure, leaves)

    def state(self) -> dict[str, Tensor]:
        """The state for `load`: the filled rows of the storage and the counters, by name.

        The tensors share memory with the buffer: write or copy them before the next insertion.
        """
        rows = {name: column[: self._most] for name, column in self._columns.items()}
        return {**rows, "written": self._written, "capacity": torch.tensor(self.capacity)}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor], like: Any) -> None:
        """Restore a state, on any device, so that this buffer draws the same samples as the saved one.

        ``like`` is a batch such as those to be inserted; its values are not used. Raises a ValueError if the state is
        of a buffer of another capacity, or of other samples; the buffer is unchanged then.
        """
        rows_count(like)
        leaves, structure = tree_leaves(like), tree_structure(like)
        forms = [_Form.of(leaf) for leaf in leaves]
        most = _check_state(state, leaves, self.capacity)
        columns = {name: part.to(forms[0].device) for name, part in state.items() if name not in _COUNTERS}
        self._structure, self._forms = (structure, forms) if columns else (None, [])
        self._columns = {name: self._empty(part) for name, part in columns.items()}
        for name, part in columns.items():
            self._columns[name][:most] = part
        self._written = state["written"].to(forms[0].device, copy=True)
        self._most = most

    def _admit(self, rows: Any) -> list[Any]:
        """The leaves of a batch, checked against the stored ones."""
        leaves, structure = tree_leaves(rows), tree_structure(rows)
        forms = [_Form.of(leaf) for leaf in leaves]
        if self._structure is None:
            self._structure, self._forms = structure, forms
            self._written = self._written.to(forms[0].device)
        if structure != self._structure:
            raise ValueError(
                f"The replay buffer stores samples of structure {self._structure}, got {structure}. Samples of another "
                "kind need a ReplayBuffer of their own."
            )
        for i, (form, stored) in enumerate(zip(forms, self._forms, strict=True)):
            if form != stored:
                raise ValueError(f"The replay buffer stores {stored} as tensor {i} of its samples, got {form}.")
        return leaves

    def _fitting(self, name: str, part: Tensor) -> Tensor:
        """The storage of a part, allocated or widened if necessary."""
        column = self._columns.get(name)
        if column is None or column.shape[1:] != part.shape[1:]:
            larger = self._empty(part)
            if column is not None:
                larger[:, : column.shape[1]] = column
            self._columns[name] = column = larger
        return column

    def _empty(self, part: Tensor) -> Tensor:
        # One row more than the capacity, to which discarded samples are written. Zeros, since `sample` may draw a row
        # that was never written.
        return part.new_zeros(self.capacity + 1, *part.shape[1:])


_COUNTERS = ("written", "capacity")


class _Form(NamedTuple):
    """What all samples of one leaf have in common."""

    ragged: bool
    dtype: torch.dtype
    features: tuple[int, ...]
    device: torch.device

    @classmethod
    def of(cls, leaf: Tensor | Ragged) -> "_Form":
        tensor = leaf.values if isinstance(leaf, Ragged) else leaf
        return cls(isinstance(leaf, Ragged), tensor.dtype, tensor.shape[1:], tensor.device)

    def __str__(self) -> str:
        rows = "any number of rows" if self.ragged else "one row"
        return f"{rows} of shape {tuple(self.features)} and {self.dtype} on {self.device} per sample"


def _parts(leaves: list[Any], columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leaves as tensors by name: a `Ragged` as its lengths and its values, padded to at least the width of a column."""
    parts = {}
    for i, leaf in enumerate(leaves):
        if isinstance(leaf, Ragged):
            name = f"{i}.values"
            parts[name] = leaf.padded(max(leaf.longest, columns[name].shape[1] if name in columns else 0))
            parts[f"{i}.lengths"] = leaf.lengths
        else:
            parts[str(i)] = leaf
    return parts


def _check_state(state: Mapping[str, Tensor], leaves: list[Any], capacity: int) -> int:
    """The number of stored rows in a state, after a check that its samples are like those of a batch."""
    missing = [name for name in _COUNTERS if name not in state]
    if missing:
        raise ValueError(f"This is not the state of a replay buffer: it lacks {missing}.")
    if int(state["capacity"]) != capacity:
        raise ValueError(
            f"The state is of a replay buffer of capacity {int(state['capacity'])}, this one has {capacity}. Load "
            f"it into ReplayBuffer({int(state['capacity'])})."
        )
    found = {name: part for name, part in state.items() if name not in _COUNTERS}
    if not found and not int(state["written"]):
        return 0
    expected = {name: _kind(name, part) for name, part in _parts(leaves, {}).items()}
    got = {name: _kind(name, part) for name, part in found.items()}
    if got != expected:
        raise ValueError(f"The state holds samples of other dtypes or shapes: it has {got}, expected {expected}.")
    counts = {part.shape[0] for part in found.values()}
    most = max(counts)
    if len(counts) > 1 or not min(int(state["written"]), capacity) <= most <= capacity:
        raise ValueError(
            f"The state is damaged: its tensors have {sorted(counts)} rows, but {int(state['written'])} samples were "
            f"written at a capacity of {capacity}."
        )
    return most


def _kind(name: str, part: Tensor) -> tuple[Any, ...]:
    """What the stored samples of a part have in common; padded values may have any width."""
    return part.dtype, part.ndim, tuple(part.shape[2 if name.endswith(".values") else 1 :])
