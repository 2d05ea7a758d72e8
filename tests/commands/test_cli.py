"""The command as a whole: errors in one line, help, ``info``, and once as a user runs it."""

import re
import subprocess
import sys

import pytest

from energysolve import EnergySolver, pretrained
from energysolve.presets import DOMAINS


def test_info_lists_what_is_shipped(run):
    code, out, _ = run("info")
    assert code == 0
    for words in ("energysolve 0.", "torch", "CPU", "CUDA", *pretrained.names()):
        assert words in out


@pytest.mark.parametrize("columns", ["20", "80"])
def test_info_never_cuts_a_name(run, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    _, out, _ = run("info")
    for name in pretrained.names():
        energy = type(EnergySolver.from_pretrained(name).energy).__name__
        assert re.search(rf"^ *{name} +{energy} ", out, flags=re.MULTILINE)


def test_without_arguments_it_shows_the_commands(run):
    code, out, _ = run()
    assert code == 0
    assert all(command in out for command in ("solve", "train", "info"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["solve", "division"], f"Unknown task 'division'; the tasks are: {', '.join(DOMAINS)}."),
        (["train", "division"], "Unknown task 'division'"),
        (["train"], "Missing argument"),
        (["train", "addition", "--device", "abacus"], "No device"),
        (["solve", "addition", "--device", "abacus"], "No device"),
        (["solve"], "Name a task, or a trained model"),
        (["prove"], "No such command 'prove'"),
        (["solve", "addition", "--problems", "0"], "--problems"),
        (["solve", "addition", "--colour", "3"], "No such option"),
        (["solve", "addition", "--model", "nothing"], "no folder nothing"),
        (["train", "addition", "--lr", "-1"], "lr positive"),
        (["train", "addition", "--preset", "fast"], "its presets are: paper, tuned, best"),
        (["train", "addition", "--preset", "best", "--width", "3"], "no setting width"),
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


def test_as_a_command():
    done = subprocess.run(
        [sys.executable, "-m", "energysolve.cli", "solve", "division"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    names = f"the tasks are: {', '.join(DOMAINS)}. For a task of your own, give package.module:Task."
    assert done.stderr == f"energysolve: Unknown task 'division'; {names}\n"
    assert re.fullmatch("", done.stdout)
