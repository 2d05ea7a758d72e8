"""Answers of the shipped energies, against recorded ones.

python tests/pretrained/test_recorded.py    # records them anew, where answers are meant to change
"""

import hashlib
import json
from pathlib import Path

import pytest
import torch

from energysolve import EnergySolver
from energysolve.presets import DOMAINS
from energysolve.provenance import environment

PATH = Path(__file__).parents[1] / "recorded" / "answers.json"
RECORDED = json.loads(PATH.read_text())


def digest(solution) -> str:
    found = hashlib.sha256()
    for tensor in (solution.y, solution.energy, solution.steps, solution.status):
        found.update(tensor.contiguous().numpy().tobytes())
    return found.hexdigest()


def cpu_flags() -> str:
    """What the processor can do, which decides how libraries round."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return hashlib.sha256(" ".join(sorted(flags)).encode()).hexdigest()


def solve(name):
    """The task, its targets and the solution, on one thread."""
    model, difficulty = name.split()
    solver = EnergySolver.from_pretrained(model)
    task = DOMAINS[model.partition("-")[0]].task_of(solver)
    generator = torch.Generator().manual_seed(RECORDED["seed"])
    x, target = task.sample(RECORDED["problems"], difficulty, generator)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        solution = solver.suited(task).minimize(x, generator=generator)
    finally:
        torch.set_num_threads(threads)
    return task.error(solution, target).double().mean().item(), solution


@pytest.mark.parametrize("name", RECORDED["answers"])
def test_answers_are_those_recorded(name):
    """Bit by bit with the recorded versions and processor; to rounding elsewhere."""
    error, solution = solve(name)
    recorded = RECORDED["answers"][name]
    assert error == pytest.approx(recorded["error"], rel=1e-3)
    assert solution.y.flatten()[:8].tolist() == pytest.approx(recorded["y"], abs=1e-4)
    if environment()["versions"] == RECORDED["versions"] and cpu_flags() == RECORDED["hardware"]["cpu_flags_sha256"]:
        assert digest(solution) == recorded["sha256"]


def main() -> None:
    answers = {}
    for name in RECORDED["answers"]:
        error, solution = solve(name)
        answers[name] = {"error": error, "y": solution.y.flatten()[:8].tolist(), "sha256": digest(solution)}
    content = RECORDED | {"answers": answers} | environment()
    content["hardware"]["cpu_flags_sha256"] = cpu_flags()
    PATH.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
