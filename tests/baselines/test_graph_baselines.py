"""Baselines on graphs: torch-geometric's operator, graphs apart, training, saving."""

import pytest
import torch
from torch import nn

from energysolve import Status
from energysolve.baselines import (
    GraphFeedforward,
    GraphIterativeFeedforward,
    GraphPonderNet,
    GraphRecurrent,
    GraphUnrolledFeedforward,
    load,
    save,
)
from energysolve.baselines.graph import GINELayer
from energysolve.layout import layout_of
from energysolve.presets import DOMAINS
from energysolve.tasks import EdgeCopy, ShortestPath
from energysolve.training import SupervisedTrainer

data = pytest.importorskip("torch_geometric.data")
pyg = pytest.importorskip("torch_geometric.nn")
KINDS = [GraphFeedforward, GraphRecurrent, GraphPonderNet, GraphIterativeFeedforward, GraphUnrolledFeedforward]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def made(kind, width=8):
    torch.manual_seed(0)
    return kind(width=width).double()


def problems(count=3):
    x, target = ShortestPath(4).sample(count, generator=seeded())
    x.edge_attr = x.edge_attr.double()
    return x, target.double()


def test_the_layer_is_torch_geometrics():
    torch.manual_seed(0)
    layer, (x, _) = GINELayer(5, 8, 1).double(), problems()
    theirs = pyg.GINEConv(layer.nodes, edge_dim=8).double()
    theirs.lin.load_state_dict(layer.project.state_dict())
    features = torch.rand(x.num_nodes, 5, dtype=torch.float64)
    expected = theirs(features, x.edge_index, layer.edges(x.edge_attr))
    torch.testing.assert_close(layer(features, x.edge_index, x.edge_attr), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_graphs_do_not_mix(kind):
    """Each graph of a batch is answered as alone, from the same random numbers."""
    model, (x, target) = made(kind), problems()
    whole = model.iterates(x, 3, generator=seeded(1))
    assert [y.shape for y in whole] == [target.shape] * 3
    assert torch.equal(model.solve(x, 3, generator=seeded(1)).y, whole[-1])
    rows = layout_of(x).index == 0  # the first graph gets the same random numbers alone
    alone = data.Batch.from_data_list(x.to_data_list()[:1])
    if kind is not GraphPonderNet:  # which draws one for each graph at each step
        torch.testing.assert_close(model.iterates(alone, 3, generator=seeded(1))[-1], whole[-1][rows])


@pytest.mark.parametrize("kind", KINDS)
def test_they_learn(kind):
    """On graphs of two and three nodes, the answer is better than zero after a few iterations."""
    torch.manual_seed(0)
    model, task = kind(width=32), ShortestPath(3)
    SupervisedTrainer(model, task, batch_size=32, lr=5e-3).fit(60)
    x, target = task.sample(100, generator=seeded(5))
    error = task.error(model.solve(x, generator=seeded(6)), target).mean()
    assert error < 0.8 * target.square().mean()


def test_a_ponder_net_halts_graph_by_graph():
    model, (x, _) = made(GraphPonderNet), problems(6)
    with torch.no_grad():
        model.halt.bias.zero_()
        model.halt.weight.zero_()
    solution = model.solve(x, 20, generator=seeded(4))
    assert len(solution.steps.unique()) > 1
    assert (solution.status == Status.CONVERGED).all()
    later = model.iterates(x, 20, generator=seeded(4))
    torch.testing.assert_close(solution.y, later[-1])
    certain = made(GraphPonderNet)
    nn.init.constant_(certain.halt.bias, 100.0)
    assert certain.solve(x, 5, generator=seeded()).steps.tolist() == [1] * 6


def test_a_feedforward_network_takes_one_step():
    model, (x, _) = made(GraphFeedforward), problems()
    assert model.solve(x, 7).steps.tolist() == [1, 1, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded(kind, tmp_path):
    model, (x, _) = made(kind), problems()
    save(model, tmp_path)
    again = load(tmp_path)
    assert again.config() == model.config()
    assert torch.equal(again.solve(x, generator=seeded()).y, model.solve(x, generator=seeded()).y)


def test_every_domain_on_graphs_has_them():
    for name in ("edge-copy", "components", "shortest-path"):
        domain = DOMAINS[name]
        assert set(domain.methods) == set(domain.paper) == {"irem", *domain.baselines}
        assert set(domain.baselines.values()) == set(KINDS)
        assert domain.task_for(GraphRecurrent(width=4)) == domain.task(10)


def test_targets_of_another_shape_are_rejected():
    x, target = EdgeCopy(3).sample(2, generator=seeded())
    with pytest.raises(ValueError, match=r"targets of shape \(\d+, 1\), one for each edge; got \(\d+,\)"):
        GraphFeedforward(width=4).loss(x, target.squeeze(1))
    with pytest.raises(ValueError, match=r"prior in \(0, 1\)"):
        GraphPonderNet(prior=1.0)
