"""``energysolve train``."""

import re

import pytest
import torch

from energysolve import SGD, EnergyChange, EnergySolver, Uniform
from energysolve.presets import DOMAINS
from energysolve.pretrained.files import read_config
from energysolve.training import Cosine, TrainingConfig

SMALL = ["--size", "4", "--width", "16", "--batch-size", "16"]


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
    assert "Interrupted after 2 of 9 iterations; resume=True (--resume) continues from" in out
    assert out.rstrip().endswith("iteration-00000002.safetensors. No solver was saved.")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["checkpoints"]
    monkeypatch.setattr(Trainer, "_iterate", iterate)
    code, _, err = run(*options)
    assert (code, err.count("\n")) == (1, 1)
    assert "holds checkpoints of another run, the latest after iteration 2" in err
    code, out, _ = run(*options, "--checkpoint-every", "1", "--resume")
    assert code == 0
    assert "iteration-00000002.safetensors after iteration 2 of 9." in out
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


def test_the_step_size_at_test_time_keeps_its_ratio_to_that_of_training(run, tmp_path):
    ratio = DOMAINS["addition"].preset("tuned").settings["test_step_size"] / 100
    both = ["--step-size", "1", "--test-step-size", "3"]
    for given, expected in ((["--step-size", "0.5"], 0.5 * ratio), (both, 3.0)):
        code, _, err = run("train", "addition", *SMALL, "--iterations", "1", *given, "--output", "new", "--overwrite")
        assert code == 0, err
        assert EnergySolver.from_pretrained(tmp_path / "new").optimizer.lr == pytest.approx(expected)
