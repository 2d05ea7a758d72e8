"""A folder belongs to one run: others are refused, an interrupted one continues, a finished one is prolonged."""

import re
import signal

import pytest
import torch
from torch import nn

from energysolve import SGD, Energy, EnergyChange, EnergySolver, MLPEnergy
from energysolve.tasks import Addition
from energysolve.training import (
    CheckpointError,
    Checkpoints,
    Constant,
    Cosine,
    OneCycle,
    ReplayBuffer,
    Trainer,
    Validation,
)


@pytest.fixture(autouse=True)
def interrupts():
    """Shells let what they start in the background ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def make(energy=None, task=None, weight_seed=0, seed=1, step_size=3.0, **options) -> Trainer:
    torch.manual_seed(weight_seed)
    task = task or Addition(3)
    solver = EnergySolver(energy or MLPEnergy(6, 3, width=8), SGD(step_size), init=task.init)
    options = {"replay": ReplayBuffer(40), "batch_size": 8, "ema": 0.9} | options
    return Trainer(solver, task, generator=torch.Generator().manual_seed(seed), **options)


def weights(of: Trainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for energy in (of.model, of.trained_model) for p in energy.parameters()])


def test_a_folder_of_another_run_is_refused_or_cleared(tmp_path):
    checkpoints = Checkpoints(tmp_path, every=4, keep=2)
    make().fit(12, checkpoints=checkpoints)
    kept = {number: checkpoints.path(number).read_bytes() for number in checkpoints.iterations()}
    other = make(weight_seed=5, seed=6)
    with pytest.raises(CheckpointError, match=r"checkpoints of another run.*iteration 12.*resume=True.*overwrite=True"):
        other.fit(6, checkpoints=checkpoints)
    assert {number: checkpoints.path(number).read_bytes() for number in checkpoints.iterations()} == kept
    assert other.iteration == 0
    other.fit(6, checkpoints=checkpoints, overwrite=True)
    assert checkpoints.iterations() == [4, 6]
    expected = make(weight_seed=5, seed=6)
    expected.fit(6)
    assert torch.equal(weights(other), weights(expected))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"resume": True, "overwrite": True}, "choose one"),
        ({"resume": True}, r"resume=True needs the folder.*Checkpoints\(folder\)"),
        ({"overwrite": True}, r"overwrite=True needs the folder"),
    ],
)
def test_options_that_contradict_each_other(options, words):
    with pytest.raises(ValueError, match=words):
        make().fit(1, **options)


def validation(solver_steps=5):
    solver = EnergySolver(MLPEnergy(6, 3, width=8), SGD(3.0), halting=EnergyChange(rtol=1e-3), max_steps=solver_steps)
    return Validation(solver, every=2, problems=4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weight_seed": 4}, "started from other weights"),
        ({"seed": 4}, "started from other random numbers"),
        ({"weight_seed": 4, "seed": 4}, "other weights and other random numbers"),
        ({"step_size": 2.0}, r"optimizer \(then 'SGD\(lr=3.0\)', now 'SGD\(lr=2.0\)'\)"),
        ({"validation": validation(6)}, r"validation .*max_steps=5.*max_steps=6"),
    ],
    ids=["weights", "seed", "both", "step size", "validation"],
)
def test_another_run_is_not_continued(tmp_path, changes, words):
    checkpoints = Checkpoints(tmp_path)
    usual = {"validation": validation()}
    make(**usual).fit(4, checkpoints=checkpoints)
    with pytest.raises(CheckpointError, match=words):
        make(**(usual | changes)).fit(6, checkpoints=checkpoints, resume=True)


class Sums(Addition):
    """Addition of numbers from a table: tasks of one class that differ in what they hold."""

    def __init__(self, table):
        super().__init__(3)
        object.__setattr__(self, "table", table)


def test_another_task_is_not_continued(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    make(task=Sums(torch.arange(5.0))).fit(4, checkpoints=checkpoints)
    for other in (Sums(torch.arange(1, 6.0)), Sums(torch.zeros(4)), Addition(3)):
        with pytest.raises(CheckpointError, match=r"task \(then .*Sums.*, now "):
            make(task=other).fit(6, checkpoints=checkpoints, resume=True)
    make(task=Sums(torch.arange(5.0))).fit(6, checkpoints=checkpoints, resume=True)


def test_a_start_that_no_seed_determines(tmp_path):
    make().fit(4, checkpoints=Checkpoints(tmp_path))
    resumed, whole = make(weight_seed=3, schedule=OneCycle()), make()
    resumed.fit(4, checkpoints=Checkpoints(tmp_path, same_start=False), resume=True)
    whole.fit(4)
    assert torch.equal(weights(whole), weights(resumed))


def test_a_model_trained_by_the_run_itself_continues_it(tmp_path):
    """As in a notebook, where a cell makes a trainer of the same model again after an interruption."""
    checkpoints = Checkpoints(tmp_path, every=3)
    energy = MLPEnergy(6, 3, width=8)
    energy.load_state_dict(make().model.state_dict())
    with pytest.raises(KeyboardInterrupt):
        make(energy=energy).fit(10, ctrl_c_at(7), checkpoints=checkpoints)
    again = make(energy=energy)
    again.fit(10, checkpoints=checkpoints, resume=True)
    whole = make()
    whole.fit(10)
    assert torch.equal(weights(whole), weights(again))


def ctrl_c_at(*iterations):
    def interrupt(progress):
        if progress.iteration in iterations:
            signal.raise_signal(signal.SIGINT)

    return interrupt


@pytest.mark.parametrize("at", [5, 6, 12])
def test_ctrl_c_ends_with_a_checkpoint_and_one_line(tmp_path, at):
    """At any iteration, whether a checkpoint is due there (6, the last) or not."""
    checkpoints = Checkpoints(tmp_path, every=6)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as stopped:
        make().fit(12, ctrl_c_at(at), checkpoints=checkpoints)
    assert str(stopped.value) == (
        f"Interrupted after {at} of 12 iterations; resume=True (--resume) continues from {checkpoints.path(at)}."
    )
    assert signal.getsignal(signal.SIGINT) is handler
    assert checkpoints.latest() == checkpoints.path(at)
    resumed, whole, seen = make(), make(), []
    resumed.fit(12, lambda progress: seen.append(progress.iteration), checkpoints=checkpoints, resume=True)
    whole.fit(12)
    assert seen == [*range(at + 1, 13)]
    assert torch.equal(weights(whole), weights(resumed))


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    def twice(progress):
        ctrl_c_at(5)(progress)
        ctrl_c_at(5)(progress)

    with pytest.raises(KeyboardInterrupt, match=r"Interrupted after 5 of 9 iterations; .*continues from .*00000004"):
        make().fit(9, twice, checkpoints=Checkpoints(tmp_path, every=4))
    with pytest.raises(KeyboardInterrupt, match=r"after 5 of 9 iterations; there is no checkpoint.*pass checkpoints="):
        make().fit(9, ctrl_c_at(5))


def test_where_a_run_is_resumed_is_logged(tmp_path, caplog):
    checkpoints = Checkpoints(tmp_path, every=4)
    make().fit(4, checkpoints=checkpoints, resume=True)
    assert f"There is no checkpoint in {tmp_path}: a new run starts." in caplog.text
    make().fit(4, checkpoints=checkpoints, resume=True)
    line = f"Resumed from {checkpoints.path(4)} after iteration 4 of 4; nothing is left to do."
    assert [record.message for record in caplog.records][1:] == [line]


def test_progress_is_shown(tmp_path, capsys, caplog):
    checkpoints = Checkpoints(tmp_path, every=4)
    make(validation=validation()).fit(4, checkpoints=checkpoints, progress=True)
    make(validation=validation()).fit(6, checkpoints=checkpoints, resume=True, progress=True)
    shown = capsys.readouterr().out
    assert f"Resumed from {checkpoints.path(4)} after iteration 4 of 6." in shown
    assert re.search(r"  2  same: error .*, energy .* -> .*, .* steps;  harder", shown)
    assert re.search(r"training .*4/4 loss \d\.\d\de", shown)
    assert not caplog.records


@pytest.mark.parametrize("done", [6, 4], ids=["finished", "interrupted"])
def test_a_run_of_constant_learning_rate_is_prolonged_as_if_planned(tmp_path, done):
    checkpoints = Checkpoints(tmp_path, every=2)
    make(schedule=Constant()).fit(6, checkpoints=checkpoints)
    for number in (number for number in checkpoints.iterations() if number > done):
        checkpoints.path(number).unlink()
    longer, whole = make(schedule=Constant()), make(schedule=Constant())
    longer.fit(11, checkpoints=checkpoints, resume=True)
    whole.fit(11)
    assert torch.equal(weights(whole), weights(longer))


@pytest.mark.parametrize("schedule", [OneCycle(0.4), Cosine(2)])
def test_a_finished_run_is_prolonged_by_a_new_schedule(tmp_path, schedule):
    """Whose learning rates are those of a run of the added iterations alone; interrupted or not."""
    rates = {}

    def rate(name):
        return lambda progress: rates.setdefault(name, []).append(progress.lr)

    make(schedule=schedule).fit(9, rate("alone"))
    for name, interruptions in (("at once", ()), ("interrupted", (9,))):
        checkpoints = Checkpoints(tmp_path / name)
        make(schedule=schedule).fit(6, checkpoints=checkpoints)
        for at in interruptions:
            with pytest.raises(KeyboardInterrupt):
                make(schedule=schedule).fit(15, ctrl_c_at(at), checkpoints=checkpoints, resume=True)
        last = make(schedule=schedule)
        last.fit(15, rate(name), checkpoints=checkpoints, resume=True)
        rates[f"{name}, weights"] = weights(last)
    assert rates["at once"] == rates["alone"]
    assert rates["interrupted"] == rates["alone"][3:]
    assert torch.equal(rates["at once, weights"], rates["interrupted, weights"])


def test_an_unfinished_run_keeps_its_length(tmp_path):
    checkpoints = Checkpoints(tmp_path, every=2)
    with pytest.raises(KeyboardInterrupt):
        make().fit(8, ctrl_c_at(4), checkpoints=checkpoints)
    with pytest.raises(
        CheckpointError, match=r"iterations \(then 8, of which 4 are done, now 12\).*once it is finished"
    ):
        make().fit(12, checkpoints=checkpoints, resume=True)


class Tied(Energy):
    """An energy that has a matrix twice, and once more as a view of half of it."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 6, bias=False)
        self.second = nn.Linear(6, 6, bias=False)
        self.second.weight = self.first.weight
        self.register_buffer("top", self.first.weight.data[:3])
        self.register_buffer("row", self.first.weight.data[1])

    def evaluate(self, context, y):
        hidden = self.second(self.first(context).tanh())
        return (y - hidden[:, :3] - context @ self.top.T).square().sum(-1) / 2


def test_tied_weights_and_views_are_checkpointed(tmp_path):
    def run(folder, at=None):
        checkpoints = Checkpoints(folder, every=3)
        if at is not None:
            with pytest.raises(KeyboardInterrupt):
                make(energy=seeded_tied(), step_size=0.1).fit(8, ctrl_c_at(at), checkpoints=checkpoints)
        trainer = make(energy=seeded_tied(), step_size=0.1)
        trainer.fit(8, checkpoints=checkpoints, resume=True)
        return trainer

    whole, resumed = run(tmp_path / "whole"), run(tmp_path / "resumed", at=4)
    assert torch.equal(weights(whole), weights(resumed))
    energy = resumed.model
    assert energy.first.weight is energy.second.weight
    assert torch.equal(energy.top, energy.first.weight[:3])
    assert energy.top.data_ptr() == energy.first.weight.data_ptr()


def seeded_tied():
    torch.manual_seed(0)
    return Tied()
