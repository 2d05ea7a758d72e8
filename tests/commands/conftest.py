"""The command line, run in process."""

import sys

import pytest
import torch

from energysolve import SGD, EnergyChange, EnergySolver, MLPEnergy, Uniform, cli


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
    halting = EnergyChange(rtol=3e-2).patience(2)
    solver = EnergySolver(MLPEnergy(8, 4, width=16), SGD(2.0), init=Uniform((4,)), halting=halting, max_steps=40)
    solver.save_pretrained(folder)
    return str(folder)
