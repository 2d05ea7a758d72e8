"""What the figures of landscapes show."""

import numpy as np
import pytest
import torch
from bowls import bowl, generator

from energysolve import SGD, Adam, EnergySolver, Never
from energysolve.landscape import Coordinates, EnergyByDistance, descent, line, plane
from energysolve.landscape.figures import (
    draw_element_errors,
    draw_energy_by_distance,
    draw_line,
    draw_plane,
)


def drawn(axes):
    return {each.get_label(): each for each in axes.lines}


def test_the_figure_of_energy_by_distance():
    found = EnergyByDistance(
        distance=torch.tensor([0.0, 1.0, 2.0, 3.0]),
        energy=torch.tensor([0.0, 2.0, 1.0, 3.0]),
        problem=torch.tensor([0, 0, 1, 1]),
        kind=torch.tensor([0, 1, 0, 1]),
        kinds=("one", "two"),
        target_energy=torch.zeros(2),
    )
    (axes,) = draw_energy_by_distance(found).axes
    one, two = axes.collections
    assert one.get_offsets().tolist() == [[0, 0], [2, 1]]
    assert two.get_offsets().tolist() == [[1, 2], [3, 3]]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["one", "two"]
    assert axes.get_xlabel() == "mean squared distance to the solution"
    assert axes.get_ylabel() == "energy, less that of the solution"
    assert "Spearman rank correlation 0.800; 1.000 to 1.000 in each of 2 problems" in axes.get_title()


def test_the_figure_of_a_plane():
    solver, x = bowl(1.0, 4.0)
    path = descent(solver, x, generator=generator())
    found = plane(path, x, resolution=9)
    figure = draw_plane(found, title="A bowl")
    axes, colorbar = figure.axes
    stars = drawn(axes)["iterates"]
    assert stars.get_marker() == "*"
    np.testing.assert_array_equal(stars.get_xydata(), path.iterates(0))
    points = {
        each.get_label(): each.get_offsets().tolist() for each in axes.collections if len(each.get_offsets()) == 1
    }
    assert points["initial point"] == [path.iterates(0)[0].tolist()]
    assert points["answer"] == [path.iterates(0)[-1].tolist()]
    assert points["true solution"] == [x[0].tolist()]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("$y_{1}$", "$y_{2}$", "A bowl")
    assert colorbar.get_ylabel() == "energy"
    filled = axes.collections[0]
    assert filled.levels[[0, -1]].tolist() == pytest.approx([found.energy.min().item(), found.energy.max().item()])
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["iterates", "initial point", "answer", "true solution"]


def test_the_contours_follow_the_first_axis():
    """The first axis is drawn to the right: the lowest contour encloses the minimum, longer where the bowl is flat."""
    solver, x = bowl(1.0, 25.0, steps=60, optimizer=SGD(0.03))
    found = plane(descent(solver, x, generator=generator()), x, resolution=81)
    lowest = draw_plane(found).axes[0].collections[0].get_paths()[0].vertices
    assert np.ptp(lowest[:, 0]) > 3 * np.ptp(lowest[:, 1])
    assert lowest.mean(0) == pytest.approx(x[0].numpy(), abs=0.15)


def test_iterates_off_the_slice_are_called_projected():
    solver, x = bowl(1.0, 4.0, 2.0)
    path = descent(solver, x, generator=generator())
    assert "iterates, projected" in drawn(draw_plane(plane(path, resolution=5)).axes[0])
    figure = draw_line(line(path, x, resolution=5))
    axes = figure.axes[0]
    assert {"iterates, projected", "true solution"} <= set(drawn(axes))
    assert axes.get_xlabel() == "principal direction 1 of the descent"
    assert axes.get_ylabel() == "energy"


def test_the_figure_of_a_line():
    solver, x = bowl(2.0)
    path = descent(solver, x, generator=generator())
    found = line(path, x, problem=3, directions=Coordinates((1,)), resolution=11)
    axes = draw_line(found).axes[0]
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), found.grid[0])
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), found.energy)
    np.testing.assert_array_equal(drawn(axes)["iterates"].get_xdata(), path.iterates(3)[:, 0])
    np.testing.assert_allclose(drawn(axes)["iterates"].get_ydata(), path.energies(3))
    assert drawn(axes)["true solution"].get_xdata()[0] == x[3, 0]


def test_figures_of_the_wrong_slice_are_refused():
    solver, x = bowl(1.0, 2.0)
    path = descent(solver, x)
    with pytest.raises(ValueError, match="use draw_line"):
        draw_plane(line(path, resolution=3))
    with pytest.raises(ValueError, match="use draw_plane"):
        draw_line(plane(path, resolution=3))


def test_energies_that_are_not_finite_are_left_white(tmp_path):
    def energy(x, y):
        return torch.where(y[:, 0] > 1, torch.nan, (y - x).square().sum(1))

    solver = EnergySolver(energy, Adam(0.1), halting=Never(), max_steps=5)
    found = plane(descent(solver, torch.full((1, 2), 0.9), torch.zeros(1, 2)), torch.full((1, 2), 0.9), resolution=9)
    assert found.energy.isnan().any()
    figure = draw_plane(found)
    assert figure.axes[0].collections[0].levels[-1] == pytest.approx(found.energy[found.energy.isfinite()].max().item())
    figure.savefig(tmp_path / "plane.png")


def test_the_figure_of_element_errors():
    errors = torch.rand(6, 12, dtype=torch.float64, generator=generator())
    errors[3, 5] = 0.0
    figure = draw_element_errors(errors, shown=4)
    left, right = figure.axes[:2]
    image = np.asarray(left.images[0].get_array())
    np.testing.assert_array_equal(image, errors.clamp_min(errors.max() * 1e-8).T)
    assert list(left.images[0].get_extent()) == [-0.5, 5.5, 12.5, 0.5]
    for element in range(4):
        np.testing.assert_array_equal(drawn(right)[f"$y_{{{element + 1}}}$"].get_ydata(), errors[:, element])
    np.testing.assert_allclose(drawn(right)["mean of all"].get_ydata(), errors.mean(1))
    assert len(right.lines) == 5
    assert (left.get_xlabel(), left.get_ylabel()) == ("steps", "element")
    assert (right.get_xlabel(), right.get_ylabel(), right.get_yscale()) == ("steps", "squared error", "log")


def test_element_errors_of_zero(tmp_path):
    """They have no logarithm."""
    draw_element_errors(torch.zeros(3, 2)).savefig(tmp_path / "zero.png")
