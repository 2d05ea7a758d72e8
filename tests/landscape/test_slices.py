"""Slices against quadratics evaluated directly."""

import pytest
import torch
from bowls import bowl, direct, generator

from energysolve.landscape import Coordinates, Principal, descent, line, plane


def test_a_plane_is_the_quadratic_on_it():
    weights = (1.0, 2.0, 3.0, 0.5)
    solver, x = bowl(*weights)
    path = descent(solver, x, generator=generator())
    found = plane(path, x, problem=1, directions=Coordinates((3, 1)), resolution=7)
    answer = path.iterates(1)[-1]
    for i, first in enumerate(found.grid[0]):
        for j, second in enumerate(found.grid[1]):
            y = answer.clone()
            y[2], y[0] = first, second
            torch.testing.assert_close(found.energy[i, j], direct(weights, x[1], y), rtol=1e-13, atol=0)
    torch.testing.assert_close(found.path, path.iterates(1)[:, [2, 0]], rtol=0, atol=0)
    torch.testing.assert_close(found.target, x[1, [2, 0]], rtol=0, atol=0)
    torch.testing.assert_close(found.off, (path.iterates(1) - answer)[:, [1, 3]].norm(dim=1), rtol=1e-12, atol=1e-15)
    assert found.axes.labels == ("$y_{3}$", "$y_{1}$")


@pytest.mark.parametrize("directions", [Coordinates(), Principal()])
def test_the_descent_lies_on_the_plane_of_a_problem_of_two_elements(directions):
    solver, x = bowl(1.0, 4.0)
    path = descent(solver, x, generator=generator())
    found = plane(path, x, problem=2, directions=directions, resolution=9)
    assert found.off.max() < 1e-14
    torch.testing.assert_close(found.path_energy, path.energies(2), rtol=1e-13, atol=0)
    back = found.axes.zero + found.path @ found.axes.directions
    torch.testing.assert_close(back, path.iterates(2), rtol=0, atol=1e-14)
    # All that is marked lies inside, with a quarter of the range to spare.
    marked = torch.cat((found.path, found.target[None]))
    for axis, along in enumerate(found.grid):
        low, high = marked[:, axis].min(), marked[:, axis].max()
        torch.testing.assert_close(
            along[[0, -1]], torch.stack((low, high)) + 0.25 * (high - low) * torch.tensor([-1, 1])
        )


def test_principal_directions_hold_a_descent_in_a_plane():
    """A descent in four dimensions with two curvatures stays in a plane, which only its principal directions find."""
    solver, x = bowl(1.0, 1.0, 4.0, 4.0)
    path = descent(solver, x, generator=generator())
    found = plane(path, directions=Principal(), resolution=5)
    assert found.off.max() < 1e-12
    torch.testing.assert_close(found.path_energy, path.energies(), rtol=1e-12, atol=0)
    torch.testing.assert_close(found.axes.directions @ found.axes.directions.T, torch.eye(2, dtype=torch.float64))
    assert (found.path[0] > 0).all()
    torch.testing.assert_close(found.path[-1], torch.zeros(2, dtype=torch.float64))
    assert found.target is None
    assert plane(path, resolution=5).off.max() > 0.01


def test_a_line_is_the_quadratic_on_it():
    weights = (1.0, 2.0, 3.0)
    solver, x = bowl(*weights)
    path = descent(solver, x, generator=generator())
    found = line(path, x, problem=1, directions=Coordinates((2,)), resolution=5, margin=0.0)
    y = path.iterates(1)[-1].repeat(5, 1)
    y[:, 1] = found.grid[0]
    torch.testing.assert_close(found.energy, direct(weights, x[1], y), rtol=1e-13, atol=0)
    assert found.energy.shape == (5,)
    first, last = sorted((float(path.iterates(1)[0, 1]), float(max(path.iterates(1)[-1, 1], x[1, 1]))))
    assert found.grid[0][[0, -1]].tolist() == pytest.approx([first, last], abs=1e-6)


def test_a_slice_around_a_single_point_has_a_width():
    solver, x = bowl(1.0, 1.0)
    path = descent(solver, x, x.clone(), max_steps=0)
    found = plane(path, x, resolution=3, margin=0.5)
    centre = path.iterates(0)[0]
    for along, element in zip(found.grid, centre, strict=True):
        torch.testing.assert_close(along, element + torch.tensor([-0.5, 0.0, 0.5], dtype=torch.float64))


def test_what_slices_refuse():
    solver, x = bowl(1.0, 2.0)
    path = descent(solver, x)
    for elements in ((1, 3), (1, 1), (0, 1)):
        with pytest.raises(ValueError, match="different elements"):
            plane(path, directions=Coordinates(elements))
    with pytest.raises(ValueError, match=r"expected 2 of 2 elements"):
        plane(path, directions=Principal(1))
    with pytest.raises(ValueError, match=r"expected 1 of 2 elements"):
        line(path, directions=Principal(2))
    with pytest.raises(ValueError, match="principal directions, not 2"):
        plane(descent(solver, x, max_steps=0), directions=Principal())
    with pytest.raises(ValueError, match="resolution"):
        plane(path, resolution=1)
    with pytest.raises(ValueError, match="margin"):
        plane(path, margin=-1.0)
