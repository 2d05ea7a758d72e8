"""``energysolve solve``."""

import importlib
import json

import numpy as np
import pytest
import torch
from rich.console import Console

from energysolve import SGD, EnergySolver, MLPEnergy, Status, Uniform, Zeros
from energysolve.evaluation.evaluate import evaluate
from energysolve.evaluation.report import print_evaluations
from energysolve.seeding import stream
from energysolve.tasks import Inverse


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
        assert numbers["floors"]["predict zero"] == pytest.approx(zero, rel=0.2)
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
        assert run("solve", "addition", *options)[0] == ("--max-steps" in more)  # no problem is solved in 0 steps
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
    assert "Interrupted after 8 problems, which are kept. Continue with --resume." in " ".join(out.split())
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
        (["--input", "problems.npz", "--output", "a.txt"], ".npz, .csv, .parquet"),
        (["--input", "problems.npz", "--output", "there.npz"], "there.npz exists"),
        (["--input", "problems.npz", "--output", "there.npz/a.npz"], "irectory"),
        (["--input", "missing.npz", "--output", "a.npz"], "no file missing.npz"),
        (["--header"], "--header goes with --input"),
        (["--input", "problems.npz", "--no-index", "--output", "a.npz"], "header and index are for tables"),
        (["--input", "empty.csv", "--output", "a.npz"], "empty.csv holds no problems"),
        (
            ["--input", "names.csv", "--output", "a.npz"],
            "names.csv holds no problems. Its only line was taken for names",
        ),
        (["--input", "empty.npz", "--output", "a.npz"], "empty.npz is empty"),
        (["--input", "none.npy", "--output", "a.npz"], "none.npy holds no problems"),
        (["--input", "pandas.csv", "--output", "a.npz"], "the first line is 0,1,2,..."),
        (["--input", "wide.csv", "--output", "a.npz"], "takes 8"),
        (["--input", "text.csv", "--output", "a.npz"], "line 2: 'x' is not a number"),
    ],
)
def test_errors_about_files_are_one_line(run, model, problems, tmp_path, arguments, message):
    (tmp_path / "there.npz").write_text("precious")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "names.csv").write_text("a,b,c,d,e,f,g,h\n")
    np.save(tmp_path / "none.npy", np.zeros((0, 8)))
    (tmp_path / "pandas.csv").write_text("0,1,2,3,4,5,6,7\n" + "0.5," * 7 + "0.5\n")
    (tmp_path / "wide.csv").write_text(",".join("1" * 9))
    (tmp_path / "text.csv").write_text("1,2,3,4,5,6,7,8\n1,2,3,x,5,6,7,8\n")
    code, _, err = run("solve", "addition", "--model", model, *arguments)
    assert code != 0
    assert message in err
    assert err.count("\n") == 1
    assert err.startswith("energysolve: ")
    assert (tmp_path / "there.npz").read_text() == "precious"


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


def test_a_file_that_a_users_energy_is_not_made_for(run, tmp_path, monkeypatch):
    (tmp_path / "pairs_energy.py").write_text(
        "from energysolve import Energy\n"
        "class Pairs(Energy):\n"
        "    def encode(self, x):\n"
        "        return x.reshape(len(x), -1, 2)\n"
        "    def evaluate(self, context, y):\n"
        "        return (context - y[:, None]).square().sum((1, 2))\n"
        "    def config(self):\n"
        "        return {}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    pairs = importlib.import_module("pairs_energy").Pairs()
    EnergySolver(pairs, init=Zeros((2,))).save_pretrained(tmp_path / "pairs")
    options = ("--model", "pairs", "--energy", "pairs_energy:Pairs", "--output", "a.csv", "--overwrite")
    for columns, expected in ((6, 0), (5, 1)):
        np.savetxt(tmp_path / "p.csv", np.arange(2.0 * columns).reshape(2, -1), delimiter=",")
        code, _, err = run("solve", *options, "--input", "p.csv")
        assert (code != 0) == expected, err
    assert "p.csv: the energy Pairs failed on problems of shape (5,): " in " ".join(err.split())
    assert "Traceback" not in err


def test_users_tasks_have_no_column_of_the_paper(capsys):
    solver = EnergySolver.from_pretrained("inverse")
    found = evaluate(solver, Inverse(), "same", 4, torch.Generator().manual_seed(0))
    for paper, expected in (({}, False), ({"same": 0.1}, True)):
        print_evaluations(Console(width=80), [found], paper, "error")
        assert ("paper's" in capsys.readouterr().out) == expected
