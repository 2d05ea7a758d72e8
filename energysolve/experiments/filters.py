"""The learned filters and potentials of `FieldsEnergy`, as a figure."""

from pathlib import Path
from typing import Any

import torch
from matplotlib import rc_context
from matplotlib.figure import Figure

from ..energies import FieldsEnergy
from ..evaluation.figures import COLORS, STYLE, save
from .runs import Laboratory, Run
from .table5 import TASK

_RESPONSES = 12.0
"""The largest pooled response shown, in units of the noise."""


def reproduce(laboratory: Laboratory, preset: str, seeds: int) -> list[Path]:
    """Draw the energy of a preset. Returns the paths of the written files.

    Raises:
        ValueError: if the preset's energy has no filters.
    """
    energy = laboratory.model(Run(TASK, "irem", preset, 0)).energy
    if not isinstance(energy, FieldsEnergy):
        raise ValueError(f"the energy of preset {preset!r} is {type(energy).__name__}, which has no filters to show")
    return save(draw_fields(energy), laboratory.results, f"filters-{preset}")


@torch.no_grad()
def draw_fields(energy: FieldsEnergy) -> Figure:
    """One filter of each four, those that weigh most first, and the slopes of the potentials."""
    filters, pooling = energy.filters().cpu()[::4], energy.pooling().cpu()
    weights, ends = (each.cpu() for each in energy.potentials())
    weight = ((weights @ pooling).sqrt()[::4] * filters.flatten(1).norm(dim=1)).argsort(descending=True)
    with rc_context(STYLE):
        rows = -(-len(filters) // 6)
        figure = Figure(figsize=(8.0, 1.25 * rows + 3.2), layout="constrained")
        parts: Any = figure.subfigures(2, 1, height_ratios=[1.25 * rows, 3.2])
        above, below = parts
        for axes in (grid := above.subplots(rows, 6, squeeze=False)).flat:
            axes.axis("off")
        for axes, number in zip(grid.flat, weight.tolist(), strict=False):
            largest = filters[number].abs().max().clamp(min=1e-12).item()
            axes.imshow(filters[number].numpy(), cmap="gray", vmin=-largest, vmax=largest, interpolation="nearest")
        axes = below.subplots()
        response = torch.linspace(0, _RESPONSES, 400)
        for number, (a, b) in enumerate(zip(weights[::4].tolist(), ends[::4].tolist(), strict=True)):
            # The derivative of a (H(r) - b H(r / b)) with the Huber function H.
            slope = a * (response.clamp(max=1) - (response / b).clamp(max=1))
            axes.plot(response.numpy(), slope.numpy(), color=COLORS[number % len(COLORS)], linewidth=1.2)
        axes.set(xlabel="pooled response of filters, in units of the noise", ylabel="slope of the potential")
        axes.grid(axis="y", linewidth=0.4, alpha=0.5)
    return figure
