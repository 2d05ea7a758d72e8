"""Evaluations as tables."""

from energysolve import SGD, EnergySolver, MLPEnergy, Uniform
from energysolve.evaluation.evaluate import evaluate, step_edges
from energysolve.evaluation.report import comparison, milestones
from energysolve.seeding import stream
from energysolve.tasks import Addition


def test_milestones_and_bins():
    assert milestones(0) == [0]
    assert milestones(1) == [0, 1]
    assert milestones(7) == [0, 1, 2, 5, 7]
    assert milestones(100) == [0, 1, 2, 5, 10, 20, 50, 100]
    assert milestones(300)[-3:] == [100, 200, 300]

    solver = EnergySolver(MLPEnergy(4, 2, width=4), SGD(1.0), init=Uniform((2,)), max_steps=9)
    evaluations = [evaluate(solver, Addition(2), name, 30, stream("test", 0)) for name in ("same", "harder")]
    edges = step_edges(evaluations, bins=4)
    steps = [step for each in evaluations for step in each.steps]
    assert len(edges) <= 5
    assert edges[0] <= min(steps) <= max(steps) < edges[-1]
    assert len(comparison(evaluations)) == 1
