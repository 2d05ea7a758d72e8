"""Checkpoints: complete, atomic, pruned, and honest about damage; a run that resumes ends as if never interrupted."""

import contextlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from energysolve import SGD, EnergyChange, EnergySolver, MLPEnergy, Truncated, Uniform
from energysolve.tasks import Addition
from energysolve.training import (
    Callback,
    CheckpointError,
    Checkpoints,
    Constant,
    Cosine,
    OneCycle,
    ReplayBuffer,
    Trainer,
    TrainingConfig,
    Validation,
)
from energysolve.training.checkpoints import decode, encode

SCHEDULES = [Constant(), OneCycle(0.2), Cosine(3)]


class InterruptedRunError(Exception):
    pass


def trainer(**changes) -> Trainer:
    torch.manual_seed(0)
    task = Addition(4)
    energy = MLPEnergy(8, 4, width=12, z_dim=2)
    solver = EnergySolver(energy, SGD(3.0), init=task.init, scratchpad=Uniform((2,)))
    tested = solver.replace(halting=EnergyChange(rtol=1e-3), max_steps=8)
    options = {
        "replay": ReplayBuffer(60),
        "batch_size": 8,
        "ema": 0.9,
        "validation": Validation(tested, every=4, problems=8, early_stopping=100),
        "generator": torch.Generator().manual_seed(1),
    }
    return Trainer(solver, task, **(options | changes))


def weights(of: Trainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for energy in (of.model, of.trained_model) for p in energy.parameters()])


def interrupt(at: int):
    def check(progress):
        if progress.iteration == at:
            raise InterruptedRunError

    return check


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_a_run_that_was_interrupted_ends_as_if_it_never_was(tmp_path_factory, data):
    schedule = data.draw(st.sampled_from(SCHEDULES))
    moments = data.draw(st.lists(st.integers(1, 30), max_size=4).map(sorted))
    checkpoints = Checkpoints(tmp_path_factory.mktemp("run"), every=data.draw(st.integers(1, 7)))
    whole = trainer(schedule=schedule, accumulate=2)
    whole.fit(30)
    for moment in moments:
        with contextlib.suppress(InterruptedRunError):
            trainer(schedule=schedule, accumulate=2).fit(30, interrupt(moment), checkpoints=checkpoints, resume=True)
    resumed = trainer(schedule=schedule, accumulate=2)
    resumed.fit(30, checkpoints=checkpoints, resume=True)
    assert torch.equal(weights(whole), weights(resumed))
    assert whole.best == resumed.best


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    checkpoints = Checkpoints(tmp_path, every=100)
    first = trainer()
    first.fit(10, checkpoints=checkpoints)
    seen = []
    again = trainer()
    again.fit(10, seen.append, checkpoints=checkpoints, resume=True)
    assert not seen
    assert torch.equal(weights(first), weights(again))


def test_only_some_checkpoints_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path / "new", every=2, keep=2)
    assert checkpoints.latest() is None
    for iteration in range(2, 12, 2):
        checkpoints.save(iteration, {"a": torch.ones(2)}, {}, best=4 if iteration >= 4 else None)
    assert checkpoints.iterations() == [4, 8, 10]
    assert checkpoints.latest() == checkpoints.path(10)
    assert [iteration for iteration in range(1, 8) if checkpoints.due(iteration, 7)] == [2, 4, 6, 7]


@given(st.integers(0, 10_000), st.sampled_from(["cut", "changed"]))
def test_damage_is_recognized(place, how):
    content = bytearray(encode({"a": torch.arange(40.0), "b": torch.tensor(3)}, {"iteration": 7}))
    tensors, state = decode(bytes(content))
    assert state == {"iteration": 7}
    assert torch.equal(tensors["a"], torch.arange(40.0))
    place %= len(content)
    if how == "cut":
        del content[place:]
    else:
        content[place] ^= 1
    with pytest.raises(ValueError, match=r"cut short|checksum|version"):
        decode(bytes(content))


def test_a_checkpoint_that_was_cut_short_names_the_one_before(tmp_path):
    checkpoints = Checkpoints(tmp_path, every=5)
    whole = trainer()
    whole.fit(10, checkpoints=checkpoints)
    content = checkpoints.path(10).read_bytes()
    checkpoints.path(10).write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=r"iteration-00000010.*cut short.*Delete it.*iteration-00000005"):
        trainer().fit(10, checkpoints=checkpoints, resume=True)
    checkpoints.path(10).unlink()
    resumed = trainer()
    resumed.fit(10, checkpoints=checkpoints, resume=True)
    assert torch.equal(weights(whole), weights(resumed))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lr": 0.5}, r"other settings: lr \(then 0.001, now 0.5\)"),
        ({"replay": ReplayBuffer(61)}, "replay"),
        ({"ema": None}, "ema"),
        ({"differentiation": Truncated(2)}, "differentiation"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_another_run_is_not_resumed(tmp_path, changes, words):
    checkpoints = Checkpoints(tmp_path)
    trainer().fit(4, checkpoints=checkpoints)
    with pytest.raises(CheckpointError, match=words):
        trainer(**changes).fit(4, checkpoints=checkpoints, resume=True)
    with pytest.raises(CheckpointError, match="iterations"):
        trainer().fit(3, checkpoints=checkpoints, resume=True)


def test_another_energy_is_not_resumed(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    trainer(validation=None).fit(4, checkpoints=checkpoints)
    task = Addition(4)
    wider = EnergySolver(MLPEnergy(8, 4, width=13, z_dim=2), SGD(3.0), init=task.init, scratchpad=Uniform((2,)))
    with pytest.raises(CheckpointError, match=r"does not fit this run.*size mismatch"):
        Trainer(wider, task, replay=ReplayBuffer(60), batch_size=8, ema=0.9).fit(
            4, checkpoints=checkpoints, resume=True
        )


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("in the way")
    first = trainer()
    with pytest.raises(CheckpointError, match=r"Cannot write the checkpoint .*There is no earlier checkpoint"):
        first.fit(3, checkpoints=Checkpoints(tmp_path / "file" / "checkpoints", every=1))
    assert first.iteration == 1


FULL = """
import resource, signal, sys
sys.path.insert(0, TESTS)
from test_checkpoints import *

folder = Path(FOLDER)
trainer().fit(4, checkpoints=Checkpoints(folder, every=2))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing past the limit fails, as on a full disk
size = Checkpoints(folder).path(4).stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))
try:
    trainer().fit(8, checkpoints=Checkpoints(folder, every=6), resume=True)
except CheckpointError as error:
    print(error)
"""


def test_a_full_disk(tmp_path):
    """By a limit on the size of files, which fails in the same place."""
    program = FULL.replace("TESTS", repr(str(Path(__file__).parent))).replace("FOLDER", repr(str(tmp_path)))
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=200)
    assert "Cannot write the checkpoint" in finished.stdout
    assert f"{Checkpoints(tmp_path).path(4)}, is intact" in finished.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "iteration-00000002.safetensors",
        "iteration-00000004.safetensors",
    ]
    Checkpoints(tmp_path).load(Checkpoints(tmp_path).path(4))


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path):
    """20 times by SIGKILL, some of them while a checkpoint is being written, and resumed each time."""
    seed = random.SystemRandom().randrange(10_000)
    program = Path(__file__).with_name("run_killed.py")
    finished = subprocess.run(
        [sys.executable, str(program), str(tmp_path), "20", str(seed)],
        capture_output=True,
        text=True,
        timeout=500,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout.splitlines()[-1])
    assert found["equal"], (seed, found)
    assert len(found["killed"]) == 20
    assert found["while writing"] > 0, found
    assert len(set(found["killed"])) > 3, found


def test_settings_as_json():
    config = TrainingConfig(
        lr=3e-4, betas=(0.8, 0.99), schedule=Cosine(5), differentiation=Truncated(3), ema=0.99, precision="bf16"
    )
    plain = json.loads(json.dumps(config.to_json()))
    assert TrainingConfig.from_json(plain) == config
    assert "lr = 0.0003" in str(config)
    with pytest.raises(ValueError, match="Unknown type 'Steep'"):
        TrainingConfig.from_json(plain | {"schedule": {"type": "Steep"}})
    with pytest.raises(TypeError, match="no setting colour"):
        TrainingConfig.from_json(plain | {"colour": 3})
    with pytest.raises(TypeError, match=r"(?s)schedule.*Truncated"):
        TrainingConfig.from_json(plain | {"schedule": plain["differentiation"]})


def test_callbacks_hear_of_everything(tmp_path):
    class Log(Callback):
        def __init__(self):
            self.heard = []

        def on_start(self, iteration, iterations):
            self.heard.append(("start", iteration, iterations))

        def on_iteration(self, progress):
            self.heard.append(("iteration", progress.iteration))

        def on_validation(self, validated):
            self.heard.append(("validation", validated.iteration))

        def on_checkpoint(self, path):
            self.heard.append(("checkpoint", path.name))

    log = Log()
    trainer().fit(5, callbacks=[log, Callback()], checkpoints=Checkpoints(tmp_path, every=3))
    assert log.heard == [
        ("start", 0, 5),
        *(("iteration", n) for n in (1, 2, 3)),
        ("checkpoint", "iteration-00000003.safetensors"),
        ("iteration", 4),
        ("validation", 4),
        ("iteration", 5),
        ("checkpoint", "iteration-00000005.safetensors"),
    ]
