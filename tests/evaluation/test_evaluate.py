"""Evaluations: how problems are cut into chunks, floors of ragged rows, and summaries."""

import json

import pytest
import torch

from energysolve import SGD, EnergySolver, MLPEnergy
from energysolve.evaluation.evaluate import Performance, answers_by_step, evaluate
from energysolve.presets import DOMAINS
from energysolve.seeding import stream
from energysolve.tasks import Addition


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
