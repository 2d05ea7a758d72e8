"""Tables and figures, made from the result files of runs, which are made once and can be resumed."""

import json
import math
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import targets
import torch
from small_presets import BASELINES, small_domains

from energysolve.cli import main
from energysolve.experiments import table1, table3, table4, tables
from energysolve.experiments.runs import Laboratory, Run
from energysolve.presets import DOMAINS, METHODS, Preset

METHOD_NAMES = [*BASELINES, "irem"]


@pytest.fixture
def small(tmp_path):
    """A laboratory for small runs."""
    return laboratory(tmp_path)


def laboratory(folder, **changes):
    return Laboratory(
        folder / "models",
        folder / "results",
        "energysolve reproduce ...",
        problems=20,
        domains=small_domains(),
        iterations=2,
        checkpoint_every=2,
        **changes,
    )


def forbidden(*arguments):
    raise AssertionError("trained again")


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_a_run_is_made_once(small, method):
    run = Run("inverse", method, "paper", seed=3)
    first = small.result(run)
    path = small.results / "runs" / f"inverse-{method}-paper-seed3.json"
    assert json.loads(path.read_text())["difficulties"] == first["difficulties"]
    assert first["seed"] == 3
    assert first["training"]["settings"]["seed"] == 3
    assert {"versions", "hardware", "date", "command"} <= set(first)

    untrainable = replace(small.domains["inverse"], presets={"paper": Preset(forbidden, 1)})
    again = replace(small, domains={"inverse": untrainable})
    assert again.result(run)["difficulties"] == first["difficulties"]
    path.unlink()  # evaluated again, from the weights, with the same problems
    assert again.result(run)["difficulties"] == first["difficulties"]


def test_a_result_on_another_number_of_problems_is_not_taken_for_it(small):
    run = Run("addition", "feedforward")
    small.result(run)
    with pytest.raises(ValueError, match="on 20 problems, and 21 are asked for"):
        replace(small, problems=21).result(run)


@pytest.mark.parametrize("method", ["irem", "recurrent"])
def test_an_interrupted_run_continues(small, method, tmp_path, monkeypatch):
    run = Run("addition", method)
    whole = laboratory(tmp_path / "other").model(run)

    def interrupt(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("energysolve.experiments.runs.finished", interrupt)
        with pytest.raises(KeyboardInterrupt):
            small.model(run)
    folder = small.models / run.name / "checkpoints"
    assert [path.name for path in folder.iterdir()] == ["iteration-00000004.safetensors"]
    resumed = small.model(run)
    for name, weights in whole.state_dict().items():
        assert torch.equal(weights, resumed.state_dict()[name]), name
    training = json.loads((folder.parent / "training.json").read_text())
    assert training["resumed_after"] == 4


def test_the_best_energies_are_runs_like_any_other(small):
    result = small.result(Run("completion", "irem", "best", 2))
    assert result["training"]["settings"]["seed"] == 2
    assert {"copy", "predict zero"} <= set(result["difficulties"]["harder"]["floors"])


def test_changed_settings_are_in_the_name_and_in_the_run(small):
    run = Run("addition", "irem", "tuned", 0, (("iterations", 2), ("step_size", 30.0)))
    assert run.name == "addition-irem-tuned-iterations-2-step-size-30-seed0"
    settings = small.result(run)["training"]["settings"]
    assert (settings["iterations"], settings["step_size"]) == (2, 30.0)


def test_tables_show_the_result_files(small):
    runs = {name: small.result(Run("addition", name)) for name in METHOD_NAMES}
    second = small.result(Run("addition", "irem", "paper", 1))
    found = tables.recorded(small.results, "addition")
    assert [key for key, _ in found.items()] == [(name, "paper") for name in METHOD_NAMES]
    assert len(found["irem", "paper"]) == 2

    text = table1.table(small.results)
    errors = [run["difficulties"]["harder"]["error"] for run in (runs["irem"], second)]
    row = next(line for line in text.splitlines() if line.startswith("| IREM"))
    assert f"{np.mean(errors):.3g} ± {np.std(errors, ddof=1):.1g}" in row
    for name, paper in DOMAINS["addition"].paper.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| {METHODS[name]} "))
        assert str(paper["same"]) in row
        assert str(paper["harder"]) in row
        assert f"{runs[name]['parameters']:,}" in row
    assert "| predict zero |" in text
    assert "Other methods with other settings" not in text
    changed = small.result(Run("addition", "feedforward", "paper", 0, (("batch_size", 3), ("iterations", 2))))
    row = next(line for line in table1.table(small.results).splitlines() if "batch size 3, iterations 2 |" in line)
    assert row.startswith("| Addition | Feedforward |")
    assert row.endswith(f"| 0.7029 | {changed['difficulties']['harder']['error']:.3g} |")
    text = table4.table(small.results)
    row = next(line for line in text.splitlines() if line.startswith("| Feedforward"))
    assert f"{table4.TABLE4['feedforward'][5]} | {runs['feedforward']['composition'][4]:.3g}" in row


@pytest.mark.parametrize("what", ["table1", "table3", "table4", "scratchpad", "figure6"])
def test_tables_are_made(small, what):
    paths = import_module(f"energysolve.experiments.{what}").reproduce(small, "tuned", 1)
    assert small.results / f"{what}.md" in paths
    assert (small.results / f"{what}.md").read_text().startswith("# ")


@pytest.mark.slow
@pytest.mark.parametrize("what", ["figure1", "figure3", "figure4", "figure5", "figure7"])
def test_figures_are_drawn(small, what):
    paths = import_module(f"energysolve.experiments.{what}").reproduce(small, "tuned", 1)
    assert {".png", ".svg"} <= {path.suffix for path in paths}
    assert all(path.stat().st_size for path in paths)


def test_the_command(tmp_path, capsys):
    """With a trained model in place, so that nothing is trained."""
    folder = tmp_path / "models" / Run("addition", "irem", "best").name
    from energysolve import EnergySolver

    EnergySolver.from_pretrained("addition").save_pretrained(folder)
    command = ["reproduce", "figure6", "--preset", "best", "--problems", "20", "--device", "cpu"]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--output", str(tmp_path / "results"), "--models", str(tmp_path / "models")])
    assert ended.value.code == 0
    assert (tmp_path / "results" / "figure6.md").exists()
    assert "Saved" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table2000"], "Unknown table or figure"),
        (["table1", "--preset", "papier"], "Unknown preset"),
        (["table1", "--device", "abacus"], "No device"),
    ],
)
def test_unknown_names(arguments, message, capsys):
    with pytest.raises(SystemExit):
        main(["reproduce", *arguments])
    assert message in capsys.readouterr().err


def test_the_rise_of_a_curve():
    assert targets.rise([9, 9, 9, 9, 9, 4, 3, 2, 2]) == 1.0
    assert targets.rise([0, 0, 0, 0, 0, 4, 2, 3, 1]) == 1.5


def test_a_target_that_is_not_a_number_is_missed():
    assert targets.Target("", 1.0, 1.0).met
    assert not targets.Target("", 1.1, 1.0).met
    assert not targets.Target("", math.nan, 1.0).met


def test_targets_are_judged_by_result_files(tmp_path: Path):
    def write(name, method, preset, same, harder, copied):
        difficulties = {
            key: {"error": error, "floors": {"copy": copied}, "error_by_step": [1.0] * 51}
            for key, error in (("same", same), ("harder", harder))
        }
        run = {"task": "completion", "method": method, "preset": preset, "variant": {}, "difficulties": difficulties}
        (tmp_path / "runs").mkdir(exist_ok=True)
        (tmp_path / "runs" / f"completion-{name}.json").write_text(json.dumps(run))

    write("a", "irem", "tuned", 0.9, 1.2, 1.0)
    write("b", "irem", "tuned", 1.0, 1.0, 1.0)
    write("c", "feedforward", "paper", 2 * 0.0203, 0.2720, 1.0)
    write("d", "irem", "paper", 0.01, 0.3, 1.0)
    found = {each.what: each for each in targets.targets(tmp_path)}
    assert found["completion, `tuned`: error over that of copying, same"].value == pytest.approx(0.95)
    assert found["completion, `tuned`: error over that of copying, same"].met
    assert not found["completion, `tuned`: error over that of copying, harder"].met
    assert found["completion, Feedforward: error over the paper's, same"].value == pytest.approx(2)
    assert found["completion, Feedforward: error over the paper's, harder"].met
    order = targets.order(tmp_path)
    assert "- completion, same: IREM < Feedforward (as in the paper)" in order
    assert "- completion, harder: Feedforward < IREM (the paper: IREM < Feedforward)" in order


def test_targets_of_images(tmp_path: Path):
    def write(method, level, *psnr):
        (tmp_path / "denoising").mkdir(exist_ok=True)
        images = {f"image {number}": {"psnr": value} for number, value in enumerate(psnr)}
        result = {"kind": "denoising", "method": method, "level": level, "images": images}
        (tmp_path / "denoising" / f"{method}-{level}.json").write_text(json.dumps(result))

    write("bm3d", 65, 20.0, 30.0)
    write("best-told", 65, 20.0, 30.2)
    write("best", 65, 20.0, 29.9)
    write("paper", 45, 25.9, 25.9)
    write("paper", 65, 23.8, 23.8)
    (tmp_path / "noisier.json").write_text(json.dumps({"levels": {"65": {"image 0": 20.2, "image 1": 30.2}}}))
    curve = {"psnr_by_step": [20.0, 25.0, 24.98], "psnr": 24.9}
    (tmp_path / "psnr-best.json").write_text(json.dumps({"levels": {"65": curve}}))
    (tmp_path / "denoising-speed.json").write_text(json.dumps({"ratio": 2.1, "evaluations": 40}))
    found = [(each.value, each.met) for each in targets.targets(tmp_path)]
    expected = [(-0.1, True), (0.15, False), (26.52 - 25.9, False), (23.87 - 23.8, False), (0.1, True)]
    expected += [(0.02, True), (0.1, False), (2.1, False), (40, True)]
    assert [met for _, met in found] == [met for _, met in expected]
    assert [value for value, _ in found] == pytest.approx([value for value, _ in expected])


def test_the_order_is_judged_with_either_iterative_network():
    paper = {"irem": 1.0, "iterative": 2.0, "unrolled": 2.0, "recurrent": 3.0}
    judged = targets._verdict
    assert judged(["irem", "iterative", "unrolled", "recurrent"], paper) == "as in the paper"
    assert judged(["irem", "unrolled", "iterative", "recurrent"], paper) == "as in the paper"
    assert judged(["irem", "unrolled", "recurrent"], paper) == "as in the paper"
    assert judged(["irem", "unrolled", "recurrent", "iterative"], paper) == (
        "as in the paper with Iterative feedforward, unrolled for its iterative network"
    )
    missed = judged(["unrolled", "irem", "recurrent", "iterative"], paper)
    assert missed == "the paper: IREM < Iterative feedforward < Recurrent"


@pytest.mark.parametrize("what", ["table3", "scratchpad"])
def test_the_best_preset_has_no_training_to_change(what, tmp_path, capsys):
    command = ["reproduce", what, "--preset", "best", "--output", str(tmp_path / "o"), "--models", str(tmp_path / "m")]
    with pytest.raises(SystemExit):
        main(command)
    assert "take paper or tuned" in " ".join(capsys.readouterr().err.split())


def test_folders_are_made_before_anything_is_trained(tmp_path, capsys):
    (tmp_path / "file").touch()
    command = ["reproduce", "table1", "--output", str(tmp_path / "file"), "--models", str(tmp_path / "m")]
    with pytest.raises(SystemExit):
        main(command)
    assert "cannot be made" in " ".join(capsys.readouterr().err.split())


def test_table3_compares_step_sizes_by_the_seeds_that_all_of_them_have(small):
    (small.results / "runs").mkdir(parents=True)
    for seed, sizes in ((0, (10.0, 100.0)), (1, (100.0,)), (2, (10.0, 100.0))):
        for size in sizes:
            run = table3.runs_of(small, "tuned", seed, scaled=False)[size]
            content = {
                "task": "addition",
                "method": "irem",
                "preset": "tuned",
                "seed": seed,
                "variant": dict(run.variant),
            }
            (small.results / "runs" / f"{run.name}.json").write_text(json.dumps(content))
    found = table3.recorded_runs(small, "tuned", scaled=False)
    assert {size: [run["seed"] for run in runs] for size, runs in found.items()} == {10.0: [0, 2], 100.0: [0, 2]}
