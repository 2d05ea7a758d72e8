"""The training loop: Algorithms 1 and 3, the replay buffer, and what happens when the loss is not finite."""

import pytest
import torch

from energysolve import SGD, After, Dense, EnergyChange, EnergySolver, MLPEnergy, Truncated, Uniform, Unroll
from energysolve.tasks import Addition
from energysolve.training import Constant, NonfiniteLossError, ReplayBuffer, Trainer


def small(size=3, pad=0, step_size=3.0):
    torch.manual_seed(0)
    energy = MLPEnergy(2 * size, size, z_dim=pad, width=32)
    return EnergySolver(energy, SGD(step_size), scratchpad=Uniform((pad,)) if pad else None), Addition(size)


@pytest.mark.parametrize("pad", [0, 4], ids=["algorithm 1", "algorithm 3"])
def test_it_learns(pad):
    solver, task = small(pad=pad)
    trainer = Trainer(
        solver, task, replay=ReplayBuffer(500), batch_size=64, lr=3e-3, generator=torch.Generator().manual_seed(1)
    )
    seen = []
    trainer.fit(400, seen.append)
    assert [progress.iteration for progress in seen] == list(range(1, 401))
    x, target = task.sample(200, generator=torch.Generator().manual_seed(2))
    tested = solver.replace(init=task.init, halting=EnergyChange(rtol=1e-4).patience(2))
    error = task.error(tested.minimize(x), target).mean()
    assert error < 0.25 * target.square().mean()


def test_one_iteration_is_the_algorithm_written_out():
    """Algorithm 1, on new problems alone, by hand: N - 1 steps untracked, the last tracked, then Adam."""
    solver, task = small()
    reference = MLPEnergy(6, 3, width=32)
    reference.load_state_dict(solver.energy.state_dict())
    trainer = Trainer(
        solver, task, batch_size=8, lr=1e-2, schedule=Constant(), generator=torch.Generator().manual_seed(3)
    )
    loss = trainer.step()

    generator = torch.Generator().manual_seed(3)
    x, target = task.sample(8, generator=generator)
    y = torch.rand(8, 3, generator=generator) * 2 - 1
    for step in range(5):
        y = y.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(reference(x, y).sum(), y, create_graph=step == 4)
        y = y - 3.0 * gradient
    by_hand = (y - target).square().mean(-1).mean()
    adam = torch.optim.Adam(reference.parameters(), lr=1e-2)
    by_hand.backward()
    adam.step()
    torch.testing.assert_close(loss, by_hand.detach())
    for ours, theirs in zip(solver.energy.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_replayed_problems_join_once_the_buffer_holds_a_batch():
    solver, task = small(pad=2)
    replay = ReplayBuffer(100)
    trainer = Trainer(solver, task, replay=replay, batch_size=16, generator=torch.Generator().manual_seed(0))
    sizes, stored = [], []
    for _ in range(3):
        x, target, y, z = trainer.batches.draw()
        sizes.append(len(x))
        assert len(target) == len(y) == len(z) == len(x)
        torch.testing.assert_close(x.view(-1, 2, 3).sum(1), target)
        if stored:  # answers found earlier, beside their own problems, after new ones
            problems, answers = (torch.cat(parts) for parts in zip(*stored, strict=True))
            same = (x[16:, None] == problems).all(-1) & (y[16:, None] == answers).all(-1)
            assert same.any(1).all()
        assert 0.5 < y[:16].abs().max() <= 1
        assert len(y[:16].unique()) == 48
        trainer.step()
        rows = replay.state()
        stored = [(rows["0"], rows["2"])]
    assert sizes == [16, 32, 32]
    assert len(replay) == 16 + 32 + 32


def test_halting_plays_no_part_in_training():
    losses = []
    for halting in (After(0), EnergyChange(rtol=1e-5)):
        solver, task = small()
        solver = solver.replace(halting=halting)
        losses.append(Trainer(solver, task, batch_size=8, generator=torch.Generator().manual_seed(3)).step())
    assert torch.equal(*losses)


def test_the_layout_that_the_solver_states_wins():
    seen = []

    def layout(x):
        seen.append(len(x))
        return Dense(len(x))

    class Wrong(Addition):
        def layout(self, x):
            raise AssertionError("the task's layout is a default")

    solver, _ = small()
    Trainer(solver.replace(layout=layout), Wrong(3), batch_size=8).step()
    assert set(seen) == {8}


def test_the_same_generator_gives_the_same_weights():
    weights = []
    for _ in range(2):
        solver, task = small()
        Trainer(solver, task, replay=ReplayBuffer(64), batch_size=16, generator=torch.Generator().manual_seed(5)).fit(8)
        weights.append(torch.cat([p.detach().flatten() for p in solver.parameters()]))
    assert torch.equal(*weights)


def test_a_loss_that_is_not_finite_stops_and_leaves_the_parameters():
    class Broken(Addition):
        def sample(self, batch, difficulty="same", generator=None, device=None):
            x, target = super().sample(batch, difficulty, generator, device)
            return x, target / 0

    solver, _ = small()
    before = [p.detach().clone() for p in solver.parameters()]
    with pytest.raises(NonfiniteLossError, match=r"inf.*learning rate"):
        Trainer(solver, Broken(3)).fit(3)
    assert all(torch.equal(a, b) for a, b in zip(before, solver.parameters(), strict=True))


def test_bad_settings():
    solver, task = small()
    with pytest.raises(ValueError, match="no parameters"):
        Trainer(EnergySolver(lambda x, y: (x - y).sum(-1), SGD(0.1)), task)
    for options in ({"batch_size": 0}, {"train_steps": 0}, {"lr": -1.0}, {"ema": 1.0}, {"precision": "half"}):
        with pytest.raises(ValueError, match=next(iter(options))):
            Trainer(solver, task, **options)
    with pytest.raises(TypeError, match="no setting bath_size; its settings are train_steps"):
        Trainer(solver, task, bath_size=3)
    with pytest.raises(ValueError, match="'same', 'harder'"):
        task.sample(3, "hardest")


@pytest.mark.parametrize("mode", [Truncated(1), Truncated(5), Unroll()], ids=repr)
def test_training_works_under_every_mode(mode):
    solver, task = small()
    trainer = Trainer(solver, task, differentiation=mode, batch_size=8)
    before = [p.detach().clone() for p in solver.energy.from_y.parameters()]
    trainer.step()
    for old, new in zip(before, solver.energy.from_y.parameters(), strict=True):
        assert new.isfinite().all()
        assert not torch.equal(old, new)


def test_addition_problems():
    x, target = Addition(5).sample(1000, "harder", torch.Generator().manual_seed(0))
    assert x.shape == (1000, 10)
    torch.testing.assert_close(x[:, :5] + x[:, 5:], target)
    assert 2.49 < x.abs().max() <= 2.5
    x, target = Addition(5).sample(1000)
    assert 0.99 < x.abs().max() <= 1
    # The floor of REFERENCE: predicting zero costs the variance of a sum of two uniform variables.
    torch.testing.assert_close(target.square().mean(), torch.tensor(2 / 3), rtol=0.05, atol=0)
