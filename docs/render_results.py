"""Writes the results section of the README from the committed result files, ``docs/results/*.json``.

    python docs/render_results.py          # rewrites README.md
    python docs/render_results.py --check  # fails if README.md is not up to date

A result file is the ``result.json`` that ``energysolve solve TASK`` writes; other files in the folder are left alone. A
figure of the same name (``docs/results/NAME.svg``) is shown where there is one.
"""

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


def render(folder: Path) -> str:
    """The block for all the result files in a folder."""
    sections = []
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text())
        if isinstance(result, dict) and result.get("kind") == "solve":
            figure = path.with_suffix(".svg")
            sections.append(section(result, f"docs/results/{figure.name}" if figure.exists() else None))
    return "\n\n".join(sections) or "No result file has been committed yet."


def section(result: dict[str, Any], figure: str | None) -> str:
    """One result as Markdown."""
    count = next(iter(result["difficulties"].values()))["problems"]
    lines = [
        f"**{result['title']}**, {count:,} fresh problems of each difficulty, each solved once:",
        "",
        "| problems | mean error | paper's IREM | predict zero | converged | steps: mean | median | min | max |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, numbers in result["difficulties"].items():
        steps = numbers["steps"]
        paper = result["paper"].get(name)
        lines.append(
            f"| {name} | {numbers['error']:.2e} | {'-' if paper is None else f'{paper:.1e}'} "
            f"| {numbers['zero_error']:.3f} | {numbers['converged']:.1%} | {steps['mean']:.1f} | {steps['median']:g} "
            f"| {steps['min']} | {steps['max']} |"
        )
    lines += ["", *result["comparison"]]
    if figure is not None:
        lines += ["", f"![{result['title']}: error against steps, and the distribution of steps]({figure})"]
    versions, hardware = result["versions"], result["hardware"]
    lines += [
        "",
        f"`{result['command']}` with seed {result['seed']}, {result['date'][:10]}, "
        f"energysolve {versions['energysolve']}, torch {versions['torch']}, Python {versions['python']}, "
        f"{hardware['cores']} cores of {hardware['cpu']}.",
    ]
    return "\n".join(lines)


def rendered(readme: str, block: str) -> str:
    """The README with its results block replaced."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{block}\n{END}{after}"


def main() -> int:
    """Rewrite the README, or check it."""
    path = ROOT / "README.md"
    old = path.read_text()
    new = rendered(old, render(ROOT / "docs" / "results"))
    if "--check" not in sys.argv[1:]:
        path.write_text(new)
        return 0
    if old != new:
        sys.stderr.write("README.md is not up to date: run python docs/render_results.py\n")
    return int(old != new)


if __name__ == "__main__":
    sys.exit(main())
