"""Runs over files of problems that are killed anywhere, resumed, refused."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
import torch
from file_solving import DIM, PROBLEMS, RANDOM, answers, assert_same, bowl, make_solver, save

from energysolve import SGD, EnergyChange, MLPEnergy, Projected, Uniform, cli
from energysolve.optimizers import Box
from energysolve.streaming.problems import open_problems
from energysolve.streaming.solve import solve_file


@pytest.fixture
def problems(tmp_path):
    return save(tmp_path / "problems.npz", PROBLEMS)


class Killed(BaseException):
    """What a test raises in place of the end of the process."""


def killed_at(monkeypatch, count, after):
    """From now on the ``count``-th durable change kills the run, before or after it takes effect."""
    left = [count]

    def deadly(function, damage=None):
        def call(*arguments, **options):
            left[0] -= 1
            if left[0] == 0 and not after:
                if damage:
                    damage(*arguments)
                raise Killed
            result = function(*arguments, **options)
            if left[0] == 0:
                raise Killed
            return result

        return call

    def lose_the_end(descriptor):  # of what was not made durable
        os.ftruncate(descriptor, max(os.fstat(descriptor).st_size - 3, 0))

    monkeypatch.setattr(os, "fsync", deadly(os.fsync, lose_the_end))
    monkeypatch.setattr(os, "replace", deadly(os.replace))
    monkeypatch.setattr(Path, "mkdir", deadly(Path.mkdir))
    monkeypatch.setattr(Path, "unlink", deadly(Path.unlink))
    monkeypatch.setattr(Path, "rmdir", deadly(Path.rmdir))


@pytest.mark.parametrize(("name", "after"), [("a.npz", False), ("a.npz", True), ("a.parquet", False)])
def test_killed_at_any_moment_and_resumed(name, after, problems, tmp_path, monkeypatch):
    solver = make_solver(max_steps=3)
    solve_file(solver, problems, tmp_path / f"whole-{name}", chunk=6)
    expected = (tmp_path / f"whole-{name}").read_bytes()
    output, kills = tmp_path / name, 0
    while True:
        with monkeypatch.context() as patch:
            killed_at(patch, kills + 1, after)
            try:
                solve_file(solver, problems, output, chunk=6)
            except Killed:
                kills += 1
            else:
                break
        finished = output.exists() and not (tmp_path / f"{name}.partial" / "progress.json").exists()
        with pytest.raises(FileExistsError) if finished else nullcontext():
            solve_file(solver, problems, output, chunk=6, resume=True)
        assert output.read_bytes() == expected, kills
        assert not (tmp_path / f"{name}.partial").exists()
        output.unlink()
    assert kills > 20  # two chunks of four arrays, each made durable, and the rest
    assert output.read_bytes() == expected


def test_killed_again_and_again(problems, tmp_path, monkeypatch):
    solve_file(make_solver(), problems, tmp_path / "whole.npz", chunk=2)
    kills = 0
    while not (tmp_path / "a.npz").exists():
        with monkeypatch.context() as patch, suppress(Killed):
            killed_at(patch, 15, after=False)
            kills += 1
            solve_file(make_solver(), problems, tmp_path / "a.npz", chunk=2, resume=True)
    assert kills > 3
    assert_same(answers(tmp_path / "a.npz"), answers(tmp_path / "whole.npz"))


def failing_after(calls):
    """A solver whose energy fails once it was asked for ``calls`` chunks, and the problems it has seen."""
    seen = []

    def energy(x, y):
        if not seen or not torch.equal(seen[-1], x):
            if len(seen) == calls:
                raise RuntimeError("the machine is on fire")
            seen.append(x.clone())
        return bowl(x, y)

    energy.__module__, energy.__qualname__ = bowl.__module__, bowl.__qualname__  # by which functions are compared
    return make_solver(energy), seen


def interrupted(problems, output, chunk=3, chunks=2, **options):
    solver, _ = failing_after(chunks)
    with pytest.raises(RuntimeError, match="on fire"):
        solve_file(solver, problems, output, chunk=chunk, **options)
    return output.with_name(f"{output.name}.partial")


def test_a_failure_keeps_the_work(problems, tmp_path):
    partial = interrupted(problems, tmp_path / "a.npz")
    assert json.loads((partial / "progress.json").read_text())["rows"] == 6
    assert not (tmp_path / "a.npz").exists()
    solver, seen = failing_after(100)
    reports = []
    summary = solve_file(
        solver, problems, tmp_path / "a.npz", chunk=3, resume=True, progress=lambda *report: reports.append(report)
    )
    assert [len(x) for x in seen] == [3, 2]  # what had been solved is not solved again
    assert reports == [(6, 11), (9, 11), (11, 11)]
    assert (summary.problems, summary.resumed, summary.converged) == (11, 6, 11)
    solve_file(make_solver(), problems, tmp_path / "whole.npz", chunk=3)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()


def test_what_lies_beyond_the_counted_rows_is_written_again(problems, tmp_path):
    partial = interrupted(problems, tmp_path / "a.npz")
    for number, path in enumerate(sorted(partial.glob("*.raw"))):
        with open(path, "ab") as file:
            file.write(b"\xff" * (1 + 500 * number))
    (partial / ".progress.json.123.tmp").write_text("{")
    (partial / "whole.tmp").write_text("half an archive")
    solve_file(make_solver(), problems, tmp_path / "a.npz", chunk=3, resume=True)
    solve_file(make_solver(), problems, tmp_path / "whole.npz", chunk=3)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()
    assert not partial.exists()


def test_lost_answers_are_noticed(problems, tmp_path):
    partial = interrupted(problems, tmp_path / "a.npz")
    path = partial / "energy.raw"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"energy\.raw has lost answers"):
        solve_file(make_solver(), problems, tmp_path / "a.npz", chunk=3, resume=True)
    (partial / "progress.json").write_text("{")
    with pytest.raises(ValueError, match=r"progress\.json is damaged"):
        solve_file(make_solver(), problems, tmp_path / "a.npz", chunk=3, resume=True)
    solve_file(make_solver(), problems, tmp_path / "a.npz", chunk=3, overwrite=True)
    assert answers(tmp_path / "a.npz")["y"].shape == (11, DIM)


def test_answers_of_another_format_are_not_continued(problems, tmp_path):
    partial = interrupted(problems, tmp_path / "a.npz")
    progress = json.loads((partial / "progress.json").read_text())
    (partial / "progress.json").write_text(json.dumps(progress | {"format_version": 99}))
    with pytest.raises(ValueError, match="format version 99"):
        solve_file(make_solver(), problems, tmp_path / "a.npz", chunk=3, resume=True)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"chunk": 4}, "chunk (3 then, 4 now)"),
        ({"seed": 1}, "seed (0 then, 1 now)"),
        ({"solver": make_solver(max_steps=61)}, "solver.max_steps (60 then, 61 now)"),
        ({"solver": make_solver(optimizer=SGD(0.3))}, "solver.optimizer.lr (0.2 then, 0.3 now)"),
        ({"solver": make_solver(halting=EnergyChange(atol=1e-5).patience(2))}, "solver.halting"),
        ({"solver": make_solver(optimizer=Projected(SGD(0.2), Box(-1.0, math.inf)))}, "solver.optimizer"),
        ({"solver": make_solver(lambda x, y: bowl(x, y))}, "energy ("),
        ({"problems": PROBLEMS + 1e-9}, "problems ("),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_resuming_with_other_settings_is_refused(change, named, problems, tmp_path):
    partial = interrupted(problems, tmp_path / "a.npz")
    before = {path.name: path.read_bytes() for path in partial.iterdir()}
    options = {"solver": make_solver(), "chunk": 3, "seed": 0} | change
    save(problems, options.pop("problems", PROBLEMS))
    with pytest.raises(ValueError, match=re.escape(named)) as caught:
        solve_file(options.pop("solver"), problems, tmp_path / "a.npz", resume=True, **options)
    assert str(caught.value).count(" then, ") == 1 or named in ("solver.halting", "solver.optimizer")
    assert {path.name: path.read_bytes() for path in partial.iterdir()} == before


def test_settings_may_be_infinite(problems, tmp_path):
    solver, _ = failing_after(2)
    solver = solver.replace(optimizer=Projected(SGD(0.2), Box(0.0, math.inf)))
    with pytest.raises(RuntimeError, match="on fire"):
        solve_file(solver, problems, tmp_path / "a.npz", chunk=3)
    again = make_solver(optimizer=solver.optimizer)
    assert solve_file(again, problems, tmp_path / "a.npz", chunk=3, resume=True).resumed == 6


def test_weights_are_compared(tmp_path):
    torch.manual_seed(0)
    path = save(tmp_path / "p.npz", PROBLEMS)
    energy = MLPEnergy(DIM, 2, width=4)
    solver = make_solver(energy, init=Uniform((2,)), max_steps=3)
    stops = iter([False, True])

    def stop(done, total):
        if next(stops):
            raise Killed

    with pytest.raises(Killed):
        solve_file(solver, path, tmp_path / "a.npz", chunk=3, progress=stop)
    with torch.no_grad():
        energy.head.bias += 1
    with pytest.raises(ValueError, match="weights"):
        solve_file(solver, path, tmp_path / "a.npz", chunk=3, resume=True)
    with torch.no_grad():
        energy.head.bias -= 1
    # Neither changes an answer.
    assert solve_file(solver.replace(sync_every=3), path, tmp_path / "a.npz", chunk=3, resume=True).resumed == 3


def test_what_exists_is_neither_replaced_nor_continued_unasked(problems, tmp_path):
    output = tmp_path / "a.npz"
    output.write_text("precious")
    for options in ({}, {"resume": True}):
        with pytest.raises(FileExistsError, match="exists"):
            solve_file(make_solver(), problems, output, **options)
    assert output.read_text() == "precious"
    partial = interrupted(problems, output, overwrite=True)
    assert output.read_text() == "precious"
    (partial / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="resume=True"):
        solve_file(make_solver(), problems, output, chunk=3)
    with pytest.raises(ValueError, match="choose one"):
        solve_file(make_solver(), problems, output, chunk=3, resume=True, overwrite=True)
    summary = solve_file(make_solver(), problems, output, chunk=3, overwrite=True)
    assert summary.resumed == 0
    assert answers(output)["y"].shape == (11, DIM)
    assert [path.name for path in partial.iterdir()] == ["notes.txt"]


def test_with_nothing_to_resume_it_starts(problems, tmp_path):
    assert solve_file(make_solver(), problems, tmp_path / "a.npz", resume=True).resumed == 0


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("a.txt", "written to .npz, .csv, .parquet"),
        ("problems.npz", "is the input"),
        ("folder.npz", "is a folder"),
    ],
)
def test_outputs_that_cannot_be(output, message, problems, tmp_path):
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises((ValueError, FileExistsError), match=message):
        solve_file(make_solver(), problems, tmp_path / output, overwrite=True)
    assert open_problems(problems).rows == 11
    with pytest.raises(ValueError, match="chunk"):
        solve_file(make_solver(), problems, tmp_path / "a.npz", chunk=0)


def test_a_folder_that_cannot_be_written_to(problems, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"(?i)not a directory|exists"):
        solve_file(make_solver(), problems, tmp_path / "file" / "a.npz")


@pytest.mark.parametrize(("room", "kept"), [(3000, 150), (6000, 300)])  # full at a chunk, and at putting it together
def test_a_full_disk_keeps_the_work(room, kept, tmp_path):
    resource = pytest.importorskip("resource")
    problems = save(tmp_path / "p.npz", RANDOM.uniform(-1, 1, (300, DIM)))
    solver = make_solver(max_steps=2)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(OSError, match=rf"too large.*first {kept} answers are kept in .*a\.npz\.partial.*--resume"):
            solve_file(solver, problems, tmp_path / "a.npz", chunk=150)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tmp_path / "a.npz").exists()
    assert solve_file(solver, problems, tmp_path / "a.npz", chunk=150, resume=True).resumed == kept
    solve_file(solver, problems, tmp_path / "whole.npz", chunk=150)
    assert_same(answers(tmp_path / "a.npz"), answers(tmp_path / "whole.npz"))


def test_killed_by_the_system_and_resumed(tmp_path, capsys):
    torch.manual_seed(0)
    model, output = tmp_path / "model", tmp_path / "a.npz"
    make_solver(
        MLPEnergy(DIM, 2, width=8), init=Uniform((2,)), halting=EnergyChange(atol=1e-3), max_steps=20
    ).save_pretrained(model)
    problems = save(tmp_path / "p.zip.npz", RANDOM.uniform(-1, 1, (600, DIM)))
    options = ["--model", model, "--input", problems, "--output", output, "--chunk", "10"]
    command = [sys.executable, "-m", "energysolve.cli", "solve", "addition", *map(str, options)]
    progress = tmp_path / "a.npz.partial" / "progress.json"
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 120
        while not (progress.exists() and json.loads(progress.read_text())["rows"] > 30):
            assert running.poll() is None
            assert time.monotonic() < until
            time.sleep(0.005)
    finally:
        running.kill()
        assert running.wait() == -signal.SIGKILL
    assert not output.exists()
    with pytest.raises(SystemExit, match=r"^0$"):
        cli.main([*command[3:], "--resume"])
    resumed = re.search(r"and (\d+) before", capsys.readouterr().out.replace(",", ""))
    assert 30 < int(resumed[1]) < 600
    with pytest.raises(SystemExit, match=r"^0$"):
        cli.main([*command[3:], "--output", str(tmp_path / "whole.npz")])
    assert_same(answers(output), answers(tmp_path / "whole.npz"))
