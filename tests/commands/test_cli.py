"""The command line, run in process; and once as a user runs it."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from energysolve import SGD, EnergyChange, EnergySolver, MLPEnergy, Status, Uniform, cli, pretrained
from energysolve.evaluation.evaluate import Evaluation, evaluate, step_edges
from energysolve.evaluation.report import comparison, milestones
from energysolve.pretrained.files import read_config
from energysolve.seeding import stream
from energysolve.tasks import Addition
from energysolve.training import Cosine, TrainingConfig

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


@pytest.fixture
def problems(tmp_path):
    """A file of problems, relative to the folder that the commands run in."""
    torch.manual_seed(1)
    np.savez(tmp_path / "problems.npz", x=(torch.rand(25, 8) * 2 - 1).numpy())
    return "problems.npz"


def test_solve_a_file(run, model, problems, tmp_path):
    code, out, err = run(
        "solve", "addition", "--model", model, "--input", problems, "--output", "new/answers.npz", "--chunk", "10"
    )
    assert (code, err) == (0, "")
    assert "25/25" in out
    assert "Solved 25 problems" in out
    assert "Saved new/answers.npz" in out
    with np.load(tmp_path / problems) as given, np.load(tmp_path / "new" / "answers.npz") as found:
        solver = EnergySolver.from_pretrained(model)
        for start in (0, 10, 20):
            rows = slice(start, start + 10)
            generator = stream(f"solve file {start}", 0)
            expected = solver.minimize(torch.from_numpy(given["x"][rows]), generator=generator)
            np.testing.assert_allclose(found["y"][rows], expected.y.numpy(), rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(found["energy"][rows], expected.energy.numpy(), rtol=1e-4, atol=1e-5)
        counts = [int((found["status"] == status).sum()) for status in Status]
    words = " ".join(out.split())
    assert f"{counts[0]} converged, {counts[1]} used up their steps, {counts[2]} met a NaN" in words
    assert list((tmp_path / "new").iterdir()) == [tmp_path / "new" / "answers.npz"]


def test_solve_a_file_with_other_settings(run, model, problems, tmp_path):
    def answers(*more):
        options = ["--model", model, "--input", problems, "--output", "a.npz", "--overwrite", *more]
        assert run("solve", "addition", *options)[0] == 0
        with np.load(tmp_path / "a.npz") as found:
            return found["y"], found["steps"]

    first, _ = answers()
    np.testing.assert_array_equal(answers("--seed", "0")[0], first)
    assert (answers("--seed", "1")[0] != first).any()
    y, steps = answers("--max-steps", "0")
    assert not steps.any()
    assert (abs(y) <= 1).all()


def test_an_interrupted_file_is_resumed(run, model, problems, tmp_path, monkeypatch):
    options = ["solve", "addition", "--model", model, "--input", problems, "--chunk", "4"]
    assert run(*options, "--output", "whole.npz")[0] == 0
    minimize, calls = EnergySolver.minimize, []

    def interrupt(self, *arguments, **keywords):
        assert self.compact  # a few slow problems must not keep a whole chunk waiting
        calls.append(None)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return minimize(self, *arguments, **keywords)

    monkeypatch.setattr(EnergySolver, "minimize", interrupt)
    code, out, _ = run(*options, "--output", "a.npz")
    assert code == 130
    assert "Interrupted after 8 problems, which are kept. Go on with --resume." in " ".join(out.split())
    monkeypatch.setattr(EnergySolver, "minimize", minimize)
    code, out, err = run(*options, "--output", "a.npz")
    assert code == 1
    assert "a.npz.partial keeps" in err
    assert err.count("\n") == 1
    code, _, err = run(*options, "--output", "a.npz", "--resume", "--seed", "3")
    assert code == 1
    assert "seed (0 then, 3 now)" in err
    code, out, err = run(*options, "--output", "a.npz", "--resume")
    assert (code, err) == (0, "")
    assert "Solved 17 problems and 8 before" in " ".join(out.split())
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--problems", "5", "--input", "problems.npz", "--output", "a.npz"], "--problems does not go with --input"),
        (["--chunk", "5"], "--chunk goes with --input"),
        (["--resume"], "--resume goes with --input"),
        (["--overwrite"], "--overwrite goes with --input"),
        (["--input", "problems.npz"], "--output answers.npz"),
        (["--input", "problems.npz", "--output", "a.npz", "--chunk", "0"], "--chunk"),
        (["--input", "problems.npz", "--output", "a.npz", "--resume", "--overwrite"], "choose one"),
        (["--input", "problems.npz", "--output", "a.txt"], ".npz or .csv"),
        (["--input", "problems.npz", "--output", "there.npz"], "there.npz exists"),
        (["--input", "problems.npz", "--output", "there.npz/a.npz"], "irectory"),
        (["--input", "missing.npz", "--output", "a.npz"], "no file missing.npz"),
        (["--input", "wide.csv", "--output", "a.npz"], "takes 8"),
        (["--input", "text.csv", "--output", "a.npz"], "line 2: 'x' is not a number"),
    ],
)
def test_errors_about_files_are_one_line(run, model, problems, tmp_path, arguments, message):
    (tmp_path / "there.npz").write_text("precious")
    (tmp_path / "wide.csv").write_text(",".join("1" * 9))
    (tmp_path / "text.csv").write_text("1,2,3,4,5,6,7,8\n1,2,3,x,5,6,7,8\n")
    code, _, err = run("solve", "addition", "--model", model, *arguments)
    assert code != 0
    assert message in err
    assert err.count("\n") == 1
    assert err.startswith("energysolve: ")
    assert (tmp_path / "there.npz").read_text() == "precious"


def test_train_saves_a_solver_with_its_history(run, tmp_path):
    options = [*SMALL, "--iterations", "4", "--output", "new", "--test-max-steps", "6", "--test-atol", "1e-3"]
    code, out, err = run("train", "addition", *options)
    assert (code, err) == (0, "")
    assert "Saved" in out
    solver = EnergySolver.from_pretrained(tmp_path / "new")
    assert solver.optimizer == SGD(10.0)
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


def test_interrupted_training_says_so_and_is_resumed(run, tmp_path, monkeypatch):
    from energysolve.training import Trainer

    iterate = Trainer._iterate

    def interrupted(self):
        if self.iteration == 2:
            raise KeyboardInterrupt
        return iterate(self)

    monkeypatch.setattr(Trainer, "_iterate", interrupted)
    options = ("train", "addition", *SMALL, "--iterations", "9", "--output", "new")
    code, out, _ = run(*options, "--checkpoint-every", "1")
    assert code == 130
    assert "Interrupted after 2 of 9 iterations; no solver was saved." in out
    assert "with --resume goes on from" in out
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["checkpoints"]
    monkeypatch.setattr(Trainer, "_iterate", iterate)
    code, _, err = run(*options)
    assert (code, err.count("\n")) == (1, 1)
    assert "holds checkpoints of another run, the latest after iteration 2" in err
    code, out, _ = run(*options, "--checkpoint-every", "1", "--resume")
    assert code == 0
    assert "Resumed after iteration 2." in out
    assert run(*options[:-1], "whole")[0] == 0
    weights = [EnergySolver.from_pretrained(tmp_path / name).state_dict() for name in ("new", "whole")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_presets_and_settings(run, tmp_path):
    options = ("--preset", "paper", *SMALL, "--iterations", "3", "--ema", "0.5", "--schedule", "cosine")
    trackers = ("--tracker", "csv", "--log-every", "1", "--validate-every", "2", "--output", "new")
    code, out, err = run("train", "addition", *options, *trackers)
    assert code == 0, err
    assert re.search(r"2  same: error .*, energy .* -> .*, .* steps;  harder", out)
    training = read_config(tmp_path / "new")["training"]
    settings = TrainingConfig.from_json(training["settings"]["training"])
    assert (settings.lr, settings.ema, settings.schedule) == (1e-4, 0.5, Cosine())
    assert training["preset"] == "paper"
    rows = (tmp_path / "new" / "progress.csv").read_text().splitlines()
    assert rows[0].startswith("iteration,loss,lr,same/error")
    assert [row.partition(",")[0] for row in rows[1:]] == ["1", "2", "2", "3"]


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
        (["solve", "division"], "Unknown task 'division'; the tasks are: addition, completion, inverse."),
        (["train", "division"], "Unknown task 'division'"),
        (["solve"], "Missing argument"),
        (["prove"], "No such command 'prove'"),
        (["solve", "addition", "--problems", "0"], "--problems"),
        (["solve", "addition", "--colour", "3"], "No such option"),
        (["solve", "addition", "--model", "nothing"], "no folder nothing"),
        (["train", "addition", "--lr", "-1"], "lr positive"),
        (["train", "addition", "--preset", "fast"], "the presets are: paper, tuned, best"),
        (["train", "addition", "--preset", "best", "--lr", "1e-3"], "--lr does not go with --preset best"),
        (["train", "addition", "--schedule", "steep"], "the schedules are: one-cycle, constant, cosine"),
        (["train", "addition", "--precision", "half"], "precision among no, bf16, fp16"),
        (["train", "addition", "--tracker", "diary"], "diary"),
        (["train", "addition", "--resume", "--overwrite"], "choose one"),
        (["train", "addition", "--resume", "--checkpoint-every", "0"], "needs checkpoints"),
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
    assert done.stderr == "energysolve: Unknown task 'division'; the tasks are: addition, completion, inverse.\n"
    assert re.fullmatch("", done.stdout)


def test_evaluation_does_not_depend_on_how_it_is_cut(monkeypatch):
    torch.manual_seed(0)
    task = Addition(4)
    solver = EnergySolver(MLPEnergy(8, 4, width=16).double(), SGD(2.0), init=start_at_zero, max_steps=30)
    whole = evaluate(solver, DoubleAddition(task), "same", 23, stream("test", 1))
    monkeypatch.setattr("energysolve.evaluation.evaluate._CHUNK", 7)
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
