"""A domain of a user's own: an energy, a task and a preset, registered in this file and nowhere else."""

import json
import sys
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import nn

from energysolve import SGD, Energy, EnergySolver, GradientNorm, Uniform
from energysolve.cli import main
from energysolve.initializers import Initializer
from energysolve.presets import DOMAINS, Domain, Preset, at_size, domain_named, domain_of, register
from energysolve.tasks import Task
from energysolve.training import TrainingConfig


@dataclass(frozen=True)
class Doubling(Task):
    """The answer is twice the problem."""

    size: int = 4
    init: Initializer = field(init=False, repr=False)
    difficulties = ("same", "harder")
    error_name = "mean squared distance"

    def __post_init__(self):
        object.__setattr__(self, "init", Uniform((self.size,)))

    def sample(self, batch, difficulty="same", generator=None, device=None):
        self.check_difficulty(difficulty)
        x = torch.randn(batch, self.size, generator=generator, device=device) * (1 if difficulty == "same" else 3)
        return x, 2 * x

    def error(self, solution, target):
        return (solution.y - target).square().mean(-1)

    def floors(self, difficulty, x, target, mean_target=None):
        return super().floors(difficulty, x, target) | {"repeat": self.error_of(x, x, target)}


class FactorEnergy(Energy):
    """The answer is a learned multiple of the problem."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size
        self.factor = nn.Parameter(torch.ones(()))

    def evaluate(self, context, y):
        return (y - self.factor * context).square().sum(-1) / 2

    def config(self):
        return {"size": self.size}


def build(task, settings):
    solver = EnergySolver(FactorEnergy(task.size), SGD(settings["step_size"]), init=task.init)
    return solver.replace(halting=GradientNorm(1e-4))


def task_of(solver):
    if not isinstance(solver.energy, FactorEnergy):
        raise ValueError("the model does not double")
    return Doubling(solver.energy.size)


def resized(solver, problem_shape):
    energy = FactorEnergy(problem_shape[0])
    energy.load_state_dict(solver.energy.state_dict())
    return solver.replace(energy=energy, init=Uniform(problem_shape))


QUICK = Preset(
    build, 120, TrainingConfig(train_steps=8, batch_size=16, lr=0.2), settings={"step_size": 0.5}, validate_every=30
)
DOUBLING = Domain(
    name="doubling",
    title="Doubling",
    task=Doubling,
    size=4,
    task_of=task_of,
    presets={"tuned": QUICK, "paper": QUICK.changed({"iterations": 2})},
    energies=(FactorEnergy,),
    at_size=resized,
    paper={"irem": {"same": 0.5}},
)


@pytest.fixture(autouse=True)
def registered():
    register(DOUBLING)
    yield
    del DOMAINS["doubling"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a trained solver."""
    register(DOUBLING)
    folder = tmp_path_factory.mktemp("doubling")
    assert run("train", "doubling", "--output", str(folder)) == 0
    return folder


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return ended.value.code


def test_training_saves_what_was_learned(trained):
    solver = EnergySolver.from_pretrained(trained)
    assert solver.energy.factor.item() == pytest.approx(2, abs=0.02)
    training = json.loads((trained / "config.json").read_text())["training"]
    assert training["task"] == "doubling"
    assert training["settings"]["step_size"] == 0.5
    # The error of repeating the problem is that of its own size, of answering zero four times that.
    floors = training["evaluation"]["same"]["floors"]
    assert floors["predict zero"] == pytest.approx(4 * floors["repeat"])
    assert training["evaluation"]["same"]["error"] < 0.01 * floors["repeat"]


def test_fresh_problems_are_solved_with_floors_and_a_figure(trained, tmp_path, capsys):
    assert run("solve", "doubling", "--model", str(trained), "--problems", "30", "--output", str(tmp_path)) == 0
    out = capsys.readouterr().out
    assert "Mean squared distance" in out
    assert "repeat" in out
    assert "5.0e-01" in out  # the paper's
    result = json.loads((tmp_path / "result.json").read_text())
    assert set(result["difficulties"]["harder"]["floors"]) == {"predict zero", "repeat"}
    assert (tmp_path / "figure.png").stat().st_size > 10_000


@pytest.mark.parametrize("size", [4, 6])
@pytest.mark.parametrize("task", [("doubling",), ()])
def test_a_file_is_solved(trained, tmp_path, size, task):
    x = np.random.default_rng(0).normal(size=(5, size)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    files = ("--input", str(tmp_path / "x.npy"), "--output", str(tmp_path / "y.npz"))
    assert run("solve", *task, "--model", str(trained), *files) == 0
    np.testing.assert_allclose(np.load(tmp_path / "y.npz")["y"], 2 * x, rtol=0.02, atol=0.01)


def test_settings_of_a_preset_are_options(trained, tmp_path, capsys):
    options = ("--iterations", "1", "--step-size", "0.25", "--validate-every", "0", "--lr", "0.1")
    assert run("train", "doubling", *options, "--output", str(tmp_path)) == 0
    settings = json.loads((tmp_path / "config.json").read_text())["training"]["settings"]
    assert (settings["step_size"], settings["training"]["lr"]) == (0.25, 0.1)
    capsys.readouterr()
    assert run("train", "doubling", "--width", "3", "--output", str(tmp_path / "other")) == 1
    assert "This preset has no setting width" in capsys.readouterr().err


def test_the_tables_know_it(trained, tmp_path):
    from energysolve.experiments import figure3, table1
    from energysolve.experiments.runs import Laboratory

    laboratory = Laboratory(tmp_path / "models", tmp_path / "results", "", 10, domains={"doubling": DOUBLING})
    table1.reproduce(laboratory, "tuned", 1)
    text = (tmp_path / "results" / "table1.md").read_text()
    assert "## Doubling" in text
    assert "| repeat |" in text
    laboratory = Laboratory(tmp_path / "models", tmp_path / "results", "", 10, domains={"doubling": DOUBLING})
    assert figure3.reproduce(laboratory, "tuned", 1)


def test_registration():
    assert register(DOUBLING) is domain_named("doubling")
    assert domain_of(build(Doubling(3), {"step_size": 1.0})) is DOUBLING
    assert at_size(build(Doubling(3), {"step_size": 1.0}), (8,)).energy.size == 8
    with pytest.raises(ValueError, match="There is a domain 'doubling' already"):
        register(Domain("doubling", "Other", Doubling, 4, task_of, {}))
    with pytest.raises(ValueError, match=r"the tasks are: addition, .*, shortest-path, denoise, doubling"):
        domain_named("doublign")
    with pytest.raises(ValueError, match="has no preset 'best'; its presets are: tuned, paper"):
        DOUBLING.preset("best")
    with pytest.raises(ValueError, match="no method 'psychic'"):
        DOUBLING.preset("tuned", "psychic")


MODULE = """
import torch
from torch import nn
from energysolve import Energy, Uniform
from energysolve.tasks import Task

class Halving(Task):
    init = Uniform((3,))

    def sample(self, batch, difficulty="same", generator=None, device=None):
        x = torch.rand(batch, 3, generator=generator, device=device)
        return x, x / 2

    def error(self, solution, target):
        return (solution.y - target).square().mean(-1)

class Learned(Energy):
    def __init__(self, size):
        super().__init__()
        self.size = size
        self.factor = nn.Parameter(torch.ones(()))

    def evaluate(self, context, y):
        return (y - self.factor * context).square().sum(-1) / 20

    def config(self):
        return {"size": self.size}

def make_energy(task):
    return Learned(3)
"""


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    """The name of a module in the current folder."""
    (tmp_path / "halving_module.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(tmp_path)])
    yield "halving_module"
    sys.modules.pop("halving_module", None)


def test_a_task_and_an_energy_of_the_users_own_on_the_command_line(user_module, tmp_path, capsys):
    own = ("--energy", f"{user_module}:make_energy", "--test-atol", "1e-10", "--test-step-size", "5")
    options = (*own, "--iterations", "80", "--step-size", "5", "--lr", "0.05", "--validate-every", "0")
    assert run("train", f"{user_module}:Halving", *options, "--output", "model") == 0
    x = np.random.default_rng(0).random((4, 3), dtype=np.float32)
    np.savez("problems.npz", x=x)
    files = ("--input", "problems.npz", "--output", "answers.npz")
    assert run("solve", "--model", "model", "--energy", f"{user_module}:Learned", *files) == 0
    np.testing.assert_allclose(np.load("answers.npz")["y"], x / 2, atol=0.02)
    capsys.readouterr()
    assert run("solve", "--model", "model", *files, "--overwrite") == 1
    assert "is not a registered class" in capsys.readouterr().err


def test_a_task_of_the_users_own_trains_the_papers_network(user_module, capsys):
    options = ("--iterations", "2", "--width", "8", "--batch-size", "4", "--validate-every", "0", "--seed", "1")
    assert run("train", f"{user_module}:Halving", *options, "--output", "model") == 0
    solver = EnergySolver.from_pretrained("model")
    assert (solver.energy.x_dim, solver.energy.y_dim, solver.energy.width) == (3, 3, 8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "halving_module:Nothing"), "Cannot import halving_module:Nothing"),
        (("train", "no_such_module:Task"), "Cannot import no_such_module:Task"),
        (("train", "halving_module:Learned", "--size", "3"), "a task is a subclass of energysolve.tasks.Task"),
        (("train", "halving_module:Halving", "--size", "3"), "cannot be called with (3,)"),
        (("train", "addition", "--energy", "halving_module:make_energy"), "--energy is for a task of your own"),
        (("train", "additoin"), "components, shortest-path, denoise, doubling. For a task of your own"),
        (("solve",), "Name a task, or a trained model with --model"),
    ],
)
def test_errors_are_one_line(user_module, capsys, arguments, message):
    assert run(*arguments) == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_data_is_for_tasks_that_take_data(tmp_path):
    with pytest.raises(ValueError, match="Doubling draws its problems at random and takes no folder of data"):
        DOUBLING.task_at(QUICK, tmp_path)
    task = DOMAINS["denoise"].task_at(DOMAINS["denoise"].preset("paper"), tmp_path)
    assert (task.folder, task.size) == (str(tmp_path), 80)
