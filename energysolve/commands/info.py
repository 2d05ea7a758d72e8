"""``energysolve info``."""

import torch
from rich.console import Console

from ..evaluation.report import plain_table
from ..pretrained.files import find, names, read_config
from ..provenance import environment
from ..solver import EnergySolver


def info():
    """Show versions, devices and the trained energies that come with the library."""
    console = Console()
    about = environment()
    console.print("  ".join(f"{name} {number}" for name, number in about["versions"].items()), highlight=False)
    cuda = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    hardware = about["hardware"]
    console.print(
        f"CPU: {hardware['cpu']}, {hardware['cores']} cores, torch threads: {hardware['threads']}", highlight=False
    )
    console.print(f"CUDA: {', '.join(cuda) or 'not available'}", highlight=False)
    if not names():
        console.print("No trained energies come with this installation.")
        return
    headings = ("name", "energy", "parameters", "iterations", "seed", "trained on", "error")
    rows = [(name, *_facts(name)) for name in names()]
    table = plain_table()
    for heading, *cells in zip(headings, *rows, strict=True):
        # As wide as the longest cell: a name that is wrapped or cut cannot be copied.
        width = max(len(line) for cell in (heading, *cells) for line in cell.split("\n"))
        number = heading in ("parameters", "iterations", "seed")
        table.add_column(heading, justify="right" if number else "left", min_width=width, no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console.print("\nTrained energies", style="bold")
    console.print(table, soft_wrap=True)


def _facts(name: str) -> tuple[str, ...]:
    energy = EnergySolver.from_pretrained(name).energy
    count = sum(parameter.numel() for parameter in energy.parameters())  # pyright: ignore
    training = read_config(find(name)).get("training", {})
    settings = training.get("settings", {})
    errors = {key: numbers["error"] for key, numbers in training.get("evaluation", {}).items()}
    shown = "\n".join(f"{key} {'-' if error is None else f'{error:.1e}'}" for key, error in errors.items())
    known = (settings.get("iterations", "-"), settings.get("seed", "-"), training.get("date", "-")[:10])
    return type(energy).__name__, f"{count:,}", *map(str, known), shown or "-"
