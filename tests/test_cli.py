"""The command line, run in process; and once as a user runs it."""

import json
import re
import subprocess
import sys

import pytest
import torch

from energysolve import SGD, EnergyChange, EnergySolver, MLPEnergy, Uniform, cli, pretrained
from energysolve.experiments.evaluation import Evaluation, evaluate, step_edges, stream
from energysolve.experiments.report import comparison, milestones
from energysolve.pretrained.files import read_config
from energysolve.tasks import Addition

SMALL = ["--size", "4", "--width", "16", "--batch-size", "16"]


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Runs the command in a temporary folder; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["energysolve", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main(list(arguments))
        captured = capsys.readouterr()
        return stop.value.code, captured.out, captured.err

    return call


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A saved energy of the right shapes; what it adds does not matter here."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    halting = EnergyChange(rtol=1e-3).patience(2)
    solver = EnergySolver(MLPEnergy(8, 4, width=16), SGD(2.0), init=Uniform((4,)), halting=halting, max_steps=40)
    solver.save_pretrained(folder)
    return str(folder)


def test_solve_prints_and_saves(run, model, tmp_path):
    code, out, err = run("solve", "addition", "--model", model, "--problems", "60", "--output", "result")
    assert (code, err) == (0, "")
    for words in ("seed 0", "same", "harder", "IREM", "predict", "3.0e-04", "2.1e-03", "At the same tolerance"):
        assert words in out
    assert {path.name for path in (tmp_path / "result").iterdir()} == {"figure.png", "figure.svg", "result.json"}
    result = json.loads((tmp_path / "result" / "result.json").read_text())
    assert result["command"] == f"energysolve solve addition --model {model} --problems 60 --output result"
    assert result["seed"] == 0
    assert {"python", "torch", "energysolve"} <= set(result["versions"])
    assert {"cpu", "cores"} <= set(result["hardware"])
    for difficulty, zero in (("same", 0.667), ("harder", 4.17)):
        numbers = result["difficulties"][difficulty]
        assert numbers["zero_error"] == pytest.approx(zero, rel=0.2)
        assert len(numbers["error_by_step"]) == numbers["steps"]["max"] + 1 <= 41
        assert numbers["error"] == numbers["error_by_step"][-1]
        assert sum(numbers["steps_counts"].values()) == 60
    assert result["comparison"][0] in " ".join(out.split("\n"))


def test_solve_repeats_with_its_seed_only(run, model, tmp_path):
    def errors(*more):
        run("solve", "addition", "--model", model, "--problems", "20", "--output", "r", *more)
        return json.loads((tmp_path / "r" / "result.json").read_text())["difficulties"]["same"]["error_by_step"]

    first = errors()
    assert errors("--seed", "0") == first
    assert errors("--seed", "1") != first


def test_max_steps_of_zero_leaves_the_initial_answers(run, model):
    code, out, _ = run("solve", "addition", "--model", model, "--problems", "10", "--max-steps", "0")
    assert code == 0
    assert "just as many" in out or "as many steps on average as" in out


def test_train_saves_a_solver_with_its_history(run, tmp_path):
    options = [*SMALL, "--iterations", "4", "--output", "new", "--test-max-steps", "6", "--test-atol", "1e-3"]
    code, out, err = run("train", "addition", *options)
    assert (code, err) == (0, "")
    assert "Saved" in out
    solver = EnergySolver.from_pretrained(tmp_path / "new")
    assert solver.optimizer == SGD(20.0)
    assert solver.halting == EnergyChange(atol=1e-3).patience(2)
    assert solver.max_steps == 6
    training = read_config(tmp_path / "new")["training"]
    assert training["command"].startswith("energysolve train addition --size 4")
    assert training["settings"]["iterations"] == 4
    assert training["settings"]["size"] == 4
    assert training["evaluation"]["harder"]["problems"] == 1000
    assert {"versions", "hardware", "date", "seconds"} <= set(training)

    code, _, err = run("train", "addition", *options)
    assert code == 1
    assert "already holds model.safetensors and config.json" in err
    assert run("train", "addition", *options, "--overwrite")[0] == 0
    assert run("solve", "addition", "--model", "new", "--problems", "5")[0] == 0


def test_train_with_a_scratchpad_and_without_replay(run, tmp_path):
    options = [*SMALL, "--iterations", "2", "--scratchpad", "3", "--replay", "0", "--test-max-steps", "3"]
    assert run("train", "addition", *options)[0] == 0
    assert EnergySolver.from_pretrained(tmp_path / "out" / "addition").scratchpad == Uniform((3,))


def test_training_repeats_with_its_seed(run, tmp_path):
    def weights(folder, seed):
        run(
            "train",
            "addition",
            *SMALL,
            "--iterations",
            "3",
            "--seed",
            seed,
            "--output",
            folder,
            "--test-max-steps",
            "2",
        )
        return read_config(tmp_path / folder)["weights"]["sha256"]

    assert weights("a", "5") == weights("b", "5") != weights("c", "6")


def test_interrupted_training_says_so_and_saves_nothing(run, tmp_path, monkeypatch):
    from energysolve.training import Trainer

    steps = iter([Trainer.step, Trainer.step])

    def step(self):
        try:
            return next(steps)(self)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(Trainer, "step", step)
    code, out, _ = run("train", "addition", *SMALL, "--iterations", "9", "--output", "new")
    assert code == 130
    assert "Interrupted after 2 of 9 iterations; nothing was saved." in out
    assert not list((tmp_path / "new").iterdir())


def test_info_lists_what_is_shipped(run):
    code, out, _ = run("info")
    assert code == 0
    for words in ("energysolve 0.", "torch", "CPU", "CUDA", *pretrained.names()):
        assert words in out


def test_without_arguments_it_shows_the_commands(run):
    code, out, _ = run()
    assert code == 0
    assert all(command in out for command in ("solve", "train", "info"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["solve", "division"], "Unknown task 'division'; the tasks are: addition."),
        (["train", "division"], "Unknown task 'division'"),
        (["solve"], "Missing argument"),
        (["prove"], "No such command 'prove'"),
        (["solve", "addition", "--problems", "0"], "--problems"),
        (["solve", "addition", "--colour", "3"], "No such option"),
        (["solve", "addition", "--model", "nothing"], "no folder nothing"),
        (["train", "addition", "--lr", "-1"], "lr positive"),
        (["train", "addition", "--step-size", "nan"], "finite lr"),
        (["train", "addition", "--test-atol", "0"], "positive tolerance"),
    ],
)
def test_errors_are_one_line(run, arguments, message):
    code, out, err = run(*arguments)
    assert code != 0
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert err.startswith("energysolve: ")


def test_a_model_of_another_task_is_refused(run, tmp_path):
    EnergySolver(MLPEnergy(5, 4, width=8), SGD(1.0), init=Uniform((4,))).save_pretrained(tmp_path / "other")
    code, _, err = run("solve", "addition", "--model", "other")
    assert code == 1
    assert "no energy for addition" in err


def test_a_damaged_model_is_refused(run, tmp_path):
    EnergySolver(MLPEnergy(8, 4, width=8), SGD(1.0), init=Uniform((4,))).save_pretrained(tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").write_bytes(b"")
    code, _, err = run("solve", "addition", "--model", "other")
    assert code == 1
    assert "truncated or altered" in err


def test_an_output_that_cannot_be_written_is_one_line(run, model, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = run("solve", "addition", "--model", model, "--output", "file")
    assert code == 1
    assert err.count("\n") == 1


def test_as_a_command():
    done = subprocess.run(
        [sys.executable, "-m", "energysolve.cli", "solve", "division"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == "energysolve: Unknown task 'division'; the tasks are: addition.\n"
    assert re.fullmatch("", done.stdout)


def test_evaluation_does_not_depend_on_how_it_is_cut(monkeypatch):
    torch.manual_seed(0)
    task = Addition(4)
    solver = EnergySolver(MLPEnergy(8, 4, width=16).double(), SGD(2.0), init=start_at_zero, max_steps=30)
    whole = evaluate(solver, DoubleAddition(task), "same", 23, stream("test", 1))
    monkeypatch.setattr("energysolve.experiments.evaluation._CHUNK", 7)
    cut = evaluate(solver, DoubleAddition(task), "same", 23, stream("test", 1))
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


def test_streams_of_different_purposes_differ():
    draws = {
        torch.rand(1, generator=stream(purpose, seed), dtype=torch.float64).item()
        for purpose in ("train addition", "solve addition", "evaluate addition")
        for seed in range(3)
    }
    assert len(draws) == 9


def test_milestones_and_bins():
    assert milestones(0) == [0]
    assert milestones(1) == [0, 1]
    assert milestones(7) == [0, 1, 2, 5, 7]
    assert milestones(100) == [0, 1, 2, 5, 10, 20, 50, 100]
    assert milestones(300)[-3:] == [100, 200, 300]

    solver = EnergySolver(MLPEnergy(4, 2, width=4), SGD(1.0), init=Uniform((2,)), max_steps=9)
    evaluations = [evaluate(solver, Addition(2), name, 30, stream("test", 0)) for name in ("same", "harder")]
    edges = step_edges(evaluations, bins=4)
    steps = [step for each in evaluations for step in each.steps]
    assert len(edges) <= 5
    assert edges[0] <= min(steps) <= max(steps) < edges[-1]
    assert len(comparison(evaluations)) == 1


def test_errors_that_are_not_finite_survive_as_json():
    evaluation = Evaluation("same", 1, float("inf"), [1.0, float("nan")], [1], 1.0, 0, 2.0)
    written = json.loads(json.dumps(evaluation.to_json(), allow_nan=False))
    assert written["error"] is None
    assert written["error_by_step"] == [1.0, None]
