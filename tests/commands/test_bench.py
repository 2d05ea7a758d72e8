"""The measurements of speed and memory, on tiny sizes: that they measure what they say. The bounds are not for here."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from energysolve import SGD, EnergySolver, MLPEnergy, Never, Truncated, Uniform, Unroll
from energysolve.benchmarks import collection, families, iteration, memory, optimizers, solving, steady, target
from energysolve.benchmarks.plain_run import PlainRun
from energysolve.benchmarks.products import Product, executed_flop, flop, iteration_products, multiplying
from energysolve.benchmarks.reference import PlainEnergy, plain_descent
from energysolve.benchmarks.report import Bound, Report
from energysolve.benchmarks.setting import Setting
from energysolve.benchmarks.timing import alternating, paired, ratio
from energysolve.energies.more_garbow_hillstrom import more_garbow_hillstrom
from energysolve.training import Progress, Trainer
from energysolve.training.trainer import Loss

TINY = Setting(size=3, width=8, batch_size=4, replay=20, step_size=2.0, compile=False)
SMALL = ["--size", "3", "--width", "8", "--batch-size", "4", "--rounds", "2", "--no-compile"]


@pytest.fixture
def run(run, monkeypatch):
    """The command on a wide terminal, whose tables are not wrapped."""
    monkeypatch.setenv("COLUMNS", "160")
    return run


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Nothing that takes long."""
    monkeypatch.setattr(iteration, "PEAK", 64)
    monkeypatch.setattr(memory, "STEPS", (2, 6))
    monkeypatch.setattr(solving, "BATCHES", (8,))
    monkeypatch.setattr(target, "EVERY", 3)


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    solver = EnergySolver(MLPEnergy(8, 4, width=16), SGD(2.0), init=Uniform((4,)), max_steps=3)
    solver.save_pretrained(tmp_path / "m")
    return str(tmp_path / "m")


def test_all_measurements_are_written_and_told(run, model, tmp_path):
    options = [*SMALL, "--iterations", "4", "--reference-iterations", "7", "--model", model, "--output", "results"]
    code, out, err = run("bench", "all", *options, "--seed", "5")
    assert (code, err) == (0, "")
    kinds = {"iteration": "iteration", "solving": "solving", "memory": "memory", "target": "target"}
    for file, kind in kinds.items():
        result = json.loads((tmp_path / "results" / f"{file}.json").read_text())
        assert (result["kind"], result["seed"], result["complete"]) == (kind, 5, True)
        assert result["command"].startswith("energysolve bench all --size 3")
        assert {"versions", "hardware", "date", "setting", "figures"} <= set(result)
        assert result["rows"]
        assert result["bounds"]
        assert result["title"] in out
        assert all(bound["what"] in out for bound in result["bounds"])


def test_iteration_tells_what_the_machine_did(run, tmp_path, monkeypatch):
    seconds = {
        "ours": [2.0, 4.0],
        "plain reference": [4.0, 5.0],
        "its products alone": [1.0, 1.0],
        "64³ products": [1e-3, 2e-3],
    }

    def timed(functions, rounds, calls, device):
        for function in functions.values():
            function()
        return {name: seconds[name] for name in functions}

    monkeypatch.setattr(iteration, "alternating", timed)
    assert run("bench", "iteration", *SMALL, "--output", "it.json")[0] == 0
    result = json.loads((tmp_path / "it.json").read_text())
    rows = {row["what"]: row for row in result["rows"]}
    assert list(rows) == list(seconds)
    assert {name: row["ms"] for name, row in rows.items()} == pytest.approx(
        {"ours": 3000, "plain reference": 4500, "its products alone": 1000, "64³ products": 1.5}
    )
    assert rows["ours"]["over_reference"] == pytest.approx((2 / 4 + 4 / 5) / 2)
    assert rows["plain reference"]["over_reference"] == 1
    needed = result["figures"]["flop_needed"]
    assert rows["ours"]["gflop_per_s"] == pytest.approx(needed * (1 / 2 + 1 / 4) / 2 / 1e9)
    peaks = [2 * 64**3 / each for each in seconds["64³ products"]]
    shares = [needed / each / peak for each, peak in zip(seconds["ours"], peaks, strict=True)]
    assert rows["ours"]["share_of_peak"] == pytest.approx(sum(shares) / 2)
    assert rows["64³ products"]["share_of_peak"] == 1


def test_without_the_device_or_the_measurement_it_is_one_line(run):
    for arguments, message in (
        (
            ["bench", "everything"],
            "Unknown measurement 'everything'; choose one of: iteration, solve,",
        ),
        (["bench", "--device", "tpu"], "No device 'tpu'"),
        (["bench", "--rounds", "1"], "--rounds"),
    ):
        code, out, err = run(*arguments)
        assert code != 0
        assert out == ""
        assert message in err
        assert err.count("\n") == 1


def test_an_interrupted_measurement_keeps_what_it_has(run, tmp_path, monkeypatch):
    advance = PlainRun.advance
    calls = iter([advance])

    def interrupted(*arguments):
        try:
            return next(calls)(*arguments)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(PlainRun, "advance", interrupted)
    code, out, _ = run("bench", "target", *SMALL, "--iterations", "4")
    assert code == 130
    assert "out/bench/target.json keeps what was measured" in out
    result = json.loads((tmp_path / "out" / "bench" / "target.json").read_text())
    assert result["complete"] is False
    assert [at["iteration"] for at in result["figures"]["reference_history"]] == [3]

    monkeypatch.setattr(PlainRun, "advance", advance)
    options = [*SMALL, "--iterations", "4", "--reference-iterations", "9", "--resume"]
    assert run("bench", "target", *options)[0] == 0
    resumed = json.loads((tmp_path / "out" / "bench" / "target.json").read_text())["figures"]["reference_history"]
    assert [at["iteration"] for at in resumed] == [3, 6, 9]
    assert resumed[0] == result["figures"]["reference_history"][0]
    code, _, err = run("bench", "target", *options, "--seed", "1")
    assert code == 1
    assert "another setting" in err


def test_the_products_are_those_that_are_executed():
    """At the paper's sizes: ours does them, and one more that autograd cannot know to be of no use."""
    setting = Setting(batch_size=2, replay=20)
    sizes = (4, 800, 400, 512, 3, 5)
    assert flop(iteration_products(256, *sizes[1:])) == pytest.approx(5.54e9, rel=1e-3)
    executed = {}
    for name, step in (("ours", setting.trainer().step), ("plain", setting.reference().step)):
        step()  # from here on as many replayed problems
        executed[name] = executed_flop(step)
    needed = flop(iteration_products(*sizes))
    assert executed["ours"] == pytest.approx(needed, rel=0.025)
    assert executed["plain"] > 1.4 * needed


def test_multiplying_does_the_products():
    products = [Product(3, 4, 5, left_transposed=True), Product(3, 4, 5, right_transposed=True), Product(6, 2, 1)]
    assert executed_flop(multiplying(products)) == flop(products) == 2 * (60 + 60 + 12)


def test_the_plain_reference_computes_what_the_library_does():
    torch.manual_seed(0)
    energy = MLPEnergy(6, 3, width=8, depth=2)
    plain = PlainEnergy.like(energy)
    training = TINY.reference()
    training.energy = plain
    training.adam = torch.optim.Adam(plain.parameters(), lr=0.0)
    x, _, y = training.draw(5)
    torch.testing.assert_close(plain(x, y), energy(x, y))
    solver = EnergySolver(energy, SGD(2.0), halting=Never(), differentiation=Truncated(1), max_steps=5)
    torch.testing.assert_close(plain_descent(plain, x, y, 5, 2.0), solver.minimize(x, y).y)

    training.seed(7)
    loss = training.step()  # new problems alone
    training.seed(7)
    x, answers, y = training.draw(4)
    torch.testing.assert_close(answers, x.view(4, 2, 3).sum(1))
    ours, found, _ = Loss(solver, TINY.task)(x, answers, y, None)
    ours.backward()
    torch.testing.assert_close(loss, ours.detach())
    torch.testing.assert_close(plain.hidden[0].weight.grad[:, :6], energy.from_x.weight.grad)
    torch.testing.assert_close(plain.hidden[0].weight.grad[:, 6:], energy.from_y.weight.grad)
    torch.testing.assert_close(plain.hidden[1].weight.grad, energy.hidden[0].weight.grad)
    torch.testing.assert_close(torch.stack([row[2] for row in training.buffer]), found.detach())

    x_before = {tuple(row[0].tolist()) for row in training.buffer}
    training.step()  # four new ones and four replayed
    assert len(training.buffer) == 12
    assert {tuple(row[0].tolist()) for row in training.buffer[8:]} <= x_before
    for _ in range(3):
        training.step()
    assert len(training.buffer) == TINY.replay


def test_the_plain_reference_of_a_scaled_and_standardized_energy():
    torch.manual_seed(0)
    energy = MLPEnergy(6, 3, width=8, depth=2, scale=3.0, standardized=True).double()
    x, y = torch.randn(20, 6).double() * 4 + 7, torch.randn(20, 3).double()
    energy.standardize(x)
    torch.testing.assert_close(PlainEnergy.like(energy).double()(x, y), energy(x, y), rtol=1e-4, atol=1e-4)


def test_a_resumed_reference_is_the_same(tmp_path):
    problems = target._problems(TINY, 10)
    whole = PlainRun(TINY)
    for _ in range(4):
        whole.advance(problems, 3)
    first = PlainRun(TINY, tmp_path / "state.safetensors")
    for _ in range(2):
        first.advance(problems, 3)
    second = PlainRun(TINY, tmp_path / "state.safetensors")
    second.resume()
    assert second.history == first.history
    for _ in range(2):
        second.advance(problems, 3)
    assert [at["errors"] for at in second.history] == [at["errors"] for at in whole.history]
    assert [at["iteration"] for at in second.history] == [3, 6, 9, 12]
    for ours, other in zip(second.training.energy.parameters(), whole.training.energy.parameters(), strict=True):
        assert torch.equal(ours, other)
    nowhere = PlainRun(TINY, tmp_path / "nothing")
    nowhere.resume()
    assert not nowhere.history


def test_the_target_is_reached_where_one_test_meets_all_of_it():
    run = PlainRun(TINY)
    errors = [((1.0, 9.0), (9.0, 1.0)), ((2.0, 2.0), (1.0, 1.0)), ((0.0, 0.0), (1.0, 1.0))]
    run.history = [
        {"errors": {test: {"same": same, "harder": harder} for test, (same, harder) in zip("ab", pair, strict=True)}}
        for pair in errors
    ]
    assert run.reached({"same": 1.0, "harder": 1.0}) is run.history[1]
    assert run.reached({"same": 0.5, "harder": 0.5}) is run.history[2]
    assert run.reached({"same": -1.0, "harder": 9.0}) is None


def test_the_target_counts_our_slower_run_against_the_time_until_the_target(tmp_path, monkeypatch):
    monkeypatch.setattr(target, "TARGETS", {"same": 1e9, "harder": 1e9})  # at the first evaluation
    times = iter([steady.FitTime(2.0, 1.0, 0.1), steady.FitTime(3.0, 1.0, 0.1)])
    monkeypatch.setattr(target, "timed_fit", lambda trainer, iterations: next(times))
    report = Report(tmp_path / "t.json", "command", TINY)
    run = PlainRun(TINY)
    target.measure_target(TINY, report, run, iterations=2, problems=4)
    content = json.loads(report.path.read_text())
    assert [row["seconds"] for row in content["rows"]] == [2.0, run.history[0]["seconds"], 3.0]
    assert [row["iterations"] for row in content["rows"]] == [2, 3, 2]
    assert report.bounds[0].value == 3.0 / run.seconds
    assert content["figures"]["reference_reached"] is True


class FakeTrainer(Trainer):
    """Trains on a clock of its own: 100 s for the second iteration, 1 s for the others."""

    iteration = 0

    def __init__(self, monkeypatch):
        self.now = 0
        self.device = torch.device("cpu")
        monkeypatch.setattr(steady, "clock", lambda device: self.now)

    def fit(self, iterations, callback):  # pyright: ignore
        for self.iteration in range(1, iterations + 1):
            self.now += 100 if self.iteration == 2 else 1
            callback(Progress(self.iteration, iterations, 0.0, 0.0))


@pytest.mark.parametrize("iterations", [4, 100])
def test_compilation_is_told_apart(monkeypatch, iterations):
    run = steady.timed_fit(FakeTrainer(monkeypatch), iterations)
    assert (run.seconds, run.start_s, run.iteration_s, run.steady_s) == (iterations + 99, 99, 1, iterations)


def test_watching_begins_after_the_start_and_ends_before_the_end(monkeypatch):
    trainer = FakeTrainer(monkeypatch)
    seen = []
    steady._watch(trainer, lambda: seen.append(trainer.iteration), lambda: seen.append(trainer.iteration))
    assert seen == [20, 40]
    assert trainer.iteration > 40


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_training_never_waits_for_the_device():
    setting = Setting(size=16, width=32, batch_size=8, replay=100, device="cuda")
    assert steady.count_waits(setting.trainer)["synchronizations"] == 0


def test_functions_take_turns():
    calls = []
    times = alternating({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3, calls=2)
    assert "".join(calls) == "aabb" * 4  # one round to warm up
    assert [len(seconds) for seconds in times.values()] == [3, 3]
    assert ratio([2.0, 6.0, 12.0], [1.0, 2.0, 3.0]) == {"ratio": 3.0, "ratio_quartiles": [2.0, 4.0]}
    figures = paired(lambda: None, lambda: torch.ones(300, 300) @ torch.ones(300, 300), rounds=4)
    assert figures["ratio"] < 1
    assert figures["rounds"] == 4


def test_peak_memory_is_of_what_is_alive_at_once():
    kept = torch.ones(1000)
    one = memory.peak_bytes(lambda: sum(torch.ones(1000).sum() for _ in range(5)))
    both = memory.peak_bytes(lambda: torch.ones(1000) + torch.ones(1000))
    assert 4000 <= one < 5000
    assert 12000 <= both < 13000
    assert len(kept) == 1000


def test_memory_that_grows_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "STEPS", (2, 40))
    report = Report(tmp_path / "m.json", "command", TINY)
    memory.measure_memory(TINY, report)
    assert report.bounds[0].met
    trainer = Setting.trainer
    monkeypatch.setattr(Setting, "trainer", lambda setting: trainer(setting, differentiation=Unroll()))
    memory.measure_memory(TINY, report)
    assert not report.bounds[0].met


def test_bounds():
    assert Bound("", 1.0, 1.0).met
    assert not Bound("", 1.1, 1.0).met
    assert Bound("", 1.1, 1.0, least=True).met
    assert not Bound("", 0.9, 1.0, least=True).met
    assert not Bound("", float("nan"), 1.0).met
    assert not Bound("", float("nan"), 1.0, least=True).met


def test_results_are_plain_json_and_know_when_they_are_not_complete(tmp_path):
    report = Report(tmp_path / "deep" / "r.json", "energysolve bench", TINY)
    report.write("kind", "title", [{"a": float("inf")}], {"b": (1.0, float("nan"))}, complete=False)
    content = json.loads(report.path.read_text())
    assert content["rows"] == [{"a": None}]
    assert content["figures"] == {"b": [1.0, None]}
    assert content["complete"] is False
    assert content["setting"]["width"] == 8


def test_halting_is_what_solving_measures(run, model, tmp_path):
    """Untrained, so that the numbers are known: our steps are at most the loop's, and both start alike."""
    assert run("bench", "solve", "--model", model, "--rounds", "2", "--output", "s.json")[0] == 0
    rows = json.loads((tmp_path / "s.json").read_text())["rows"]
    assert [(row["problems"], row["batch"]) for row in rows] == [("same", 8), ("harder", 8)]
    for row in rows:
        assert row["ours_steps"] <= row["reference_steps"] == 80
        assert row["ours_per_s"] > 0


def test_results_are_rendered(run, tmp_path):
    place = Path(__file__).parents[2] / "docs" / "render_results.py"
    spec = importlib.util.spec_from_file_location("render_results", place)
    renderer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(renderer)
    (tmp_path / "results").mkdir()
    assert "No measurement" in renderer.speed(tmp_path / "results")
    report = Report(tmp_path / "results" / "memory.json", "energysolve bench memory", TINY)
    bounds = [Bound("this", 2.0, 1.0), Bound("that", 2.0, 1.0, least=True)]
    rows = [{"train_steps": 5, "peak_mib": 1234.5, "quartiles": [0.5, 0.251]}, {"a": None, "b": "text", "c": 1000}]
    report.write("memory", "Memory", rows, {}, bounds, complete=False)
    block = renderer.speed(tmp_path / "results")
    for line in (
        "**Memory**, on the CPU:",
        "| train steps | peak mib | quartiles |",
        "| 5 | 1,234 | 0.5 to 0.251 |",
        "| - | text | 1,000 |",
        "- this: 2, at most 1: **missed**",
        "- that: 2, at least 1",
        "- The measurement was interrupted.",
    ):
        assert line in block.splitlines()
    assert "`energysolve bench memory` with seed 0" in block


def test_optimizers_are_compared_on_the_same_problems(run, tmp_path, monkeypatch):
    monkeypatch.setattr(optimizers, "WORKERS", 1)
    arguments = ("--problems", "4", "--collection", "2", "--rounds", "2", "--output", "o.json")
    assert run("bench", "optimizers", *arguments)[0] == 0
    content = json.loads((tmp_path / "o.json").read_text())
    assert content["complete"] is True
    rows = content["rows"]
    assert len({row["problems"] for row in rows}) == 6
    assert {row["solved"] for row in rows if row["method"] == "FixedPoint"} == {1}
    for row in rows:
        assert row["seconds"] > 0
        if row["method"] == "LBFGS":
            assert row["over_lbfgs"] == 1
            assert row["solved"] == 1
            assert row["evaluations"] > 1
    found = content["figures"]["collection_LBFGS"]
    assert (found["cases"], found["solved"], found["unsolved"]) == (6, 6, [])
    assert found["solved_by_both"] == found["solved_by_reference"] == 6
    for shares in content["figures"]["progress"].values():
        left = shares["LBFGS()"]
        assert left[0] == 1
        assert left == sorted(left, reverse=True)
        assert left[-1] < 1e-9
    assert (tmp_path / "o.svg").exists()


@pytest.mark.parametrize("family", families.families(3, 20, seed=0), ids=lambda family: family.name)
def test_a_problem_is_the_same_for_all_libraries(family):
    y = (family.y0 + 0.1).requires_grad_()
    energy = family.energy(family.x, y)
    (gradient,) = torch.autograd.grad(energy.sum(), y)
    for i, row in enumerate(family.x.numpy()):
        v = y[i].detach().numpy()
        single = family.single(v, row)
        assert single[0] == pytest.approx(energy[i].item(), rel=1e-12)
        assert single[1] == pytest.approx(gradient[i].numpy(), rel=1e-9, abs=1e-12)
        assert float(family.jax(np, v, row)) == pytest.approx(energy[i].item(), rel=1e-12)
        if family.residuals is not None:
            residuals, jacobian = family.residuals(v, row)
            assert residuals @ residuals / 2 == pytest.approx(energy[i].item(), rel=1e-12)
            assert residuals @ jacobian == pytest.approx(gradient[i].numpy(), rel=1e-9)


def test_scipy_stops_where_we_do():
    """A quadratic of one curvature: the second evaluation is at the minimum, and is the last."""
    problems = [problem for problem in more_garbow_hillstrom() if problem.name == "linear-full-rank"]
    for run in (collection.lbfgsb, collection.minpack):
        cases = collection.scipy_collection(problems, run)
        assert all(case.solved and case.evaluations <= 6 for case in cases)
        assert all(case.gradient <= collection.RTOL for case in cases)
    assert not any(case.solved for case in collection.solve_collection(problems, SGD(1e-6)))  # too slow
    ours = collection.solve_collection(problems, SGD(1.0))
    twice = [dataclasses.replace(case, evaluations=2 * case.evaluations) for case in ours]
    found = collection.compared(twice, ours)
    assert found["evaluations_over_reference"] == pytest.approx(2)
