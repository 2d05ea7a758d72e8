"""Descents against plain solves, and candidates evaluated on the landscape of one problem."""

import math

import pytest
import torch
from bowls import Bowl, bowl, direct, generator

from energysolve import SGD, EnergySolver, Never, Normal, Segment, Trajectory, Uniform
from energysolve.landscape import descent, descents


def test_a_descent_is_the_solve_with_its_iterates():
    solver, x = bowl(1.0, 2.0, 3.0)
    path = descent(solver, x, generator=generator())
    plain = solver.replace(recorder=Trajectory()).minimize(x, generator=generator())
    torch.testing.assert_close(path.iterates(2), torch.stack([y[2] for y in plain.record.y]), rtol=0, atol=0)
    torch.testing.assert_close(path.energies(2), torch.stack([e[2] for e in plain.record.energy]), rtol=0, atol=0)
    torch.testing.assert_close(path.iterates(2)[-1], plain.y[2], rtol=0, atol=0)
    # Each step of gradient descent shrinks each element's error by a known factor (Figure 4).
    factors = (1 - 0.2 * torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)) ** 2
    errors = path.squared_errors(x, 2)
    torch.testing.assert_close(errors, errors[0] * factors ** torch.arange(31)[:, None])


def test_a_descent_ends_at_the_steps_that_the_problem_took():
    solver, x = bowl(1.0, 2.0)
    solver = solver.replace(halting=EnergySolver(Bowl((1.0,)), SGD(0.1)).halting)
    y = x.clone()
    y[0] += 5
    path = descent(solver, x, y)
    for problem in range(5):
        steps = int(path.solution.steps[problem])
        assert path.iterates(problem).shape == (steps + 1, 2)
        assert path.energies(problem).shape == (steps + 1,)
    assert path.solution.steps[0] > path.solution.steps[1]
    assert descent(solver, x, y, max_steps=1).iterates(0).shape == (2, 2)


def test_candidates_are_evaluated_together_within_the_bound_of_memory(monkeypatch):
    solver, x = bowl(1.0, 2.0, 4.0)
    path = descent(solver, x)
    candidates = torch.randn(11, 3, dtype=torch.float64, generator=generator())
    expected = direct((1.0, 2.0, 4.0), x[3], candidates)
    for entries, together in ((2**20, 12), (12, 4), (21, 7), (1, 1)):
        monkeypatch.setattr(descents, "_ENTRIES", entries)
        solver.energy.encoded.clear()
        torch.testing.assert_close(path.energy_of(candidates, 3), expected, rtol=1e-14, atol=0)
        assert solver.energy.encoded == [together] * math.ceil(12 / together)


@pytest.mark.parametrize("shape", [(), (4,), (2, 2), (1, 2, 2)])
def test_answers_of_any_shape(shape):
    x = torch.randn(5, *shape, dtype=torch.float64, generator=generator())

    def energy(x, y):
        return (y - x).square().reshape(5 if len(y) == 5 else len(y), -1).sum(1)

    path = descent(EnergySolver(energy, SGD(0.1), init=Normal(shape), max_steps=3), x)
    candidates = torch.randn(6, x[0].numel(), dtype=torch.float64)
    torch.testing.assert_close(path.energy_of(candidates, 4), (candidates - x[4].flatten()).square().sum(1))


def test_answers_that_are_trees_and_scratchpads_held_at_the_solution():
    def energy(x, y, z):
        return (y["a"] - x).square().sum(1) + (2 * y["b"] - z).square().sum((1, 2)) + (z - 1).square().sum((1, 2))

    x = torch.randn(5, 2, dtype=torch.float64, generator=generator())
    y = {"a": torch.zeros_like(x), "b": x.new_zeros(5, 3, 1)}
    path = descent(EnergySolver(energy, SGD(0.05), halting=Never(), max_steps=7), x, y, z=x.new_zeros(5, 3, 1))
    z = path.solution.z[1].flatten()
    assert 0 < z.min() < 0.9  # so that another z would be noticed
    candidates = torch.randn(6, 5, dtype=torch.float64, generator=generator())
    expected = (candidates[:, :2] - x[1]).square().sum(1) + (2 * candidates[:, 2:] - z).square().sum(1)
    torch.testing.assert_close(path.energy_of(candidates, 1), expected + (z - 1).square().sum())


def test_samples_of_different_sizes():
    index = torch.tensor([0, 1, 1, 1, 0])

    def energy(x, y):
        batch = int(x["index"].max()) + 1
        return y.new_zeros(batch).index_add(0, x["index"], (y - x["value"]).square().sum(1))

    x = {"index": index, "value": torch.arange(5.0, dtype=torch.float64)[:, None]}
    solver = EnergySolver(
        energy, SGD(0.1), max_steps=4, layout=lambda x: Segment(x["index"], int(x["index"].max()) + 1)
    )
    path = descent(solver, x, torch.zeros(5, 1, dtype=torch.float64))
    assert path.iterates(1).shape == (5, 3)
    candidates = torch.randn(6, 3, dtype=torch.float64)
    expected = (candidates - torch.tensor([1.0, 2.0, 3.0])).square().sum(1)
    torch.testing.assert_close(path.energy_of(candidates, 1), expected)


def test_a_problem_that_cannot_be_taken_out_of_its_batch_is_refused():
    """The weights are shared, but there are as many of them as samples."""

    def energy(x, y):
        return (x["weights"].sum() * (y - x["value"]).square()).sum(1)

    x = {"value": torch.randn(3, 2), "weights": torch.arange(1.0, 4.0)}
    path = descent(EnergySolver(energy, SGD(0.01), init=Uniform((2,)), max_steps=2), x)
    with pytest.raises(ValueError, match="cannot be selected from its batch"):
        path.energy_of(torch.zeros(2, 2), 0)


def test_what_descents_refuse():
    solver, x = bowl(1.0, 2.0)
    path = descent(solver, x)
    for problem in (-1, 5):
        for ask in (path.iterates, path.energies):
            with pytest.raises(ValueError, match=f"no problem {problem}"):
                ask(problem)
    with pytest.raises(ValueError, match=r"\(5, 3\); those of the solve have \(5, 2\)"):
        path.squared_errors(torch.zeros(5, 3))
    with pytest.raises(ValueError, match="empty"):
        descent(solver, x[:0])
