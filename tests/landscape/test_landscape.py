"""Landscapes: against quadratics evaluated directly, against SciPy's rank correlation, and what the figures draw."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from matplotlib.colors import to_hex

from energysolve import SGD, Adam, Energy, EnergySolver, Never, Normal, Segment, Trajectory, Uniform
from energysolve.evaluation.figures import COLORS
from energysolve.landscape import descents
from energysolve.landscape.distances import (
    Coordinates,
    EnergyByDistance,
    Interpolations,
    Iterates,
    Noise,
    Principal,
    descent,
    energy_by_distance,
    line,
    plane,
    spearman,
)
from energysolve.landscape.figures import (
    Curves,
    draw_element_errors,
    draw_energy_by_distance,
    draw_error_curves,
    draw_error_panels,
    draw_line,
    draw_plane,
)


class Bowl(Energy):
    """``sum w (y - x)^2 + 3``, with curvatures ``w`` that all samples share; it counts what it encodes."""

    def __init__(self, weights):
        super().__init__()
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float64))
        self.encoded = []

    def encode(self, x):
        self.encoded.append(len(x))
        return x

    def evaluate(self, context, y):
        return (self.weights * (y - context).flatten(1).square()).sum(1) + 3 + context.flatten(1).sum(1)


def generator():
    return torch.Generator().manual_seed(0)


def bowl(*weights, steps=30, **fields):
    """A solver and 5 problems with the answers x."""
    shape = fields.pop("shape", (len(weights),))
    solver = EnergySolver(Bowl(weights), SGD(lr=0.1), init=Uniform(shape), halting=Never(), max_steps=steps)
    x = torch.randn(5, *shape, dtype=torch.float64, generator=generator())
    return solver.replace(**fields), x


def direct(weights, x, y):
    return (torch.tensor(weights, dtype=torch.float64) * (y - x).square()).sum(-1) + 3 + x.sum()


# Descents.


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


# Energy against distance.


def test_ranks_agree_with_scipy():
    some = generator()
    for count in (2, 3, 10, 200):
        a, b = torch.randn(2, count, generator=some)
        assert spearman(a, b) == pytest.approx(scipy.stats.spearmanr(a, b).statistic, abs=1e-12)
        a, b = torch.randint(0, 4, (2, max(count, 5)), generator=some)  # ties
        expected = scipy.stats.spearmanr(a.numpy(), b.numpy()).statistic
        assert spearman(a.double(), b.float()) == pytest.approx(expected, abs=1e-12)
    assert spearman(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, 5.0, torch.inf])) == pytest.approx(1)
    assert np.isnan(spearman(torch.tensor([1.0, 2.0, 3.0]), torch.ones(3)))
    assert np.isnan(spearman(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, torch.nan, 0.0])))


def test_an_isotropic_quadratic_is_perfectly_ordered():
    solver, x = bowl(2.0, 2.0, 2.0)
    found = energy_by_distance(descent(solver, x, generator=generator()), x, generator=generator())
    # E - E(target) = 2 |y - x|^2, that is 6 times the mean squared distance, whatever the offset of the problem.
    torch.testing.assert_close(found.energy, 6 * found.distance, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.target_energy, 3 + x.sum(1))
    assert found.rank_correlation == pytest.approx(1, abs=1e-4)
    assert found.rank_correlation_by_problem.tolist() == pytest.approx([1] * 5, abs=1e-4)
    assert found.problem.bincount().tolist() == [60] * 5
    assert found.kind.bincount().tolist() == [100] * 3


def test_rank_correlations_are_those_of_the_points():
    solver, x = bowl(0.1, 9.0)
    found = energy_by_distance(descent(solver, x, generator=generator()), x, generator=generator())
    overall = scipy.stats.spearmanr(found.distance, found.energy).statistic
    assert found.rank_correlation == pytest.approx(overall, abs=1e-12)
    assert overall < 0.999
    for problem, value in enumerate(found.rank_correlation_by_problem.tolist()):
        chosen = found.problem == problem
        assert value == pytest.approx(scipy.stats.spearmanr(found.distance[chosen], found.energy[chosen]).statistic)


def test_a_maximum_is_ordered_the_wrong_way():
    def hill(x, y):
        return -(y - x).square().sum(1)

    x = torch.randn(2, 3, dtype=torch.float64)
    path = descent(EnergySolver(hill, SGD(0.01), init=Uniform((3,)), halting=Never(), max_steps=5), x)
    assert energy_by_distance(path, x).rank_correlation == pytest.approx(-1)


def test_kinds_of_candidates():
    target, start = torch.zeros(4000), torch.full((4000,), 3.0)
    iterates = torch.stack([start * 0.5**k for k in range(11)])
    points = Interpolations(3)(target, iterates, None)
    torch.testing.assert_close(points[:, 0], torch.tensor([1.0, 2.0, 3.0]))
    noise = Noise(3)(target, iterates, generator())
    torch.testing.assert_close(noise.square().mean(1).sqrt(), torch.tensor([1.0, 2.0, 3.0]), rtol=0.05, atol=0)
    torch.testing.assert_close(Iterates(3)(target, iterates, None), iterates[[0, 5, 10]])
    assert len(Iterates(20)(target, iterates, None)) == 11
    with pytest.raises(ValueError, match="count"):
        Noise(0)
    solver, x = bowl(1.0, 2.0)
    with pytest.raises(ValueError, match="No candidates"):
        energy_by_distance(descent(solver, x), x, candidates={})


def test_own_candidates():
    solver, x = bowl(1.0, 2.0)

    def opposite(target, iterates, generator):
        return -target.expand(2, -1)

    found = energy_by_distance(descent(solver, x), x, candidates={"opposite": opposite})
    assert found.kinds == ("opposite",)
    torch.testing.assert_close(found.distance, (4 * x.square().mean(1)).repeat_interleave(2))


# Slices.


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


# Figures.


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


def test_error_curves_are_the_errors():
    curves = {"energy": [1.0, 0.1, 0.01], "recurrent": [0.5, 0.4]}
    figure = draw_error_curves(
        curves, {"zero": 0.66}, "Addition", "steps", "mean squared error", x={"recurrent": [1, 2]}
    )
    (axes,) = figure.axes
    lines = drawn(axes)
    assert lines["energy"].get_xydata().tolist() == [[0, 1.0], [1, 0.1], [2, 0.01]]
    assert lines["recurrent"].get_xydata().tolist() == [[1, 0.5], [2, 0.4]]
    assert set(lines["zero"].get_ydata()) == {0.66}
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_yscale()) == ("steps", "mean squared error", "log")
    assert figure.get_suptitle() == "Addition"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["energy", "recurrent", "zero"]


def test_methods_beyond_the_range_are_left_out_and_named():
    errors = {
        "good": [20.0, 1.0, 0.1],
        "far": [50.0, 60.0, 70.0],
        "diverging": [1.0, 5.0, 50.0],
        "broken": [1.0, float("nan"), float("inf")],
        "absent": [float("nan")] * 3,
    }
    figure = draw_error_panels({"same": Curves(errors), "harder": Curves({"far": [1.0]})}, "t", "steps", "e", limit=10)
    same, harder = figure.axes
    assert set(drawn(same)) == {"good", "diverging", "broken"}
    assert same.get_xlabel().splitlines() == [
        "steps",
        "not shown, above the range: far, absent",
        "leave the range: diverging",
        "became NaN or infinite: broken",
    ]
    assert same.get_ylim()[1] == harder.get_ylim()[1] == 10
    # A method keeps its colour, whatever else its panel shows.
    assert to_hex(drawn(harder)["far"].get_color()).lower() == COLORS[1].lower()
    assert (same.get_title(), harder.get_title()) == ("same", "harder")
    assert harder.get_xlabel() == "steps"


def test_figures_with_nothing_to_draw(tmp_path):
    """Errors of zero have no logarithm."""
    draw_element_errors(torch.zeros(3, 2)).savefig(tmp_path / "zero.png")
    draw_error_curves({"exact": [0.0, 0.0]}, {}, "t", "x", "y").savefig(tmp_path / "zeros.png")
    figure = draw_error_curves({"far": [9.0, 9.0]}, {}, "t", "x", "y", limit=1)
    figure.savefig(tmp_path / "none.png")
    assert "far" in figure.axes[0].get_xlabel()


def test_curves_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="no curve"):
        Curves({})
    with pytest.raises(ValueError, match=r"x has 2 entries for 'a', which has 1 errors"):
        Curves({"a": [1.0]}, x={"a": [1, 2]})
    with pytest.raises(ValueError, match="which has no errors"):
        Curves({"a": [1.0]}, x={"b": [1]})
