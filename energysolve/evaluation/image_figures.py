"""Figures of images side by side, with a detail of each. Importing this module imports matplotlib."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .figures import STYLE

_SHOWN = 1500
"""The most rows and columns that are drawn."""
_DETAIL = 96
"""Rows and columns of the detail."""


def draw_images(panels: Mapping[str, np.ndarray], title: str, columns: int = 5) -> Figure:
    """Images of one size in a row, each with its name, and below it its most structured detail, enlarged.

    Args:
        panels: images ``(H, W)``, ``(H, W, 3)`` or with transparency, by name; integers, or numbers in [0, 1]. The
            detail is chosen by the last of them.
        title: title of the figure.
        columns: the most images next to each other.
    """
    shown = {name: _shown(image) for name, image in panels.items()}
    rows, columns = _detail(list(shown.values())[-1]), min(columns, len(shown))
    stacks = -(-len(shown) // columns)
    height, width = next(iter(shown.values())).shape[:2]
    with rc_context(STYLE):
        size = (3.2 * columns, stacks * (3.2 * height / width + 3.5) + 0.4)
        figure = Figure(figsize=size, layout="constrained")
        figure.suptitle(title, fontsize=12)
        ratios = [height / width, 1.0] * stacks
        axes = figure.subplots(2 * stacks, columns, squeeze=False, height_ratios=ratios)
        for each in axes.flat:
            each.axis("off")
        for number, (name, image) in enumerate(shown.items()):
            above, below = axes[2 * (number // columns) : 2 * (number // columns) + 2, number % columns]
            settings: Any = {"vmin": 0, "vmax": 1, "cmap": "gray", "interpolation": "nearest"}
            above.imshow(image, **settings)
            above.set_title(name, fontsize=9)
            side = (rows[1].start - 0.5, rows[0].start - 0.5)
            above.add_patch(
                Rectangle(side, *(each.stop - each.start for each in rows[::-1]), fill=False, color="#D55E00")
            )
            below.imshow(image[rows], **settings)
    return figure


def save_picture(figure: Figure, path: Path) -> None:
    """Save a figure of images as one PNG; an SVG would hold the same pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _shown(image: np.ndarray) -> np.ndarray:
    """The image in [0, 1], without transparency, at most `_SHOWN` rows and columns."""
    step = max(1, -(-max(image.shape[:2]) // _SHOWN))
    white = np.iinfo(image.dtype).max if np.issubdtype(image.dtype, np.integer) else 1
    image = (image[::step, ::step] / white).clip(0, 1)
    return image if image.ndim == 2 else image[..., :3] if image.shape[2] > 2 else image[..., 0]


def _detail(image: np.ndarray) -> tuple[slice, slice]:
    """The window in which the values vary most."""
    grey = image if image.ndim == 2 else image.mean(-1)
    height, width = (min(_DETAIL, size) for size in grey.shape)
    starts = [
        (row, column)
        for row in range(0, grey.shape[0] - height + 1, max(1, height // 2))
        for column in range(0, grey.shape[1] - width + 1, max(1, width // 2))
    ]
    row, column = max(starts, key=lambda start: grey[start[0] : start[0] + height, start[1] : start[1] + width].std())
    return slice(row, row + height), slice(column, column + width)
