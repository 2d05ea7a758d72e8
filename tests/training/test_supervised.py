"""Training by a model's own loss: the update, resuming, losses that are not finite, settings that play no part."""

import contextlib
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import launch

from energysolve import SGD, EnergySolver, MLPEnergy, Truncated
from energysolve.baselines import Feedforward, IterativeFeedforward, PonderNet, Recurrent, UnrolledFeedforward
from energysolve.tasks import Addition
from energysolve.training import (
    Callback,
    CheckpointError,
    Checkpoints,
    Constant,
    Cosine,
    NonfiniteLossError,
    OneCycle,
    Replayable,
    ReplayBuffer,
    SupervisedTrainer,
    Trainer,
    TrainingConfig,
)

ALL = [Feedforward, Recurrent, PonderNet, IterativeFeedforward, UnrolledFeedforward]


class InterruptedRunError(Exception):
    pass


def trainer(cls=IterativeFeedforward, task=None, model_options=None, **options) -> SupervisedTrainer:
    torch.manual_seed(0)
    model = cls(6, (3,), width=12, **(model_options or {}))
    options = {"batch_size": 8, "generator": torch.Generator().manual_seed(1)} | options
    return SupervisedTrainer(model, task or Addition(3), **options)


def weights(of: SupervisedTrainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for model in (of.model, of.trained_model) for p in model.parameters()])


def interrupt(at: int):
    def check(progress):
        if progress.iteration == at:
            raise InterruptedRunError

    return check


class Poisoned(Addition):
    """Addition with targets that are not finite in some of the batches, counted from 1."""

    def __init__(self, batches):
        super().__init__(3)
        object.__setattr__(self, "batches", batches)
        object.__setattr__(self, "drawn", [])

    def sample(self, batch, difficulty="same", generator=None, device=None):
        x, target = super().sample(batch, difficulty, generator, device)
        self.drawn.append(batch)
        return x, target * float("nan") if len(self.drawn) in self.batches else target


@pytest.mark.parametrize("cls", ALL)
def test_one_iteration_is_an_update_by_adam(cls):
    ours = trainer(cls, lr=1e-2, schedule=Constant())
    torch.manual_seed(0)
    reference = cls(6, (3,), width=12)
    found = []
    ours.fit(3, lambda progress: found.append(progress.loss))
    generator = torch.Generator().manual_seed(1)
    adam = torch.optim.Adam(reference.parameters(), lr=1e-2)
    for loss_found in found:
        x, target = Addition(3).sample(8, generator=generator)
        loss = reference.loss(x, target, generator)
        adam.zero_grad()
        loss.backward()
        adam.step()
        assert loss_found == pytest.approx(loss.item())
    for parameter, expected in zip(ours.model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(parameter, expected)


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_a_run_that_was_interrupted_ends_as_if_it_never_was(tmp_path_factory, data):
    cls = data.draw(st.sampled_from(ALL))
    options = {
        "schedule": data.draw(st.sampled_from([Constant(), OneCycle(0.2), Cosine(3)])),
        "accumulate": data.draw(st.integers(1, 2)),
        "ema": data.draw(st.sampled_from([None, 0.9])),
    }
    moments = data.draw(st.lists(st.integers(1, 20), max_size=3).map(sorted))
    checkpoints = Checkpoints(tmp_path_factory.mktemp("run"), every=data.draw(st.integers(1, 7)))
    whole = trainer(cls, **options)
    whole.fit(20)
    for moment in moments:
        with contextlib.suppress(InterruptedRunError):
            trainer(cls, **options).fit(20, interrupt(moment), checkpoints=checkpoints, resume=True)
    resumed = trainer(cls, **options)
    resumed.fit(20, checkpoints=checkpoints, resume=True)
    assert resumed.iteration == 20
    assert torch.equal(weights(whole), weights(resumed))


def test_a_resumed_run_does_not_begin_again(tmp_path):
    checkpoints = Checkpoints(tmp_path, every=4)
    with contextlib.suppress(InterruptedRunError):
        trainer().fit(10, interrupt(7), checkpoints=checkpoints)
    seen = []
    trainer().fit(10, lambda progress: seen.append(progress.iteration), checkpoints=checkpoints, resume=True)
    assert seen == list(range(5, 11))


@pytest.mark.parametrize(
    ("cls", "options", "words"),
    [
        (IterativeFeedforward, {"lr": 0.5}, r"other settings: lr \(then 0.001, now 0.5\)"),
        (IterativeFeedforward, {"model_options": {"levels": 3}}, r"model .*'levels': 5.*'levels': 3"),
        (Feedforward, {}, "'IterativeFeedforward'.*'Feedforward'"),
    ],
    ids=["setting", "model", "class"],
)
def test_another_run_is_not_resumed(tmp_path, cls, options, words):
    checkpoints = Checkpoints(tmp_path)
    trainer().fit(3, checkpoints=checkpoints)
    with pytest.raises(CheckpointError, match=words):
        trainer(cls, **options).fit(3, checkpoints=checkpoints, resume=True)


def test_the_checkpoint_of_an_energy_is_not_resumed(tmp_path):
    task = Addition(3)
    solver = EnergySolver(MLPEnergy(6, 3, width=12), SGD(3.0), init=task.init)
    Trainer(solver, task, batch_size=8).fit(3, checkpoints=Checkpoints(tmp_path))
    with pytest.raises(CheckpointError, match="model"):
        trainer().fit(3, checkpoints=Checkpoints(tmp_path), resume=True)


@pytest.mark.parametrize("cls", ALL)
def test_a_loss_that_is_not_finite_leaves_the_weights(tmp_path, cls):
    good = trainer(cls, schedule=Constant())
    good.fit(4)
    bad = trainer(cls, Poisoned([5]), schedule=Constant())
    with pytest.raises(NonfiniteLossError, match=r"iteration 5 .*iteration-00000004"):
        bad.fit(9, checkpoints=Checkpoints(tmp_path, every=2))
    assert torch.equal(weights(good), weights(bad))


def test_batches_that_are_not_finite_are_skipped_on_request():
    bad, skipped, seen = trainer(task=Poisoned([2, 5]), skip_nonfinite=True), [], []

    def look(progress):
        skipped.append(progress.skipped)
        seen.append(weights(bad))

    bad.fit(6, look)
    assert skipped == [number in (2, 5) for number in range(1, 7)]
    assert [torch.equal(seen[n - 2], seen[n - 1]) for n in range(2, 7)] == [n in (2, 5) for n in range(2, 7)]


def test_two_batches_an_iteration_average_their_gradients():
    """By the loss, of the same weights: with two batches the mean of both."""
    twice = trainer(Feedforward, accumulate=2, lr=1e-2, schedule=Constant())
    twice.step()
    torch.manual_seed(0)
    model = Feedforward(6, (3,), width=12)
    generator = torch.Generator().manual_seed(1)
    loss = sum(model.loss(*Addition(3).sample(8, generator=generator)) / 2 for _ in range(2))
    loss.backward()
    adam = torch.optim.Adam(model.parameters(), lr=1e-2)
    adam.step()
    for parameter, expected in zip(twice.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(parameter, expected)


def test_callbacks_and_the_average_of_the_weights(tmp_path):
    heard = []

    class Log(Callback):
        def on_start(self, iteration, iterations):
            heard.append(("start", iteration, iterations))

        def on_checkpoint(self, path):
            heard.append(path.name)

    run = trainer(ema=0.5)
    run.fit(3, callbacks=[Log()], checkpoints=Checkpoints(tmp_path, every=2))
    assert heard == [("start", 0, 3), "iteration-00000002.safetensors", "iteration-00000003.safetensors"]
    assert run.trained_model is run.state.average is not run.model
    assert not torch.equal(run.model.head.weight, run.trained_model.head.weight)
    assert trainer().trained_model.solve(torch.zeros(2, 6)).y.shape == (2, 3)


@pytest.mark.parametrize(
    "setting", [{"train_steps": 4}, {"differentiation": Truncated(2)}, {"replay": 10}, {"compile": True}]
)
def test_settings_that_play_no_part_are_errors(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        trainer(**setting)
    with pytest.raises(ValueError, match=next(iter(setting))):
        trainer(config=TrainingConfig(**setting))


def test_replayed_answers_are_gone_on_from():
    """Against the same by hand: a batch alone first, from then on along with one from the buffer."""
    run = trainer(UnrolledFeedforward, batch_size=8, replay=20, lr=1e-2, schedule=Constant())
    torch.manual_seed(0)
    model = UnrolledFeedforward(6, (3,), width=12)
    adam = torch.optim.Adam(model.parameters(), lr=1e-2)
    generator, buffer = torch.Generator().manual_seed(1), ReplayBuffer(20)
    for _ in range(5):
        x, target = Addition(3).sample(8, generator=generator)
        batch = x, target, torch.rand(8, 3, generator=generator) * 2 - 1
        if len(buffer):
            batch = [torch.cat(pair) for pair in zip(batch, buffer.sample(8, generator), strict=True)]
        loss, answers = model.loss_from(*batch)
        adam.zero_grad()
        loss.backward()
        adam.step()
        buffer.insert((*batch[:2], answers))
        torch.testing.assert_close(run.step(), loss.detach())
    for parameter, expected in zip(run.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(parameter, expected)
    assert len(run.replay) == 20


def test_a_run_with_replay_is_resumed_as_if_it_never_stopped(tmp_path):
    options = {"replay": 20, "lr": 1e-2}
    whole = trainer(UnrolledFeedforward, **options)
    whole.fit(12)
    with contextlib.suppress(InterruptedRunError):
        trainer(UnrolledFeedforward, **options).fit(12, interrupt(7), checkpoints=Checkpoints(tmp_path, every=3))
    resumed = trainer(UnrolledFeedforward, **options)
    resumed.fit(12, checkpoints=Checkpoints(tmp_path), resume=True)
    assert torch.equal(weights(whole), weights(resumed))
    without = trainer(UnrolledFeedforward, lr=1e-2)
    without.fit(12)
    assert not torch.equal(weights(whole), weights(without))


def test_replay_is_for_models_that_go_on():
    with pytest.raises(ValueError, match=r"replay=10: Recurrent has no methods initial and loss_from"):
        trainer(Recurrent, replay=10)
    assert isinstance(UnrolledFeedforward(6, (3,), width=12), Replayable)
    buffer = ReplayBuffer(9)
    assert trainer(UnrolledFeedforward, replay=buffer).replay is buffer
    assert trainer(UnrolledFeedforward, replay=0).replay is trainer(Recurrent, replay=0).replay is None
    with pytest.raises(ValueError, match="replay=9: Recurrent has no methods"):
        trainer(Recurrent, replay=buffer)


def test_a_trainer_shows_where_it_stands():
    run = trainer(ema=0.9)
    run.fit(2)
    assert repr(run).splitlines() == [
        "SupervisedTrainer of IterativeFeedforward for Addition(size=3)",
        "  settings: batch_size=8, ema=0.9",
        "  iteration: 2 of 2",
        "  device: cpu",
    ]


def test_bad_models_and_settings():
    task = Addition(3)
    with pytest.raises(TypeError, match=r"loss.*got MLPEnergy.*Trainer"):
        SupervisedTrainer(MLPEnergy(6, 3), task)
    with pytest.raises(TypeError, match="got EnergySolver"):
        SupervisedTrainer(EnergySolver(MLPEnergy(6, 3), SGD(1.0)), task)
    with pytest.raises(ValueError, match="no parameters"):
        SupervisedTrainer(Feedforward(6, (3,)).requires_grad_(False), task)
    with pytest.raises(TypeError, match="no setting bath_size"):
        trainer(bath_size=3)
    with pytest.raises(ValueError, match="batch_size"):
        trainer(batch_size=0)
    with pytest.raises(ValueError, match="problems of 7 entries"):
        SupervisedTrainer(Feedforward(7, (3,)), task).step()


@pytest.mark.slow
def test_two_processes_train_as_one_and_draw_noise_of_their_own(tmp_path):
    program = Path(__file__).with_name("run_supervised_processes.py")
    one, two = (launch(program, count, tmp_path / f"{count}.safetensors") for count in (1, 2))
    assert (one.pop("processes"), two.pop("processes")) == (1, 2)
    for name in one:
        if name.startswith(("Feedforward", "Unrolled")):
            torch.testing.assert_close(one[name], two[name], rtol=1e-8, atol=1e-8)
    assert [one["levels"].shape, two["levels"].shape] == [(1, 320), (2, 160)]
    assert not torch.equal(*two["levels"])
