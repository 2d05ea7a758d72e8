"""Checkpoints of an earlier version of the library: they resume, and end with the weights that it ended with."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from energysolve import SGD, EnergyChange, EnergySolver, MLPEnergy, Uniform
from energysolve.baselines import Feedforward
from energysolve.provenance import environment
from energysolve.tasks import Addition
from energysolve.training import (
    CheckpointError,
    Checkpoints,
    ReplayBuffer,
    SupervisedTrainer,
    Trainer,
    Validation,
    make_accelerator,
)

RECORDED = Path(__file__).parents[1] / "recorded"


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def options():
    return {
        "batch_size": 8,
        "generator": torch.Generator().manual_seed(1),
        "accelerator": make_accelerator(cpu=True),
    }


def of_an_energy():
    torch.manual_seed(0)
    task = Addition(4)
    solver = EnergySolver(MLPEnergy(8, 4, z_dim=2, width=8), SGD(3.0), init=task.init, scratchpad=Uniform((2,)))
    tested = solver.replace(halting=EnergyChange(rtol=1e-3), max_steps=10)
    validation = Validation(tested, every=5, problems=8)
    return Trainer(solver, task, replay=ReplayBuffer(40), ema=0.95, validation=validation, **options())


def of_a_model():
    torch.manual_seed(0)
    return SupervisedTrainer(Feedforward(8, (4,), width=8), Addition(4), **options())


def same_machine() -> bool:
    """Whether versions and CPU are those of the recording, so that every bit must agree."""
    recorded, here = json.loads((RECORDED / "answers.json").read_text()), environment()
    kinds = [("versions", "torch"), ("versions", "python"), ("hardware", "cpu")]
    return all(recorded[kind][name] == here[kind][name] for kind, name in kinds)


@pytest.mark.parametrize(("name", "make"), [("energy", of_an_energy), ("supervised", of_a_model)])
def test_a_recorded_checkpoint_resumes_to_the_recorded_weights(tmp_path, name, make):
    folder = RECORDED / f"training-{name}"
    checkpoints = Checkpoints(tmp_path, every=10, keep=5)
    shutil.copy(folder / checkpoints.path(10).name, tmp_path)
    seen = []
    trainer = make()
    trainer.fit(20, lambda progress: seen.append(progress.iteration), checkpoints=checkpoints, resume=True)
    assert seen == list(range(11, 21))
    expected, found = load_file(folder / "end.safetensors"), trainer.trained_model.state_dict()
    assert found.keys() == expected.keys()
    tolerance = 0.0 if same_machine() else 1e-5
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=tolerance, atol=tolerance)


def test_a_checkpoint_of_another_format_version_is_refused_by_name(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    content = (RECORDED / "training-energy" / checkpoints.path(10).name).read_bytes()
    assert content.count(b'"version":"1"') == 1
    checkpoints.path(10).write_bytes(content.replace(b'"version":"1"', b'"version":"7"'))
    refusal = f"{re.escape(str(checkpoints.path(10)))}.*format version '7'.*reads 1"
    with pytest.raises(CheckpointError, match=refusal):
        of_an_energy().fit(20, checkpoints=checkpoints, resume=True)
