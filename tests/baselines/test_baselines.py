"""What all baselines have in common: sizes, the interface of solving, independence of samples, learning, files."""

import inspect
import json
import math

import pytest
import torch

from energysolve import SGD, EnergySolver, MLPEnergy, Status, Uniform
from energysolve.baselines import (
    Baseline,
    Feedforward,
    IterativeFeedforward,
    PonderNet,
    Recurrent,
    UnrolledFeedforward,
    load,
    save,
)
from energysolve.composition import Operator
from energysolve.tasks import Addition, Completion
from energysolve.training import SupervisedTrainer

ALL = [Feedforward, Recurrent, PonderNet, IterativeFeedforward, UnrolledFeedforward]
RANDOM = (IterativeFeedforward, UnrolledFeedforward)
"""Those that draw numbers for the loss."""
every = pytest.mark.parametrize("cls", ALL)


def make(cls, x_dim=6, y_shape=(3,), **options) -> Baseline:
    torch.manual_seed(0)
    return cls(x_dim, y_shape, **({"width": 16} | options))


def seeded(seed=0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear(inputs, outputs):
    return inputs * outputs + outputs


def lstm(width):
    """Four gates, each with a matrix and a bias for the input and for the hidden state."""
    return 4 * 2 * (width * width + width)


@pytest.mark.parametrize(("x", "y_shape"), [(800, (400,)), (400, (20, 20))], ids=["vectors", "matrices"])
def test_the_sizes_are_those_of_the_tables(x, y_shape):
    y = math.prod(y_shape)
    hidden = 2 * linear(512, 512)
    expected = {
        Feedforward: linear(x, 512) + hidden + linear(512, y),
        Recurrent: linear(x, 196) + lstm(196) + linear(196, y),
        PonderNet: linear(x + y, 512) + hidden + linear(512, y) + linear(512, 1),
        IterativeFeedforward: linear(x + y + 1, 512) + hidden + linear(512, y),
        UnrolledFeedforward: linear(x + y, 512) + hidden + linear(512, y),
    }
    for cls, number in expected.items():
        assert sum(p.numel() for p in cls(x, y_shape).parameters()) == number


@every
@pytest.mark.parametrize("shape", [(6,), (2, 3)])
def test_iterates_and_answers_have_the_shapes_of_the_task(cls, shape):
    model = make(cls, y_shape=(2, 2))
    x = torch.randn(5, *shape)
    iterates = model.iterates(x, 4, generator=seeded())
    assert [y.shape for y in iterates] == [(5, 2, 2)] * 4
    solution = model.solve(x, 4, generator=seeded())
    assert solution.y.shape == (5, 2, 2)
    assert not solution.y.requires_grad
    assert solution.steps.dtype == solution.status.dtype == torch.int64
    assert solution.energy.isnan().all()
    assert solution.z is None
    assert torch.equal(model.iterates(x.flatten(1), 4, generator=seeded())[-1], solution.y)
    assert model.solve(x[:0]).y.shape == (0, 2, 2)


@every
def test_the_answer_is_the_last_iterate_and_more_steps_extend_the_iterates(cls):
    model, x = make(cls), torch.randn(40, 6)
    longest = model.iterates(x, 12, generator=seeded(3))
    for steps in (1, 2, 5, 12):
        solution = model.solve(x, steps, generator=seeded(3))
        assert torch.equal(solution.y, longest[steps - 1])
        found = model.iterates(x, steps, generator=seeded(3))
        assert all(map(torch.equal, found, longest))
        assert len(found) == steps
        # Each sample's answer is the iterate at the number of steps that it took.
        rows = torch.stack(longest)[solution.steps - 1, torch.arange(40)]
        assert torch.equal(solution.y, rows)
    assert torch.equal(model.solve(x, generator=seeded(3)).y, longest[model.default_steps - 1])


@every
def test_every_step_counts(cls):
    """A step changes the answer, except where there is but one, or a sample has halted."""
    model, x = make(cls), torch.randn(8, 6)
    if cls is PonderNet:
        torch.nn.init.constant_(model.halt.bias, -100.0)
    iterates = model.iterates(x, 3, generator=seeded())
    changed = (iterates[0] - iterates[1]).abs().max(), (iterates[1] - iterates[2]).abs().max()
    assert (cls is Feedforward) == (max(changed) == 0) == (min(changed) == 0)


def test_steps_and_status():
    x = torch.randn(4, 6)
    for cls, taken in ((Feedforward, 1), (Recurrent, 7), (IterativeFeedforward, 7), (UnrolledFeedforward, 7)):
        solution = make(cls).solve(x, 7)
        assert solution.steps.tolist() == [taken] * 4
        assert solution.status.tolist() == [Status.MAX_STEPS] * 4


@every
def test_samples_do_not_see_each_other(cls):
    """In the loss and in the answers; the first samples draw the same numbers in a batch of another size or content."""
    model = make(cls).double()
    x, other, target = (torch.randn(6, n, dtype=torch.float64) for n in (6, 6, 3))
    mixed = torch.cat([x[:3], other[3:]])
    together = model.iterates(x, 6, generator=seeded())
    apart = model.iterates(mixed, 6, generator=seeded())
    for y, again in zip(together, apart, strict=True):
        assert torch.equal(y[:3], again[:3])
    x.requires_grad_()
    losses = torch.autograd.grad(model.loss(x, target, seeded()), x)[0]
    changed = torch.cat([x[:3].detach(), other[3:]]).requires_grad_()
    losses_too = torch.autograd.grad(model.loss(changed, target, seeded()), changed)[0]
    torch.testing.assert_close(losses[:3], losses_too[:3])
    assert losses.abs().min() > 0


@every
def test_it_learns(cls):
    task = Addition(4)
    model = make(cls, 8, (4,), width=48)
    trainer = SupervisedTrainer(model, task, batch_size=64, lr=1e-2, generator=seeded(1))
    trainer.fit(400)
    for difficulty, share in (("same", 0.1), ("harder", 0.5)):
        x, target = task.sample(500, difficulty, seeded(2))
        error = task.error(model.solve(x, generator=seeded(4)), target).mean()
        assert error < share * target.square().mean()


@every
def test_the_loss_is_a_mean_over_samples_and_elements(cls):
    """It depends on neither number: of matrices as of the same entries in vectors, and of a batch repeated."""
    model, twin = make(cls, y_shape=(2, 3)), make(cls, y_shape=(6,))
    twin.load_state_dict(model.state_dict())
    x, target = torch.randn(5, 6), torch.randn(5, 2, 3)
    loss = model.loss(x, target, seeded())
    assert loss.shape == ()
    assert loss.requires_grad
    torch.testing.assert_close(loss, twin.loss(x, target.flatten(1), seeded()))
    if cls not in RANDOM:  # which draw other numbers for the copies
        torch.testing.assert_close(loss, model.loss(x.repeat(3, 1), target.repeat(3, 1, 1)))


def test_what_is_trained():
    """The mean squared error of the answer that is given after the steps of training."""
    x, target = torch.randn(5, 6), torch.randn(5, 3)
    for cls in (Feedforward, Recurrent, UnrolledFeedforward):
        model = make(cls)
        given = (model.solve(x, model.train_steps, generator=seeded(3)).y - target).square().mean()
        torch.testing.assert_close(model.loss(x, target, seeded(3)).detach(), given, msg=cls.__name__)


def test_the_recurrent_network_by_hand():
    """Against torch's LSTM over a sequence of repeated problems."""
    model, x = make(Recurrent), torch.randn(5, 6)
    sequence = torch.nn.LSTM(16, 16)
    sequence.load_state_dict({f"{name}_l0": value for name, value in model.cell.state_dict().items()})
    states, _ = sequence(model.encoder(x).relu().expand(9, 5, 16))
    for y, state in zip(model.iterates(x, 9), states, strict=True):
        torch.testing.assert_close(y, model.head(state).detach())


def test_the_unrolled_network_by_hand():
    """Against the definition, and its gradient, which passes through all the steps, against finite differences."""
    model = make(UnrolledFeedforward, train_steps=3).double()
    x, target = torch.randn(40, 6, dtype=torch.float64), torch.randn(40, 3, dtype=torch.float64)
    y = torch.rand(40, 3, generator=seeded(2), dtype=torch.float64) * 2 - 1
    assert -1 < y.min() < -0.9 < 0.9 < y.max() < 1
    for answer in model.iterates(x, 4, generator=seeded(2)):
        h = torch.cat([x, y], 1)
        for layer in model.hidden:
            h = layer(h) if isinstance(layer, torch.nn.Linear) else h * h.sigmoid()
        y = (y + model.head(h)).detach()
        torch.testing.assert_close(answer, y)
    assert model.solve(x).steps.tolist() == [10] * 40
    loss, arrived = model.loss_from(x, target, model.initial(x, seeded(2)))
    assert loss == model.loss(x, target, seeded(2))
    assert not arrived.requires_grad
    assert torch.equal(arrived, model.iterates(x, 3, generator=seeded(2))[-1])
    bias = model.head.bias
    model.loss(x, target, seeded(2)).backward()
    for k, slope in enumerate(bias.grad):
        losses = []
        for shift in (1e-5, -1e-5):
            with torch.no_grad():
                bias[k] += shift
                losses.append(model.loss(x, target, seeded(2)))
                bias[k] -= shift
        torch.testing.assert_close((losses[0] - losses[1]) / 2e-5, slope, rtol=1e-6, atol=1e-8)


def test_the_denoising_objective_by_hand():
    model, x, target = make(IterativeFeedforward, levels=4), torch.randn(7, 6), torch.randn(7, 3)
    seen = []
    model.register_forward_hook(lambda module, inputs, y: seen.append((*inputs, y)))
    loss = model.loss(x, target, seeded(5))
    generator = seeded(5)
    share = torch.randint(1, 5, (7, 1), generator=generator) / 4
    noise = torch.randn(7, 3, generator=generator)
    (problem, corrupted, level, y) = seen.pop()
    assert torch.equal(problem, x)
    assert torch.equal(level, share)
    torch.testing.assert_close(corrupted, (1 - share).sqrt() * target + share.sqrt() * noise)
    torch.testing.assert_close(loss, (y - target).square().mean())
    model.solve(x, 6)
    assert [level[0].item() for _, _, level, _ in seen] == [1.0, 0.75, 0.5, 0.25, 0.25, 0.25]


def test_denoising_starts_at_standard_normal_noise():
    model = make(IterativeFeedforward)
    seen = []
    model.register_forward_hook(lambda module, inputs, y: seen.append(inputs[1]))
    model.solve(torch.zeros(20_000, 6), 1, generator=seeded())
    assert seen[0].mean().abs() < 0.02
    assert (seen[0].std() - 1).abs() < 0.02


@every
def test_levels_of_the_corruption_are_all_drawn(cls):
    if cls is not IterativeFeedforward:
        return
    model = make(cls)
    seen = []
    model.register_forward_hook(lambda module, inputs, y: seen.append(inputs[2]))
    model.loss(torch.zeros(2000, 6), torch.zeros(2000, 3), seeded())
    levels, counts = seen[0].unique(return_counts=True)
    torch.testing.assert_close(levels, torch.tensor([0.2, 0.4, 0.6, 0.8, 1.0]))
    assert counts.min() > 320


@every
def test_bad_sizes(cls):
    for options in ({"x_dim": 0}, {"y_shape": (2, 0)}, {"y_shape": -1}, {"width": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            make(cls, **options)
    for name in {"depth", "train_steps", "test_steps", "levels"} & set(inspect.signature(cls).parameters):
        with pytest.raises(ValueError, match=name):
            make(cls, **{name: 0})
    model = make(cls)
    with pytest.raises(ValueError, match=r"problems of 6 entries.*got \(4, 5\)"):
        model.solve(torch.zeros(4, 5))
    with pytest.raises(ValueError, match=r"got \(6,\)"):
        model.iterates(torch.zeros(6), 2)
    with pytest.raises(ValueError, match=r"targets of shape \(4, 3\), got \(4, 2\)"):
        model.loss(torch.zeros(4, 6), torch.zeros(4, 2))
    for steps in (0, -1):
        with pytest.raises(ValueError, match="steps"):
            model.solve(torch.zeros(4, 6), steps)
        with pytest.raises(ValueError, match="steps"):
            model.iterates(torch.zeros(4, 6), steps)


def test_solvers_and_baselines_share_one_interface():
    task = Completion(3, 3, 2)
    solver = EnergySolver(MLPEnergy(9, 9, width=8), SGD(0.1), init=Uniform((3, 3)), max_steps=4)
    x, target = task.sample(5, generator=seeded())
    for method in (solver, *(make(cls, 9, (3, 3)) for cls in ALL)):
        assert isinstance(method, Operator)
        for steps in (None, 3):
            solution = method.solve(x, steps, generator=seeded())
            assert task.error(solution, target).shape == (5,)
    assert torch.equal(solver.solve(x, 3, generator=seeded()).y, solver.minimize(x, max_steps=3, generator=seeded()).y)
    assert solver.solve(x).steps.max() <= 4


@every
def test_a_baseline_is_built_again_from_its_configuration_and_files(cls, tmp_path):
    arguments = set(inspect.signature(cls).parameters)
    model = make(cls, y_shape=(2, 3), **({"beta": 0.5, "prior": 0.3} if cls is PonderNet else {}))
    assert set(model.config()) == arguments
    plain = json.loads(json.dumps(model.config()))
    assert cls(**plain).config() == model.config()
    save(model, str(tmp_path / "new"))
    loaded = load(str(tmp_path / "new"))
    assert type(loaded) is cls
    assert not loaded.training
    assert loaded.config() == model.config()
    x = torch.randn(4, 6)
    assert torch.equal(loaded.solve(x, generator=seeded()).y, model.solve(x, generator=seeded()).y)


def test_damaged_files_are_recognized(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path)
    model = make(Feedforward)
    save(model, tmp_path)
    weights = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights[:-1])
    with pytest.raises(ValueError, match="truncated or altered"):
        load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(weights)
    config = json.loads((tmp_path / "config.json").read_text())
    for change in ({"class": "Other"}, {"config": {"x_dim": 6}}, {"config": model.config() | {"width": 17}}):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(ValueError, match="describe"):
            load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="does not describe a baseline"):
        load(tmp_path)

    class Own(Feedforward):
        pass

    with pytest.raises(TypeError, match="Own cannot be saved"):
        save(make(Own), tmp_path)


@every
def test_an_answer_that_is_not_finite_is_reported(cls):
    model, x = make(cls), torch.randn(4, 6)
    x[1, 0] = math.nan
    assert (model.solve(x, 30, generator=seeded()).status == Status.NONFINITE).tolist() == [False, True, False, False]
