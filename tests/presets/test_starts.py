"""Initial weights and answers of training."""

import pytest
import torch

from energysolve import SGD, EnergySolver, cli
from energysolve.halting import Never
from energysolve.initializers import Symmetric
from energysolve.presets import DOMAINS
from energysolve.tasks import Inverse


def build(name, start, **settings):
    """The task and the trainer."""
    small = {"iterations": 3, "size": 5, "width": 64, "start": start, "standardized": False, "test_step_size": 20.0}
    preset = (
        DOMAINS[name]
        .presets["tuned"]
        .changed({**small, "batch_size": 8, "replay": 20, "validate_every": 0, **settings})
    )
    task = DOMAINS[name].task_at(preset)
    return task, preset.prepare(name, task, cpu=True)[0]


def problems(task, count=32):
    return task.sample(count, generator=torch.Generator().manual_seed(1))[0]


@pytest.mark.parametrize("step_size", [10.0, 1000.0])
def test_the_first_descent_forgets_where_it_began(step_size):
    task, trainer = build("inverse", "probes", step_size=step_size)
    x = problems(task)
    ends = []
    for seed in (0, 1):
        solver = trainer.solver.replace(max_steps=300)
        ends.append(solver.minimize(x, generator=torch.Generator().manual_seed(seed)))
    apart = (ends[0].y - ends[1].y).abs().max()
    begun = (trainer.solver.init(x, trainer.solver.layout(x), torch.Generator().manual_seed(0))).abs().max()
    assert apart < 0.01 * begun


def test_standardized_problems_start_as_they_would_in_their_own_unit():
    task, plain = build("inverse", "probes")
    _, standardized = build("inverse", "probes", standardized=True)
    x = problems(task)
    torch.testing.assert_close(plain.model.encode(x), standardized.model.encode(x), rtol=0.02, atol=0.1)
    weights = [trainer.model.from_x.weight.norm() for trainer in (plain, standardized)]
    assert weights[1] > 1.1 * weights[0]


def test_too_few_units_for_problems_and_answers():
    with pytest.raises(ValueError, match=r"a width of 30 or more .* got 29\. Widen"):
        build("inverse", "probes", width=29)
    build("inverse", "probes", width=30)


@pytest.mark.parametrize("name", ["inverse", "completion"])
def test_that_of_the_paper_does_not(name):
    task, trainer = build(name, "paper")
    x = problems(task)
    solver = trainer.solver.replace(max_steps=30)
    ends = [solver.minimize(x, generator=torch.Generator().manual_seed(seed)).y for seed in (0, 1)]
    assert (ends[0] - ends[1]).abs().max() > 0.2


def test_answers_stay_symmetric_in_training():
    task, trainer = build("inverse", "probes", lr=3e-3)
    before = trainer.model.from_y.weight.detach().clone()
    trainer.fit(30)
    assert (trainer.model.from_y.weight - before).abs().max() > 1e-3
    y = trainer.solver.replace(optimizer=SGD(20.0), halting=Never(), max_steps=20).minimize(problems(task)).y
    torch.testing.assert_close(y, y.mT, rtol=0, atol=1e-5)


def test_no_change_of_the_answer_stands_for_a_change_of_the_problem():
    _, trainer = build("inverse", "probes")
    of_x, of_y = (layer.weight.detach().double() for layer in (trainer.model.from_x, trainer.model.from_y))
    torch.testing.assert_close(of_y.mT @ of_x, torch.zeros(25, 25, dtype=torch.float64), rtol=0, atol=1e-5)
    assert torch.linalg.matrix_rank(of_x, rtol=1e-5) == 5 * 6 // 2  # all that a symmetric problem has
    stretches = torch.linalg.svdvals(of_y)
    torch.testing.assert_close(stretches[:15], torch.ones(15, dtype=torch.float64), rtol=0, atol=1e-5)
    assert stretches[15:].max() < 1e-5


def test_units_look_along_directions_of_their_own():
    _, trainer = build("inverse", "probes")
    probes = torch.nn.functional.normalize(trainer.model.from_x.weight.detach()).view(-1, 5, 5)
    assert torch.linalg.matrix_rank(probes, rtol=1e-4).max() == 1
    alike = (probes.flatten(1) @ probes.flatten(1).mT).fill_diagonal_(0)
    assert alike.abs().max() < 1 - 1e-5
    toward = torch.einsum("kij,kij->k", probes, trainer.model.from_y.weight.detach().view(-1, 5, 5))
    assert 0.2 < (toward > 0).float().mean() < 0.8
    assert toward.abs().mean() > 2 * trainer.model.from_y.weight.norm(dim=1).mean() / 5


def test_the_same_seed_gives_the_same_start():
    first, second, other = (build("inverse", "probes", seed=seed)[1].model for seed in (0, 0, 1))
    for name, weights in first.state_dict().items():
        assert torch.equal(weights, second.state_dict()[name])
    assert not torch.equal(first.from_x.weight, other.from_x.weight)


@pytest.mark.parametrize(
    ("name", "start", "message"),
    [
        ("addition", "probes", "symmetric matrices"),
        ("completion", "probes", "symmetric matrices"),
        ("inverse", "nowhere", "there are: paper, probes"),
    ],
)
def test_a_start_for_another_task(name, start, message):
    with pytest.raises(ValueError, match=message):
        build(name, start)


def test_the_tuned_inverse_on_the_command_line(tmp_path):
    folder = tmp_path / "model"
    arguments = [
        "--iterations",
        "4",
        "--size",
        "4",
        "--width",
        "20",
        "--output",
        str(folder),
        "--checkpoint-every",
        "0",
    ]
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", "inverse", *arguments, "--output", str(folder)])
    assert ended.value.code == 0
    solver = EnergySolver.from_pretrained(folder)
    assert solver.init == Symmetric((4, 4), -0.2, 0.2)
    x = Inverse(4).sample(500, generator=torch.Generator().manual_seed(1))[0].flatten(1)
    assert (x.mean(0) - solver.energy.x_mean).abs().max() < 0.2
    assert solver.energy.x_std == pytest.approx((x - x.mean(0)).square().mean().sqrt().item(), rel=0.1)
