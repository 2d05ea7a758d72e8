"""``energysolve explore``: what it opens, and what it refuses."""

import sys
import types
from pathlib import Path

import explorable
import numpy as np
import pytest

from energysolve import SGD, Energy, EnergySolver, Uniform, cli
from energysolve.commands import explore
from energysolve.commands.explore import _problems, _shape, _subject
from energysolve.energies.analytic import Wood
from energysolve.energies.mlp import MLPEnergy


@pytest.fixture(autouse=True)
def module(monkeypatch, tmp_path):
    """The module ``explorable_module`` can be imported by its name, as a user's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    mine = types.ModuleType("explorable_module")
    mine.__dict__.update(bowl=explorable.bowl, Needy=explorable.Needy, NUMBER=3, Wood=Wood, solver=solver())
    monkeypatch.setitem(sys.modules, "explorable_module", mine)


class Plain(Energy):
    def evaluate(self, context, y):
        return (y - context).square().sum(-1)


def solver():
    return EnergySolver(Plain(), SGD(0.1), init=Uniform((2,)))


def failed(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main(["explore", *arguments])
    assert stop.value.code == 1
    return capsys.readouterr().err


def test_it_serves_the_page(monkeypatch, capsys):
    pytest.importorskip("dash", reason="the extra explore is not installed")
    opened, served = [], []
    monkeypatch.setattr("webbrowser.open", opened.append)

    def run(server):
        served.append(server.socket.getsockname())
        server.server_close()

    monkeypatch.setattr(explore, "_run", run)
    for more in ([], ["--no-browser"]):
        with pytest.raises(SystemExit) as stop:
            cli.main(["explore", "explorable_module:bowl", "--shape", "3", "--port", "0", *more])
        assert stop.value.code == 0
    assert [host for host, _ in served] == ["127.0.0.1"] * 2
    assert opened == [f"http://127.0.0.1:{served[0][1]}"]
    assert f"at http://127.0.0.1:{served[1][1]} (Ctrl-C" in capsys.readouterr().out


def test_mistakes_are_explained(capsys, tmp_path, monkeypatch):
    np.save("x.npy", np.zeros((2, 2)))
    name = "explorable_module:bowl"
    assert "No such option: --host" in failed_usage(capsys, name, "--host", "0.0.0.0")
    assert "Cannot import explorable_module:nothing" in failed(capsys, "explorable_module:nothing")
    assert "is a int; an energy is a function" in failed(capsys, "explorable_module:NUMBER")
    assert "is a class, and cannot be made without arguments" in failed(capsys, "explorable_module:Needy")
    assert "--shape is that of one answer" in failed(capsys, name, "--shape", "two")
    assert "--shape is that of one answer" in failed(capsys, name, "--shape", "1")
    assert "There is no file missing.npy" in failed(capsys, name, "--problem", "missing.npy")
    assert "There is no problem 2: there are 2" in failed(capsys, name, "--problem", "x.npy", "--seed", "2")
    assert "Cannot load the model nothing" in failed(capsys, "nothing")
    assert "needs problems: give a file of them (--problem)" in failed(capsys, "explorable_module:solver")
    monkeypatch.setitem(sys.modules, "energysolve.explore.serving", None)
    assert "pip install 'energysolve[explore]'" in failed(capsys, name)


def failed_usage(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main(["explore", *arguments])
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_what_can_be_explored():
    assert _shape("3,4") == _shape("3x4") == (3, 4)
    assert _subject("explorable_module:bowl", None, None).problem(0)[0].tolist() == [[0, 0]]
    wood = _subject("explorable_module:Wood", None, None)  # four numbers, by its own account
    assert wood.problem(0)[0].shape == (1, 4)
    np.savez("x.npz", x=np.arange(6.0).reshape(3, 2))
    problems = _problems(Path("x.npz"))
    assert _subject("explorable_module:bowl", None, problems).problem(2)[0].tolist() == [[4, 5]]
    kept = _subject("explorable_module:solver", None, problems)
    assert kept.own
    assert kept.problems == 3


def test_a_saved_solver_can_be_explored(tmp_path):
    EnergySolver(MLPEnergy(8, 4, width=8), SGD(1.0), init=Uniform((4,))).save_pretrained(tmp_path / "model")
    subject = _subject("model", None, None)
    x, target = subject.problem(0)
    assert x.shape == (1, 8)
    assert target.shape == (1, 4)
