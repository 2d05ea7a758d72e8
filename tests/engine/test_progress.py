"""The display of a solve: it tells the truth, changes nothing, and looks at the device only where the loop does."""

import io
import warnings
from collections import Counter
from functools import partial
from itertools import chain, repeat

import pytest
import torch
from bowls import bowl, generator
from rich.console import Console
from torch.utils._python_dispatch import TorchDispatchMode

import energysolve.solver
from energysolve import LBFGS, SGD, Energy, EnergySolver, GradientNorm, Never, TargetEnergy, Truncated, Unroll, Zeros
from energysolve.energy import Normalized
from energysolve.engine import progress
from energysolve.engine.progress import SolveProgress

WAITING = ("_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "equal.default")


@pytest.fixture
def shown(monkeypatch):
    """Everything that is displayed: each check of the loop is shown, and each look at the clock takes a second."""
    console = Console(file=io.StringIO(), width=200)
    clock = iter(range(10**6))
    monkeypatch.setattr(progress, "_INTERVAL", 0.0)
    monkeypatch.setattr("energysolve.engine.progress.time.monotonic", lambda: next(clock))
    monkeypatch.setattr(energysolve.solver, "SolveProgress", partial(SolveProgress, console=console))
    lines = []
    update = SolveProgress._show

    def spy(self, step, halted, energy, evaluations):
        update(self, step, halted, energy, evaluations)
        lines.append((step, {**self._bar.tasks[0].fields}, self._bar.tasks[0].percentage))

    monkeypatch.setattr(SolveProgress, "_show", spy)
    return lines, console.file


def halved(x, y):
    return y.square().sum(-1) / 2


Y = torch.tensor([[1.0], [2.0], [4.0], [1024.0]], dtype=torch.float64)


@pytest.mark.parametrize("compact", [False, True])
def test_halted_samples_energies_and_evaluations_are_right(shown, compact):
    """With a step of 1/2, y halves and E = y^2 / 2 falls by 4: sample i is below 1/8 after 1, 2, 3 and 11 steps."""
    lines, text = shown
    solver = EnergySolver(halved, SGD(0.5), halting=TargetEnergy(0.125), max_steps=5, compact=compact)
    solution = solver.minimize(torch.zeros(4, 1), Y, progress=True)
    assert solution.steps.tolist() == [1, 2, 3, 5]
    for step, fields, percentage in lines:
        taken = torch.tensor([1, 2, 3, 5]).clamp(max=step)
        energies = (Y[:, 0] * 0.5**taken).square() / 2
        halted = int((energies <= 0.125).sum())
        assert fields["halted"] == f"{25 * halted} % of 4 halted"
        assert percentage == 25 * halted
        assert fields["trial"] == f"step {step}/5"
        assert fields["energy"] == f"energy {energies.median():.4g}"
    assert [step for step, *_ in lines] == [1, 2, 3, 4, 5, 5]
    assert "75 % of 4 halted" in text.getvalue()


def test_the_speed_is_that_of_single_evaluations(shown, monkeypatch):
    times = chain([0.0], repeat(2.0))
    monkeypatch.setattr("energysolve.engine.progress.time.monotonic", lambda: next(times))
    solver = EnergySolver(halved, SGD(0.5), halting=TargetEnergy(0.125), max_steps=3)
    solver.minimize(torch.zeros(4, 1), Y, progress=True)
    # The samples are evaluated 2, 3, 4 and 4 times.
    assert shown[0][-1][1]["speed"] == "6 evals/s"


class InUnits(Energy):
    """Of problems that are solved in units of their own size."""

    def evaluate(self, context, y):
        return (y - context).square().sum(-1)

    def normalized(self, x):
        size = x.abs().amax(1)
        return Normalized(x / size[:, None], size, size.square())


def test_energies_are_in_the_units_of_the_user(shown):
    solver = EnergySolver(InUnits(), SGD(0.25), init=Zeros((1,)), halting=Never(), max_steps=2)
    solver.minimize(torch.tensor([[1.0], [10.0], [100.0]], dtype=torch.float64), progress=True)
    # Each step halves the distance of 10, so the energy of the middle problem goes from 100 to 25 to 6.25.
    assert [fields["energy"] for _, fields, _ in shown[0]] == [f"energy {e}" for e in ("25", "6.25", "6.25")]


def test_samples_that_are_not_finite_are_left_out_of_the_median(shown):
    def broken(x, y):
        return torch.where(x[:, 0] > 0, y.square().sum(-1), torch.inf)

    solver = EnergySolver(broken, SGD(0.25), halting=Never(), max_steps=1)
    solver.minimize(torch.tensor([[1.0], [-1.0], [-1.0]]), torch.full((3, 1), 4.0), progress=True)
    assert shown[0][-1][1]["energy"] == "energy 4"
    assert shown[0][-1][1]["halted"] == "67 % of 3 halted"


CASES = {
    "fixed steps": {},
    "a search": {"optimizer": LBFGS(), "halting": GradientNorm(1e-9)},
    "compact": {"halting": GradientNorm(0.5), "compact": True, "optimizer": LBFGS()},
    "restarts": {"restarts": 3, "halting": GradientNorm(1e-2)},
    "last steps tracked": {"differentiation": Truncated(2)},
    "last steps repeated": {"differentiation": Truncated(2), "halting": GradientNorm(1e-2)},
    "unrolled": {"differentiation": Unroll(), "halting": GradientNorm(1e-2)},
    "seldom checked": {"sync_every": 7, "halting": GradientNorm(1e-2)},
}


@pytest.mark.parametrize("parts", CASES.values(), ids=CASES.keys())
def test_no_result_changes(shown, parts):
    solver, x = bowl(1.0, 0.3, steps=40, **parts)
    results = []
    for shows in (False, True):
        problems = x.clone().requires_grad_()
        with warnings.catch_warnings(action="ignore"):  # Detached says that it passes no gradient to x
            found = solver.minimize(problems, generator=generator(), progress=shows)
        if found.y.requires_grad:
            found.y.square().sum().backward()
        results.append([found.y, found.energy, found.steps, found.status, found.evaluations, problems.grad])
    assert shown[0]
    for plain, watched in zip(*results, strict=True):
        assert (plain is None and watched is None) or torch.equal(plain, watched)


class Waits(TorchDispatchMode):
    """Counts, for each number of energy evaluations so far, the operations that would wait for a device."""

    def __init__(self):
        super().__init__()
        self.evaluations, self.found = 0, Counter()

    def energy(self, x, y):
        self.evaluations += 1
        return y.square().sum(-1)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(name in str(func) for name in WAITING):
            self.found[self.evaluations] += 1
        return func(*args, **(kwargs or {}))


def test_it_looks_only_where_the_loop_checks(shown):
    counts = []
    for shows in (False, True):
        waits = Waits()
        solver = EnergySolver(waits.energy, SGD(0.1), halting=Never(), max_steps=13, sync_every=5)
        with waits:
            solver.minimize(torch.zeros(3, 1), torch.ones(3, 1), progress=shows)
        counts.append(waits.found)
    # Iterates 5 and 10 are the 6th and 11th evaluations, the end of the solve the 14th.
    assert set(counts[1] - counts[0]) == {6, 11, 14}


def test_without_progress_nothing_is_made(monkeypatch):
    monkeypatch.setattr(energysolve.solver, "SolveProgress", None)
    solver, x = bowl(1.0)
    assert solver.minimize(x).steps.tolist() == [30] * 5


def test_an_error_of_the_energy_ends_the_display(shown, monkeypatch):
    def energy(x, y):
        raise ArithmeticError("mine")

    stopped = []
    monkeypatch.setattr("rich.progress.Progress.stop", lambda self: stopped.append(self))
    with pytest.raises(ArithmeticError, match="mine"):
        EnergySolver(energy).minimize(torch.zeros(2, 1), torch.zeros(2, 1), progress=True)
    assert len(stopped) == 1


def test_an_empty_batch_and_a_display_within_another(capsys):
    from rich.progress import Progress

    solver, x = bowl(1.0)
    assert len(solver.minimize(x[:0], progress=True).y) == 0
    with Progress():
        assert len(solver(x, progress=True).y) == 5
