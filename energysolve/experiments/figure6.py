"""Figure 6: three nested additions; the first nine elements of operands and answer as 3 x 3 matrices."""

from pathlib import Path

import torch
from torch import Tensor

from ..composition import compose
from ..seeding import stream
from .runs import Laboratory, Run
from .tables import markdown, page

_OPERANDS = 4


def reproduce(laboratory: Laboratory, preset: str, seeds: int) -> list[Path]:
    """Add four fresh vectors. Returns the paths of the written files."""
    model = laboratory.model(Run("addition", "irem", preset, 0))
    size = laboratory.domains["addition"].task_for(model).size  # pyright: ignore[reportAttributeAccessIssue]
    generator = stream("figure6", 0)
    operands = torch.rand(1, _OPERANDS, size, generator=generator) * 2 - 1
    answer = compose(model, operands, generator=generator).y[0].detach()
    error = (answer - operands[0].sum(0)).square().mean().item()
    names = [*(f"x{k}" for k in range(_OPERANDS)), "answer", "sum"]
    columns = [*operands[0], answer, operands[0].sum(0)]
    rows = [[_matrix_row(column, row) for column in columns] for row in range(3)]
    closing = f"Mean squared error over all {size} elements: {error:.2e}."
    path = laboratory.write_page("figure6.md", page(_TITLE, markdown(names, rows), closing))
    result = laboratory.results / "figure6.json"
    shown = {name: column[:9].tolist() for name, column in zip(names, columns, strict=True)}
    content = {"kind": "figure6", "command": laboratory.command, "preset": preset, "first_elements": shown}
    laboratory.write(result, content | {"error": error})
    return [path, result]


_TITLE = (
    "# Figure 6: three nested additions\n\nThe first nine elements of four operands and their sum, as 3 x 3 matrices."
)


def _matrix_row(values: Tensor, row: int) -> str:
    return " ".join(f"{value:+.3f}" for value in values[3 * row : 3 * row + 3].tolist())
