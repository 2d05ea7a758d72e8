"""The replay buffer: a ring on the device, of dense samples and of samples of different sizes."""

import optree
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from energysolve.ragged import Ragged
from energysolve.training.replay import ReplayBuffer

WAITING = ("_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "equal.default", "repeat_interleave")
KEEP = st.sampled_from([None, True, False])


def dense(numbers):
    new = torch.tensor(numbers, dtype=torch.float32)
    return new, {"twice": 2 * new.unsqueeze(1)}, None


def mixed(numbers, shift=0):
    """Samples that can be told from any of their leaves: number ``n`` has ``(n + shift) % 4`` and ``n % 3`` rows."""

    def runs(sizes):
        values = [(n, row) for n, size in zip(numbers, sizes, strict=True) for row in range(size)]
        return Ragged(torch.tensor(values, dtype=torch.int32).view(-1, 2), torch.tensor(sizes).long())

    return (
        runs([(n + shift) % 4 for n in numbers]),
        {"edges": runs([n % 3 for n in numbers]), "n": torch.tensor(numbers).long()},
        None,
    )


def flag(keep):
    return None if keep is None else torch.tensor(keep)


def drawn(buffer, seed, batch=20):
    """What a draw brings, as numbers."""
    leaves = optree.tree_leaves(buffer.sample(batch, torch.Generator().manual_seed(seed)))
    return [part.tolist() for leaf in leaves for part in (vars(leaf).values() if isinstance(leaf, Ragged) else [leaf])]


@settings(max_examples=100)
@given(st.integers(1, 7), st.lists(st.tuples(st.integers(1, 9), KEEP), min_size=1, max_size=6))
def test_the_ring_keeps_the_newest(capacity, insertions):
    """Against a list: the last ``capacity`` samples that were kept, in any order."""
    buffer, kept, offered = ReplayBuffer(capacity), [], 0
    for count, keep in insertions:
        numbers = list(range(offered + 1, offered + count + 1))
        offered += count
        kept += [] if keep is False else numbers
        buffer.insert(dense(numbers), flag(keep))
        assert len(buffer) == min(offered, capacity)
        values, tree, nothing = buffer.sample(200, torch.Generator().manual_seed(0))
        assert set(values.tolist()) == set(kept[-capacity:] or [0])
        assert torch.equal(tree["twice"].squeeze(1), 2 * values)
        assert nothing is None


@settings(max_examples=100)
@given(st.integers(1, 7), st.lists(st.tuples(st.integers(0, 9), KEEP), min_size=1, max_size=6))
def test_samples_of_different_sizes_come_back_whole(capacity, insertions):
    buffer, kept, offered = ReplayBuffer(capacity), [], 0
    for count, keep in insertions:
        numbers = list(range(offered, offered + count))
        offered += count
        kept += [] if keep is False else numbers
        buffer.insert(mixed(numbers), flag(keep))
        if kept:
            nodes, others, _ = buffer.sample(100, torch.Generator().manual_seed(0))
            numbers = others["n"].tolist()
            assert set(numbers) == set(kept[-capacity:])
            expected, more, _ = mixed(numbers)
            for got, wanted in [(nodes, expected), (others["edges"], more["edges"])]:
                assert torch.equal(got.values, wanted.values)
                assert torch.equal(got.lengths, wanted.lengths)


def test_a_longer_sample_widens_the_storage_and_changes_nothing_else():
    buffer = ReplayBuffer(5)
    buffer.insert(Ragged(torch.zeros(0, 2), torch.tensor([0, 0])))
    buffer.insert(Ragged(torch.arange(6.0).view(3, 2), torch.tensor([1, 2])))
    long = Ragged(torch.full((9, 2), torch.nan), torch.tensor([9]))
    buffer.insert(long, torch.tensor(False))
    rows = buffer.sample(200, torch.Generator().manual_seed(0))
    found = {tuple(run.flatten().tolist()) for run in rows.values.split(rows.lengths.tolist())}
    assert found == {(), (0.0, 1.0), (2.0, 3.0, 4.0, 5.0)}
    buffer.insert(long)
    assert int(buffer.sample(200, torch.Generator().manual_seed(0)).lengths.max()) == 9


def test_where_nothing_was_kept_zeros_are_drawn():
    buffer = ReplayBuffer(4)
    for _ in range(3):
        buffer.insert((torch.full((3, 2), torch.nan), Ragged(torch.ones(3), torch.tensor([1, 1, 1]))), flag(False))
    values, runs = buffer.sample(50)
    assert len(buffer) == 4  # an upper bound
    assert torch.equal(values, torch.zeros(50, 2))
    assert len(runs) == 50
    assert runs.longest == 0


def test_draws_are_uniform_and_repeatable():
    """Chi-squared over the stored samples; 27.9 is the 0.1 % point at 9 degrees of freedom."""
    buffer = ReplayBuffer(16)
    buffer.insert(torch.arange(10))
    values = buffer.sample(100_000, torch.Generator().manual_seed(0))
    counts = torch.bincount(values, minlength=16).double()
    assert not counts[10:].any()
    assert ((counts[:10] - 1e4) ** 2 / 1e4).sum() < 27.9
    assert torch.equal(values, buffer.sample(100_000, torch.Generator().manual_seed(0)))
    assert not torch.equal(values, buffer.sample(100_000, torch.Generator().manual_seed(1)))
    torch.manual_seed(0)
    first = buffer.sample(100)
    torch.manual_seed(0)
    assert torch.equal(first, buffer.sample(100))


def test_what_is_stored_and_drawn_are_copies():
    values = torch.ones(3, 2, requires_grad=True)
    buffer = ReplayBuffer(8)
    buffer.insert((values, Ragged(values * 1, torch.tensor([1, 2, 0]))))
    with torch.no_grad():
        values.zero_()
    for _ in range(2):
        first, second = buffer.sample(6)
        assert not first.requires_grad
        assert not second.values.requires_grad
        assert (first == 1).all()
        assert (second.values == 1).all()
        first.zero_()
        second.values.zero_()


class Operations(TorchDispatchMode):
    """Writes down every operation that torch executes."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(str(function))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("keep", [None, True])
def test_dense_samples_wait_for_nothing(keep):
    """With few operations, too: one a tensor, and a handful to find the place."""
    buffer, rows = ReplayBuffer(10), (torch.rand(4, 3), torch.rand(4, 2), torch.rand(4, 2), None)
    buffer.insert(rows)
    keep = flag(keep)
    with Operations() as seen:
        buffer.insert(rows, keep)
        buffer.sample(4)
    assert sum("index_copy_" in name for name in seen.names) == 3
    assert sum("index_select" in name for name in seen.names) == 3
    assert not [name for name in seen.names if any(word in name for word in WAITING)]
    assert len(seen.names) <= 6 + 10


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_waits_for_nothing_and_stores_the_same():
    rows = (torch.rand(4, 3), torch.rand(4, 2), None)
    on_cuda = tuple(None if leaf is None else leaf.cuda() for leaf in rows)
    buffer, keep = ReplayBuffer(6), torch.tensor(True, device="cuda")
    buffer.insert(on_cuda)
    generator = torch.Generator("cuda").manual_seed(0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        buffer.insert(on_cuda, keep)
        buffer.insert(on_cuda, ~keep)
        first, second, _ = buffer.sample(50, generator)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    both = torch.cat(rows[:2], 1)
    assert all((row == both).all(1).any() for row in torch.cat([first, second], 1).cpu())
    ragged = Ragged(torch.rand(6, 2).cuda(), torch.tensor([1, 0, 5]).cuda())
    buffer = ReplayBuffer(3)
    buffer.insert(ragged, keep)
    assert set(buffer.sample(50, generator).lengths.tolist()) == {0, 1, 5}


@settings(max_examples=100)
@given(
    st.integers(1, 9),
    st.lists(st.tuples(st.integers(1, 6), KEEP), max_size=5),
    st.lists(st.tuples(st.integers(1, 6), KEEP), max_size=5),
    st.sampled_from([dense, mixed]),
)
def test_a_buffer_that_was_loaded_goes_on_like_the_one_saved(capacity, before, after, make):
    buffer, resumed = ReplayBuffer(capacity), ReplayBuffer(capacity)
    resumed.insert((torch.ones(2),))  # to be forgotten
    offered = 0
    for count, keep in before:
        buffer.insert(make(list(range(offered, offered + count))), flag(keep))
        offered += count
    saved = {name: part.clone() for name, part in buffer.state().items()}
    assert all(len(part) == min(offered, capacity) for part in saved.values() if part.ndim)
    resumed.load(saved, like=make([7, 8]))
    assert len(resumed) == len(buffer)
    if before:
        assert drawn(resumed, seed=0) == drawn(buffer, seed=0)
    for step, (count, keep) in enumerate(after):
        for each in (buffer, resumed):
            each.insert(make(list(range(offered, offered + count))), flag(keep))
        offered += count
        assert len(resumed) == len(buffer)
        assert drawn(resumed, seed=step) == drawn(buffer, seed=step)
    assert all(torch.equal(part, resumed.state()[name]) for name, part in buffer.state().items())


def test_a_loaded_state_is_a_copy():
    buffer, other = ReplayBuffer(3), ReplayBuffer(3)
    buffer.insert(torch.ones(2))
    other.load(buffer.state(), like=torch.zeros(1))
    buffer.insert(torch.zeros(3))
    assert other.sample(9).tolist() == [1.0] * 9


def test_a_state_of_another_buffer():
    buffer = ReplayBuffer(4)
    buffer.insert(mixed([1, 2, 3]))
    state = buffer.state()
    like = mixed([1])
    integers = like[1]["n"]
    for wrong, batch, message in [
        ({}, like, "lacks"),
        ({**state, "capacity": torch.tensor(5)}, like, r"of capacity 5, this one has 4.*ReplayBuffer\(5\)"),
        (state, (torch.zeros(1), torch.zeros(1), like[0]), "other dtypes or shapes"),
        (state, (like[0], {"edges": integers, "n": like[1]["edges"]}, None), "other dtypes or shapes"),
        ({**state, "1.values": state["1.values"][..., :1]}, like, "other dtypes or shapes"),
        ({**state, "2": state["2"].float()}, like, "other dtypes or shapes"),
        ({**state, "2": state["2"].unsqueeze(1)}, like, "other dtypes or shapes"),
        ({**state, "2": state["2"][:2]}, like, "damaged.*2, 3"),
        ({**state, "written": torch.tensor(4)}, like, "damaged"),
        ({"capacity": torch.tensor(4), "written": torch.tensor(4)}, like, "other dtypes or shapes"),
    ]:
        other = ReplayBuffer(4)
        other.insert(torch.ones(2))
        with pytest.raises(ValueError, match=message):
            other.load(wrong, like=batch)
        assert other.sample(3).tolist() == [1.0] * 3


def test_bad_settings():
    with pytest.raises(ValueError, match="ReplayBuffer"):
        ReplayBuffer(0)
    buffer = ReplayBuffer(3)
    with pytest.raises(ValueError, match="empty"):
        buffer.sample(1)
    with pytest.raises(ValueError, match=r"Task\.split"):
        buffer.insert(("a graph", torch.zeros(3)))
    with pytest.raises(ValueError, match=r"\[3, 2\]"):
        buffer.insert((torch.zeros(3), torch.zeros(2)))
    for keep in (torch.tensor([True, False]), torch.tensor(1)):
        with pytest.raises(ValueError, match="one boolean"):
            buffer.insert(torch.zeros(2), keep)
    runs = Ragged(torch.zeros(2, 3), torch.tensor([2, 0]))
    buffer.insert((torch.zeros(2, 3), runs, None))
    for rows, message in [
        ((torch.zeros(2, 3), runs), "structure"),
        ((torch.zeros(2, 3), runs, torch.zeros(2)), "structure"),
        ((torch.zeros(2, 4), runs, None), r"tensor 0.*\(4,\)"),
        ((torch.zeros(2, 3).double(), runs, None), "float64"),
        ((runs, runs, None), "any number of rows"),
        ((torch.zeros(2, 3), torch.zeros(2, 3), None), "stores any number of rows.*got one row"),
    ]:
        with pytest.raises(ValueError, match=message):
            buffer.insert(rows)
    assert buffer.sample(4)[0].shape == (4, 3)
