"""Curves of errors: what the figures show, omit and refuse."""

import pytest
from matplotlib.colors import to_hex

from energysolve.evaluation.figures import COLORS, Curves, draw_error_curves, draw_error_panels


def drawn(axes):
    return {each.get_label(): each for each in axes.lines}


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
