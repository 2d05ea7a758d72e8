"""Figures as files."""

from matplotlib.figure import Figure

from energysolve.evaluation.figures import save


def test_the_same_figure_is_the_same_file(tmp_path):
    for folder in ("first", "second"):
        figure = Figure()
        axes = figure.subplots()
        axes.plot([0, 1, 3], marker="o", clip_on=True)
        save(figure, tmp_path / folder, "figure")
    for suffix in ("png", "svg"):
        first, second = ((tmp_path / folder / f"figure.{suffix}").read_bytes() for folder in ("first", "second"))
        assert first == second
        assert len(first) > 1000
