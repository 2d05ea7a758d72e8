"""What goes wrong in a run and what must not: nonfinite losses, memory, leaks, early stops, averages, arguments."""

import copy
import gc
import inspect
import itertools

import psutil
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from energysolve import SGD, Energy, EnergyChange, EnergySolver, MLPEnergy, Truncated, Uniform
from energysolve.tasks import Addition, Task
from energysolve.training import (
    Callback,
    Checkpoints,
    Constant,
    NonfiniteLossError,
    ReplayBuffer,
    Trainer,
    TrainingConfig,
    Validation,
)
from energysolve.training.base import configured


class Poisoned(Addition):
    """Addition with targets or gradients that are not finite in some of the batches, counted from 1."""

    def __init__(self, size, batches, value=float("nan"), in_gradient=False):
        super().__init__(size)
        for name, item in (("batches", batches), ("value", value), ("in_gradient", in_gradient), ("drawn", [])):
            object.__setattr__(self, name, item)

    def sample(self, batch, difficulty="same", generator=None, device=None):
        x, target = super().sample(batch, difficulty, generator, device)
        self.drawn.append(batch)
        poisoned = len(self.drawn) in self.batches
        return x, target * self.value if poisoned and not self.in_gradient else target

    def error(self, solution, target):
        error = super().error(solution, target)
        if self.in_gradient and len(self.drawn) in self.batches:
            error = error + (solution.y * 0).sum(-1).sqrt()  # 0, with the derivative 0 * inf
        return error


def make(task=None, step_size=3.0, **options) -> Trainer:
    torch.manual_seed(0)
    task = task or Addition(3)
    solver = EnergySolver(MLPEnergy(6, 3, width=16), SGD(step_size), init=task.init)
    return Trainer(solver, task, batch_size=8, generator=torch.Generator().manual_seed(1), **options)


def weights(trainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


@pytest.mark.parametrize("in_gradient", [False, True], ids=["loss", "gradient"])
def test_training_stops_and_names_the_last_good_checkpoint(tmp_path, in_gradient):
    good = make(schedule=Constant())
    good.fit(6)
    bad = make(Poisoned(3, [7], in_gradient=in_gradient), schedule=Constant(), replay=None)
    checkpoints = Checkpoints(tmp_path, every=2)
    with pytest.raises(NonfiniteLossError, match=r"iteration 7 .*iteration-00000006.*skip_nonfinite"):
        bad.fit(20, checkpoints=checkpoints)
    assert torch.equal(weights(good), weights(bad))
    assert checkpoints.iterations() == [4, 6]
    tensors, _ = checkpoints.load(checkpoints.latest())
    assert all(tensor.isfinite().all() for name, tensor in tensors.items() if tensor.is_floating_point())


def test_batches_that_are_not_finite_are_skipped_on_request():
    bad = make(Poisoned(3, [2, 5]), replay=ReplayBuffer(100), skip_nonfinite=True)
    seen, before = [], []

    def look(progress):
        seen.append(progress.skipped)
        before.append(weights(bad))

    bad.fit(8, look)
    assert seen == [n in (2, 5) for n in range(1, 9)]
    for number, (old, new) in enumerate(itertools.pairwise(before), start=2):
        assert torch.equal(old, new) == (number in (2, 5))
    state = bad.replay.state()
    assert all(tensor.isfinite().all() for tensor in state.values() if tensor.is_floating_point())
    assert int(state["written"]) == 8 + 16 * 5


def test_skipping_without_end_stops():
    bad = make(Poisoned(3, range(1, 1000)), skip_nonfinite=True)
    with pytest.raises(NonfiniteLossError, match="iteration 101"):
        bad.fit(500)


def test_the_average_of_the_weights():
    trainer = make(ema=0.8, lr=1e-2)
    expected = copy.deepcopy(trainer.model)

    def follow(progress):
        for mean, new in zip(expected.parameters(), trainer.model.parameters(), strict=True):
            mean.data = 0.8 * mean.data + 0.2 * new.data

    trainer.fit(20, follow)
    assert trainer.trained_model is not trainer.model
    for mean, found in zip(expected.parameters(), trainer.trained_model.parameters(), strict=True):
        torch.testing.assert_close(mean.data, found.data)


def validation(every, early_stopping):
    solver = EnergySolver(MLPEnergy(6, 3, width=16), SGD(3.0), halting=EnergyChange(rtol=1e-3), max_steps=10)
    return Validation(solver, every=every, problems=16, early_stopping=early_stopping)


def test_early_stopping_returns_to_the_best_weights():
    found, at = [], {}

    class Watch(Callback):
        def on_iteration(self, progress):
            at[progress.iteration] = weights(trainer)

        def on_validation(self, validated):
            found.append((validated.score, validated.iteration))
            assert set(validated.error) == {"same", "harder"}
            assert validated.energy_after["same"] != validated.energy_before["same"]
            assert 1 <= validated.steps["harder"] <= 10

    trainer = make(lr=0.3, schedule=Constant(), validation=validation(3, 4))  # too fast to go on improving
    trainer.fit(300, callbacks=[Watch()])
    assert trainer.iteration < 300
    best = min(found)[1]
    assert trainer.iteration == best + 3 * 4
    assert torch.equal(weights(trainer), at[best])


def test_a_limit_on_the_gradient():
    """Seen by plain gradient descent in place of Adam, which is blind to the length of gradients."""
    moved = []
    for limit in (None, 1e6, 1e-3):
        trainer = make(clip_norm=limit)
        trainer.step()
        parameters = [p for p in trainer.model.parameters() if p.requires_grad]
        before = weights(trainer)
        trainer._updater._stepper = torch.optim.SGD(parameters, lr=1.0)
        trainer.step()
        moved.append((weights(trainer) - before).norm())
    assert moved[0] > 2e-3
    torch.testing.assert_close(moved[1], moved[0])
    torch.testing.assert_close(moved[2], torch.tensor(1e-3), rtol=1e-3, atol=0)


def test_two_batches_an_iteration_average_their_gradients():
    """Against both batches at once: without replay, the mean of two means is the mean."""
    drawn = []

    class Joined(Addition):
        def sample(self, batch, difficulty="same", generator=None, device=None):
            return tuple(map(torch.cat, zip(*drawn, strict=True)))

    class Watched(Addition):
        def sample(self, *arguments, **options):
            drawn.append(super().sample(*arguments, **options))
            return drawn[-1]

    starts = torch.rand(16, 3) * 2 - 1
    twice = make(Watched(3), accumulate=2, schedule=Constant(), lr=1e-2)
    twice.solver.init = lambda x, layout, generator: starts[8 * (len(drawn) - 1) :][:8]
    loss = twice.step()
    once = make(Joined(3), schedule=Constant(), lr=1e-2)
    once.solver.init = lambda x, layout, generator: starts
    torch.testing.assert_close(once.step(), loss)
    torch.testing.assert_close(weights(once), weights(twice))


def test_peak_memory_does_not_grow_with_the_steps():
    def peak(steps):
        trainer = make(train_steps=steps, differentiation=Truncated(1), step_size=0.01)
        for _ in range(2):
            trainer.step()
        gc.collect()
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as session:
            trainer.step()
        events = [event for event in session.profiler.kineto_results.events() if event.name() == "[memory]"]
        live = most = 0
        for event in sorted(events, key=lambda event: event.start_ns()):
            live += event.nbytes()
            most = max(most, live)
        return most

    few, more, many = (peak(steps) for steps in (5, 50, 500))
    assert max(few, more, many) <= 1.05 * min(few, more, many)


@pytest.mark.slow
def test_a_thousand_iterations_leak_nothing():
    trainer = make(replay=ReplayBuffer(500), ema=0.99)
    counts, resident = {}, {}

    def count(progress):
        if progress.iteration in (200, 1000):
            gc.collect()
            counts[progress.iteration] = sum(issubclass(type(item), torch.Tensor) for item in gc.get_objects())
            resident[progress.iteration] = psutil.Process().memory_info().rss

    trainer.fit(1000, count)
    assert counts[1000] == counts[200]
    assert resident[1000] - resident[200] < 8 * 2**20


def test_the_state_is_readable_from_construction_on():
    trainer = make(ema=0.9, validation=validation(2, None))
    assert (trainer.iteration, trainer.iterations, trainer.best) == (0, 0, None)
    optimized = {p for group in trainer.optimizer.param_groups for p in group["params"]}
    assert optimized == set(trainer.model.parameters())
    assert trainer.trained_model is trainer.state.average is not trainer.model
    trainer.fit(4)
    assert (trainer.iteration, trainer.iterations) == (4, 4)
    assert trainer.best[0] in (2, 4)


def test_a_second_run_starts_anew_from_the_weights_of_the_first():
    """The optimizer, the schedule, the average and the counters of the first run are forgotten."""
    twice = make(ema=0.5, lr=1e-2, validation=validation(5, None))
    twice.fit(5)
    once = make(ema=0.5, lr=1e-2, validation=validation(5, None))
    once.model.load_state_dict(twice.model.state_dict())
    once.generator.set_state(twice.generator.get_state())
    found = {twice: [], once: []}
    for trainer, seen in found.items():
        trainer.fit(8, lambda progress, seen=seen: seen.append((progress.iteration, progress.loss, progress.lr)))
    assert found[twice] == found[once]
    assert len(found[twice]) == 8
    assert torch.equal(weights(twice), weights(once))
    assert all(map(torch.equal, twice.trained_model.parameters(), once.trained_model.parameters()))
    assert twice.best == once.best


@pytest.mark.parametrize("given", [{}, {"config": TrainingConfig(replay=7)}], ids=["alone", "over the configured one"])
def test_replay_is_a_buffer_or_a_capacity(given):
    buffer = ReplayBuffer(40)
    assert make(replay=buffer, **given).replay is buffer
    assert make(replay=40, **given).replay.capacity == make(replay=40, **given).config.replay == 40
    assert make(replay=0, **given).replay is None
    assert make(replay=0, **given).config.replay == 0
    default = make(**given).replay
    assert default is None if not given else default.capacity == 7
    with pytest.raises(ValueError, match="whole number of 0 or more as replay"):
        make(replay=-1, **given)


@pytest.mark.parametrize("wrong", ["many", 1.5, True, ReplayBuffer])
def test_replay_of_another_kind(wrong):
    """Without the type checker of the tests, which would refuse some of them itself."""
    with pytest.raises(TypeError, match=r"replay must be a ReplayBuffer, or the capacity.*got "):
        inspect.unwrap(configured)(TrainingConfig(), {}, wrong)


def test_a_trainer_shows_where_it_stands():
    trainer = make(lr=1e-2, replay=30, validation=validation(2, None))
    assert repr(trainer).splitlines() == [
        "Trainer of MLPEnergy for Addition(size=3)",
        "  settings: batch_size=8, replay=30, lr=0.01",
        "  iteration: 0",
        "  device: cpu",
    ]
    trainer.fit(4)
    assert "  iteration: 4 of 4" in repr(trainer).splitlines()
    assert f"  best validation: error {trainer.best[1]:.4g} at iteration {trainer.best[0]}" in repr(trainer)


def test_a_task_without_a_repr_is_shown_by_its_class():
    class Doubling(Task):
        init = Uniform((3,))

        def sample(self, batch, difficulty="same", generator=None, device=None):
            x = torch.rand(batch, 6, generator=generator)
            return x, 2 * x[:, :3]

        def error(self, solution, target):
            return (solution.y - target).square().mean(-1)

    assert repr(make(Doubling())).startswith("Trainer of MLPEnergy for Doubling\n")


class Standardizing(Energy):
    """Centres problems by a running mean, in a buffer that a problem with a NaN poisons."""

    def __init__(self):
        super().__init__()
        self.network = MLPEnergy(6, 3, width=16)
        self.register_buffer("mean", torch.zeros(6))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        self.register_buffer("last", torch.zeros(1))

    def encode(self, x):
        if self.training:
            self.mean.lerp_(x.detach().mean(0), 0.1)
            self.batches += 1
            self.last = x.detach()[: int(self.batches)].clone()  # a buffer that is exchanged, of another size
        return self.network.encode(x - self.mean)

    def evaluate(self, context, y):
        return self.network.evaluate(context, y)


class WithABadProblem(Addition):
    """Addition in which one batch has a problem with a NaN, or with a target that is one."""

    def __init__(self, bad, where):
        super().__init__(3)
        for name, item in (("bad", bad), ("where", where), ("drawn", [])):
            object.__setattr__(self, name, item)

    def sample(self, batch, difficulty="same", generator=None, device=None):
        x, target = super().sample(batch, difficulty, generator, device)
        self.drawn.append(batch)
        if len(self.drawn) == self.bad:
            (x if self.where == "problem" else target)[2, 1] = float("nan")
        return x, target


def standardizing(task, **options):
    torch.manual_seed(0)
    solver = EnergySolver(Standardizing(), SGD(3.0), init=task.init)
    options = {"schedule": Constant(), "ema": 0.9} | options
    return Trainer(solver, task, batch_size=8, generator=torch.Generator().manual_seed(1), **options)


def whole_state(trainer):
    states = [module.state_dict() for module in (trainer.model, trainer.trained_model)]
    return {f"{number}.{name}": value for number, state in enumerate(states) for name, value in state.items()}


def assert_same_state(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize("on_device", [False, True], ids=["host", "device"])
@pytest.mark.parametrize("where", ["problem", "target"])
def test_a_skipped_batch_leaves_the_buffers_as_they_were(where, on_device):
    """The state after each iteration is that of the iteration before; what follows is finite."""
    trainer = standardizing(WithABadProblem(4, where), skip_nonfinite=True)
    trainer.step()
    trainer._updater._guarded_on_device = on_device
    states, skipped = [], []
    for _ in range(5):
        skipped.append(not trainer._iterate()[1])
        states.append(copy.deepcopy(whole_state(trainer)))
    assert skipped == [False, False, True, False, False]
    assert_same_state(states[2], states[1])
    assert int(trainer.model.batches) == 5
    assert all(value.isfinite().all() for value in states[-1].values())


@pytest.mark.parametrize("on_device", [False, True], ids=["host", "device"])
def test_a_run_that_stops_leaves_the_model_as_it_was(on_device):
    """As a run of three batches does, also where the device hears of it only after further iterations."""
    trainer, expected = (standardizing(WithABadProblem(bad, "problem")) for bad in (4, 99))
    for _ in range(3):
        trainer.step()
        expected.step()
    trainer._updater._guarded_on_device = on_device
    for _ in range(1 + 2 * on_device):
        assert not trainer._iterate()[1]
    assert_same_state(whole_state(trainer), whole_state(expected))
    assert trainer.step().isfinite()  # a new attempt is no longer stopped
    with pytest.raises(NonfiniteLossError, match=r"iteration 2 .*the model is as it was before"):
        standardizing(WithABadProblem(2, "problem")).fit(5)
