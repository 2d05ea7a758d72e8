"""Graph tasks, against SciPy's graph algorithms and closed forms."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components, floyd_warshall

from energysolve import Solution
from energysolve.tasks import Components, EdgeCopy, ShortestPath

pytest.importorskip("torch_geometric")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def matrices(x, values):
    """The matrix of each graph of a batch, from the values of its edges."""
    owner = x.batch[x.edge_index[0]]
    for number, graph in enumerate(x.to_data_list()):
        matrix = np.full((graph.num_nodes, graph.num_nodes), np.nan)
        matrix[tuple(graph.edge_index.numpy())] = values[owner == number, 0].numpy()
        assert not np.isnan(matrix).any()  # complete, and the edges of a graph belong to it
        yield matrix


@given(st.integers(1, 12), st.integers(0, 1000), st.booleans())
def test_distances_are_scipys(size, seed, symmetric):
    x, target = ShortestPath(size, symmetric=symmetric).sample(5, generator=seeded(seed))
    for lengths, found in zip(matrices(x, x.edge_attr), matrices(x, target), strict=True):
        np.testing.assert_allclose(found, floyd_warshall(lengths), rtol=1e-6)
        assert (lengths.diagonal() == 0).all()
        assert not symmetric or (lengths == lengths.T).all()


@given(st.integers(1, 25), st.integers(0, 1000), st.sampled_from([0.0, 0.02, 0.05, 0.2, 1.0]))
def test_components_are_scipys(size, seed, probability):
    x, target = Components(size, probability).sample(5, generator=seeded(seed))
    for edges, found in zip(matrices(x, x.edge_attr), matrices(x, target), strict=True):
        _, label = connected_components(edges, directed=False)
        np.testing.assert_array_equal(found, label[:, None] == label)


def test_edge_copy_repeats_the_edges():
    x, target = EdgeCopy().sample(20, "larger", seeded())
    assert torch.equal(target, x.edge_attr)
    assert target.abs().max() < 1
    assert x.num_nodes == 20 * 15


@pytest.mark.parametrize("task", [EdgeCopy(), Components(), ShortestPath()])
def test_sizes(task):
    sizes = torch.bincount(task.sample(3000, generator=seeded())[0].batch)
    assert sorted(sizes.unique().tolist()) == list(range(2, 11))
    counts = torch.bincount(sizes)[2:]
    assert (counts - 3000 / 9).abs().max() < 5 * (3000 / 9) ** 0.5  # uniform
    for difficulty, nodes in (("same", 10), ("larger", 15)):
        assert torch.bincount(task.sample(4, difficulty, seeded())[0].batch).tolist() == [nodes] * 4
    assert torch.bincount(type(task)(30).sample(2, "larger", seeded())[0].batch).tolist() == [45, 45]
    with pytest.raises(ValueError, match="has no difficulty 'harder'; it has 'same', 'larger'"):
        task.sample(1, "harder")


def test_edges_as_the_release_draws_them():
    """A + A' with A uniform has mean 1 and variance 1/6 off the diagonal; uniform edges 1/2 and 1/12."""
    for symmetric, mean, variance in ((True, 1, 1 / 6), (False, 1 / 2, 1 / 12)):
        x, _ = ShortestPath(symmetric=symmetric).sample(2000, "same", seeded())
        off = x.edge_attr[x.edge_index[0] != x.edge_index[1]]
        assert off.mean().item() == pytest.approx(mean, abs=0.01)
        assert off.var().item() == pytest.approx(variance, rel=0.02)
    assert Components().sample(2000, "same", seeded())[0].edge_attr.mean().item() == pytest.approx(0.05, abs=0.002)


def test_floors():
    """The floors of the components are those of an independent simulation with dense matrices."""
    x, target = Components().sample(2000, "same", seeded())
    floors = {name: error.mean().item() for name, error in Components().floors("same", x, target).items()}
    random = np.random.default_rng(0)
    edges = random.random((2000, 10, 10)) < 0.05
    alike = np.array([(label := connected_components(each, directed=False)[1])[:, None] == label for each in edges])
    assert floors["predict zero"] == pytest.approx(alike.mean(), rel=0.05)
    guess = edges | edges.transpose(0, 2, 1) | np.eye(10, dtype=bool)
    assert floors["edges"] == pytest.approx((guess != alike).mean(), rel=0.08)
    x, target = ShortestPath().sample(3, "same", seeded())
    floors = ShortestPath().floors("same", x, target)
    square = (x.edge_attr - target).square().view(3, 100).mean(1)
    torch.testing.assert_close(floors["edge"], square)


def test_the_error_is_a_mean_over_the_edges_of_each_graph():
    task = EdgeCopy(3)
    x, target = task.sample(6, generator=seeded(1))
    error = torch.arange(1.0, 7.0)
    y = target + error[x.batch[x.edge_index[0]]].sqrt().unsqueeze(1)
    torch.testing.assert_close(task.error_of(y, x, target), error)
    with pytest.raises(ValueError, match=r"layout=task\.layout"):
        task.error(Solution.of_answers(y), target)


def test_the_same_generator_draws_the_same_graphs():
    for task in (EdgeCopy(), Components(), ShortestPath()):
        one, other = (task.sample(5, generator=seeded(3)) for _ in range(2))
        assert torch.equal(one[0].edge_attr, other[0].edge_attr)
        assert torch.equal(one[1], other[1])


@pytest.mark.parametrize(
    ("make", "message"),
    [(lambda: EdgeCopy(0), "size"), (lambda: Components(5, 1.5), r"probability in \[0, 1\], got 1.5")],
)
def test_arguments_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()
