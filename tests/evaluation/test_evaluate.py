"""Evaluations: how problems are cut into chunks, floors of ragged rows, and summaries."""

import json

import pytest
import torch

from energysolve import SGD, EnergySolver, MLPEnergy, Zeros
from energysolve.evaluation.evaluate import Performance, answers_by_step, evaluate
from energysolve.presets import DOMAINS
from energysolve.seeding import stream
from energysolve.tasks import Addition, Task


def test_evaluation_does_not_depend_on_how_it_is_cut():
    torch.manual_seed(0)
    task = Addition(4)
    solver = EnergySolver(MLPEnergy(8, 4, width=16).double(), SGD(2.0), init=start_at_zero, max_steps=30)
    whole = evaluate(solver, DoubleAddition(task), "same", 23, stream("test", 1))
    cut = evaluate(solver, DoubleAddition(task), "same", 23, stream("test", 1), chunk=7)
    assert cut.error_by_step == pytest.approx(whole.error_by_step, rel=1e-9)
    assert cut.steps == whole.steps


def start_at_zero(x, layout, generator):
    return torch.zeros(layout.rows, 4, dtype=x.dtype)


class DoubleAddition(Addition):
    def __init__(self, task):
        super().__init__(task.size)

    def sample(self, batch, difficulty="same", generator=None, device=None):
        x, target = super().sample(batch, difficulty, generator, device)
        return x.double(), target.double()


def test_errors_that_are_not_finite_survive_as_json():
    evaluation = Performance("same", 1, float("inf"), 0.0, [1], 1.0, 0, error_by_step=[1.0, float("nan")])
    written = json.loads(json.dumps(evaluation.to_json(), allow_nan=False))
    assert written["error"] is None
    assert written["error_by_step"] == [1.0, None]


def test_answers_by_step_ignore_halting():
    solver = EnergySolver.from_pretrained("addition-mlp")
    x, _ = DOMAINS["addition"].task_of(solver).sample(2)
    answers = answers_by_step(solver, x, 7, torch.Generator().manual_seed(0))
    assert len(answers) == 8
    assert not torch.equal(answers[6], answers[7])


class Doubled(Task):
    """On the edges of graphs of different sizes: the answer is twice the weight of the edge."""

    init = Zeros((1,))

    def sample(self, batch, difficulty="same", generator=None, device=None):
        data = pytest.importorskip("torch_geometric.data")
        graphs = []
        for nodes in torch.randint(1, 5, (batch,), generator=generator).tolist():
            pairs = torch.cartesian_prod(torch.arange(nodes), torch.arange(nodes)).T
            weights = torch.rand(nodes * nodes, 1, generator=generator, dtype=torch.float64)
            graphs.append(data.Data(edge_index=pairs, edge_attr=weights, num_nodes=nodes))
        x = data.Batch.from_data_list(graphs)
        owner = x.batch[x.edge_index[0]].double().unsqueeze(1)
        return x, torch.cat([2 * x.edge_attr, owner], 1)  # the graph of an edge is needed to judge it

    def error(self, solution, target):
        owner = target[:, 1].long()
        owner = owner - owner[0]  # of a chunk
        squares = (solution.y[:, :1] - target[:, :1]).square().sum(1)
        return torch.zeros(len(solution.steps), dtype=squares.dtype).index_add(0, owner, squares)

    def split(self, tree):
        from energysolve.graph import split_edges

        return split_edges(tree)

    def merge(self, rows):
        from energysolve.graph import merge_edges

        return merge_edges(rows)


def test_samples_of_different_sizes_are_cut_into_chunks_and_have_floors():
    task = Doubled()
    solver = EnergySolver(lambda x, y: edge_sums(x, (y - 2 * x.edge_attr).square()), SGD(0.5), max_steps=3)
    found = evaluate(solver, task, "same", 7, torch.Generator().manual_seed(0), chunk=3)
    _, target = task.sample(7, generator=torch.Generator().manual_seed(0))
    zero = target[:, 0].square().sum().item() / 7
    assert found.error == pytest.approx(0, abs=1e-20)
    assert len(found.steps) == 7
    assert found.floors["predict zero"] == pytest.approx(zero)
    assert found.error_by_step[0] == pytest.approx(zero)  # the initial answers are zero


def edge_sums(x, values):
    owner = x.batch[x.edge_index[0]]
    return torch.zeros(x.num_graphs, dtype=values.dtype).index_add(0, owner, values.squeeze(1))
