"""Batches of graphs taken apart, put together, stored and drawn."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from energysolve import SGD, EnergySolver, Never, Uniform
from energysolve.layout import layout_of
from energysolve.ragged import Ragged, rows_cat
from energysolve.tasks.base import Task
from energysolve.training.replay import ReplayBuffer

data = pytest.importorskip("torch_geometric.data")
graph = pytest.importorskip("energysolve.graph")

SIZES = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 6)), min_size=1, max_size=6)


def graphs(sizes, seed=0, nodes=True, stated=True, more=True):
    """Graphs with attributes of every kind."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for size, edges in sizes:
        one = data.Data(edge_index=torch.randint(size, (2, edges), generator=generator))
        one.edge_attr = torch.rand(edges, 1, generator=generator)
        if nodes:
            one.x = torch.rand(size, 2, 3, generator=generator)
        if stated or not nodes:
            one.num_nodes = size
        if more:
            one.label = torch.randint(5, (1,), generator=generator)
            one.cost = float(torch.rand((), generator=generator))
            one.root_index = torch.randint(size, (1,), generator=generator)
            one.odd = torch.rand(edges // 2, generator=generator)
        found.append(one)
    return found


def same_graph(one, other):
    assert set(one.keys()) == set(other.keys())
    for name in one.keys():  # noqa: SIM118
        if name == "num_nodes":
            assert one[name] == other[name]
        else:
            assert one[name].dtype == other[name].dtype
            assert torch.equal(one[name], other[name])


def same_batch(one, other):
    same_graph(one, other)
    assert type(one) is type(other)
    assert one.num_graphs == other.num_graphs
    assert list(one._store.keys()) == list(other._store.keys())
    for records in ("_slice_dict", "_inc_dict"):
        ours, theirs = getattr(one, records), getattr(other, records)
        assert list(ours) == list(theirs)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    for mine, yours in zip(one.to_data_list(), other.to_data_list(), strict=True):
        same_graph(mine, yours)


@given(SIZES, st.booleans(), st.booleans(), st.booleans(), st.data())
def test_round_trip_and_selection(sizes, nodes, stated, more, draw):
    alone = graphs(sizes, nodes=nodes, stated=stated, more=more)
    batch = data.Batch.from_data_list(alone)
    same_batch(graph.merge_graphs(graph.split_graphs(batch)), batch)
    chosen = draw.draw(st.lists(st.integers(0, len(sizes) - 1), min_size=1, max_size=8))
    selected = graph.select_graphs(batch, torch.tensor(chosen))
    same_batch(selected, data.Batch.from_data_list([alone[i] for i in chosen]))
    same_batch(graph.select_graphs(selected, slice(0, 1)), data.Batch.from_data_list([alone[chosen[0]]]))


@given(SIZES, st.booleans())
def test_a_batch_made_by_hand_is_split_like_one_of_a_list(sizes, with_ptr):
    """Without torch-geometric's record, sizes and names tell what an attribute belongs to."""
    listed = data.Batch.from_data_list(graphs(sizes, stated=False, more=False))
    listed.edge_label = torch.rand(listed.num_edges)
    listed.state = torch.rand(listed.num_nodes)
    made = data.Batch(**{name: listed[name] for name in listed._store if with_ptr or name != "ptr"})
    assert not hasattr(made, "_slice_dict")
    ours, theirs = graph.merge_graphs(graph.split_graphs(made)), graph.merge_graphs(graph.split_graphs(listed))
    assert torch.equal(ours.ptr, listed.ptr)
    assert all(torch.equal(ours[name], listed[name]) for name in listed._store)
    for one, other, mine in zip(ours.to_data_list(), theirs.to_data_list(), listed.to_data_list(), strict=True):
        same_graph(one, other)
        assert len(one.edge_label) == mine.edge_index.shape[1]
        assert len(one.state) == len(mine.x)


def test_attributes_in_a_batch_made_by_hand_are_known_by_their_sizes():
    batch = data.Batch(edge_index=torch.tensor([[0, 2, 3], [1, 3, 2]]), batch=torch.tensor([0, 0, 1, 1]))
    batch.label, batch.weight, batch.state = torch.arange(2), torch.arange(3), torch.arange(4)
    rows = graph.split_graphs(batch)["attributes"]
    assert rows["weight"].lengths.tolist() == [1, 2]
    assert rows["state"].lengths.tolist() == [2, 2]
    assert rows["label"].lengths.tolist() == [1, 1]
    assert rows["edge_index"].lengths.tolist() == [1, 2]
    assert rows["edge_index"].values.tolist() == [[0, 1], [0, 1], [1, 0]]


def test_a_record_that_no_longer_fits_is_not_believed():
    batch = data.Batch.from_data_list(graphs([(2, 3), (3, 3)], more=False))
    batch.edge_index, batch.edge_attr = batch.edge_index[:, 1:], batch.edge_attr[1:]
    merged = graph.merge_graphs(graph.split_graphs(batch))
    assert [one.num_edges for one in merged.to_data_list()] == [2, 3]
    assert torch.equal(merged.edge_attr, batch.edge_attr)


def test_batches_that_cannot_be_split():
    good = graphs([(2, 3), (3, 4)], more=False)
    batch = data.Batch.from_data_list(good)

    def changed(**attributes):
        other = data.Batch.from_data_list(good)
        for name, value in attributes.items():
            other[name] = value
        return other

    hetero = data.HeteroData()
    hetero["node"].x = torch.zeros(2, 1)
    alone = data.Data(x=torch.zeros(2, 1))
    other = type("Other", (data.Data,), {})(x=torch.zeros(1, 1), edge_index=torch.zeros(2, 1).long())
    for wrong, message in [
        (data.Batch.from_data_list([hetero]), "Expected a Batch of torch_geometric.data.Data"),
        (data.Batch.from_data_list([other]), "Expected a Batch of torch_geometric.data.Data"),
        (data.Batch.from_data_list([alone]), "edge_index"),
        (changed(edge_index=batch.edge_index.flip(1)), "edges of the batch must be sorted"),
        (changed(batch=batch.batch.flip(0)), "nodes of the batch must be sorted"),
        (changed(names=["a", "b"]), "'names'.*dense tensor"),
        (changed(scale=torch.tensor(1.0)), "'scale'"),
        (changed(other=torch.zeros(6)), "'other' of the batch has 6 rows"),
        (data.Batch.from_data_list(good, follow_batch=["x"]), "'x_batch'"),
    ]:
        with pytest.raises(ValueError, match=message):
            graph.split_graphs(wrong)
    for wrong in (torch.zeros(6, 1), torch.tensor(0.0), "y"):
        with pytest.raises(ValueError, match="each of the 7 edges"):
            graph.split_edges((batch, wrong))


class Copy(Task):
    """Copy the values of the edges: graphs of 2 to 5 nodes, complete."""

    init = Uniform((1,))

    def sample(self, batch, difficulty="same", generator=None, device=None):
        sizes = torch.randint(2, 6, (batch,), generator=generator).tolist()
        found = []
        for size in sizes:
            index = torch.cartesian_prod(torch.arange(size), torch.arange(size)).T
            found.append(data.Data(edge_index=index, edge_attr=torch.rand(size**2, 1, generator=generator)))
            found[-1].num_nodes = size
        x = data.Batch.from_data_list(found)
        return x, 2 * x.edge_attr

    def error(self, solution, target):
        return solution.energy

    def split(self, tree):
        return graph.split_edges(tree)

    def merge(self, rows):
        return graph.merge_edges(rows)


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, x, y):
        return self.scale * layout_of(x).sum((y - x.edge_attr).square())


@settings(max_examples=30)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.booleans(), st.integers(0, 99))
def test_problems_targets_and_answers_stay_together(batches, scratchpad, seed):
    """Targets are twice, answers three times, scratchpads four times the values of the edges, by construction."""
    task, buffer, generator = Copy(), ReplayBuffer(8), torch.Generator().manual_seed(seed)
    seen = {}
    for batch in batches:
        x, target = task.sample(batch, generator=generator)
        z = {"pad": 4 * x.edge_attr} if scratchpad else None
        new = task.split((x, target, 3 * x.edge_attr, z))
        merged = task.merge(new)
        same_batch(merged[0], x)
        seen |= {float(one.edge_attr[0]): one for one in x.to_data_list()}
        buffer.insert(new, torch.tensor(True))
        x, target, y, z = task.merge(rows_cat(new, buffer.sample(6, generator)))
        assert x.num_graphs == batch + 6
        for one in x.to_data_list():
            same_graph(one, seen[float(one.edge_attr[0])])
        assert torch.equal(target, 2 * x.edge_attr)
        assert torch.equal(y, 3 * x.edge_attr)
        assert torch.equal(z["pad"], 4 * x.edge_attr) if scratchpad else z is None


def test_a_drawn_batch_is_a_problem_like_any_other():
    task, buffer, generator = Copy(), ReplayBuffer(16), torch.Generator().manual_seed(0)
    solver = EnergySolver(Scaled(), SGD(0.1), init=task.init, halting=Never(), max_steps=3)
    for _ in range(3):
        x, target = task.sample(4, generator=generator)
        solution = solver.minimize(x, generator=generator)
        buffer.insert(task.split((x, target, solution.y, solution.z)))
    x, _, y, z = task.merge(buffer.sample(5, generator))
    assert z is None
    further = solver.minimize(x, y)
    first = solver.minimize(x, y, max_steps=0)
    assert (further.energy < first.energy).all()
    # The same numbers as the graphs have alone.
    for one, energy in zip(x.to_data_list(), first.energy, strict=True):
        alone = data.Batch.from_data_list([one])
        rows = (x.edge_attr == one.edge_attr[0]).squeeze(1).nonzero()[0, 0]
        start = y[rows : rows + one.num_edges]
        torch.testing.assert_close(solver.minimize(alone, start, max_steps=0).energy[0], energy)


def test_a_single_leaf_is_a_run_of_edges():
    x, target = Copy().sample(3, generator=torch.Generator().manual_seed(0))
    rows = graph.split_edges((x, target))
    assert isinstance(rows[1], Ragged)
    assert rows[1].lengths.tolist() == [one.num_edges for one in x.to_data_list()]
