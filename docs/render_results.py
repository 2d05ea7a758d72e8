"""Write the results sections of the documents from the committed result files, ``docs/results/*.json``.

    python docs/render_results.py          # rewrites the documents
    python docs/render_results.py --check  # fails if a document is not up to date

The kinds of results are: ``solve``, the ``result.json`` of ``energysolve solve TASK``, shown with the figure of the
same name (``docs/results/NAME.svg``) if there is one; ``overhead``, written by ``make bench``; ``settings``, written by
``docs/experiments/addition_settings.py``; ``precision``, from two runs of ``energysolve train``; ``compaction``,
written by its benchmark; ``mutation``, written by ``docs/experiments/mutation.py``; those of the scripts in
``docs/experiments``; ``float32``, written by its test; and those of ``energysolve bench``.
"""

import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

import scaling
import targets

from energysolve.benchmarks.report import shown as cell
from energysolve.experiments.tables import markdown

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


def load(folder: Path, kind: str) -> list[tuple[Path, dict[str, Any]]]:
    """The result files of a kind."""
    results = [(path, json.loads(path.read_text())) for path in sorted(folder.glob("*.json"))]
    return [(path, result) for path, result in results if isinstance(result, dict) and result.get("kind") == kind]


def render(folder: Path) -> str:
    """The block of the page on the shipped energies, for all the result files in a folder."""
    sections = []
    for path, result in load(folder, "solve"):
        figure = path.with_suffix(".svg")
        sections.append(section(result, f"results/{figure.name}" if figure.exists() else None))
    sections += [overhead(result) for _, result in load(folder, "overhead")]
    return "\n\n".join(sections) or "No result file has been committed yet."


def overhead(result: dict[str, Any]) -> str:
    """The time of the solver relative to hand-written loops, as Markdown."""
    lines = [
        "**Overhead**: time of a solve of 50 steps relative to a hand-written loop, measured in the same run (median "
        "over alternating rounds, with quartiles):",
        "",
        "| against | ratio | quartiles | at most |",
        "|---|---|---|---|",
    ]
    for name, numbers in result["ratios"].items():
        low, high = numbers["ratio_quartiles"]
        lines.append(f"| {name} | {numbers['ratio']:.2f} | {low:.2f} to {high:.2f} | {numbers['bound']:.2f} |")
    return "\n".join([*lines, "", origin(result)])


def settings(folder: Path) -> str:
    """The results of the log on test-time settings, as Markdown."""
    blocks = []
    for _, result in load(folder, "settings"):
        lines = [
            "| step size | tolerance | error, same | steps | error, harder | steps |",
            "|---|---|---|---|---|---|",
        ]
        for row in result["rows"]:
            cells = [f"{row[name]['error']:.1e} | {row[name]['steps']:.1f}" for name in ("same", "harder")]
            lines.append(f"| {row['step_size']:g} | {row['atol']:.0e} | {' | '.join(cells)} |")
        blocks.append("\n".join([*lines, "", f"{result['problems']} problems of each difficulty. {origin(result)}"]))
    return "\n\n".join(blocks)


def solvers(folder: Path) -> str:
    """The optimizers and tolerances of the shipped energies, as Markdown."""
    blocks = []
    for _, result in load(folder, "solvers"):
        columns = ("energy function", "difficulty", "optimizer", "halting", "error", "energy", "evaluations", "seconds")
        lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
        lines += [f"| {' | '.join(cell(row[name]) for name in columns)} |" for row in result["rows"]]
        blocks.append("\n".join([*lines, "", f"{result['problems']} problems of each difficulty. {origin(result)}"]))
    return "\n\n".join(blocks)


def optimizers(folder: Path) -> str:
    """The comparison of optimizers on batches of problems and on the collection, as Markdown."""
    blocks = []
    for _, result in load(folder, "optimizers"):
        figures = result["figures"]
        lines = [
            "**The problems of Moré, Garbow and Hillstrom**, from 1, 10 and 100 times their standard starts:",
            "",
            "| optimizer | cases | solved | reference | solved by it | evaluations over the reference's |",
            "|---|---|---|---|---|---|",
        ]
        for name, found in figures.items():
            if name.startswith("collection_"):
                numbers = [found[key] for key in ("cases", "solved", "reference", "solved_by_reference")]
                ratio = found["evaluations_over_reference"]
                lines.append(f"| {' | '.join(map(cell, [name.removeprefix('collection_'), *numbers, ratio]))} |")
        skipped = "".join(f" Skipped: {each}." for each in figures["skipped"])
        note = f"{figures['notes']} Gradients fall to {figures['rtol']:g} of their initial norm.{skipped}"
        blocks += [measurement(result), note, "\n".join(lines)]
    return "\n\n".join(blocks) or "No result file has been committed yet."


MEASUREMENTS = ("iteration", "target", "solving", "memory")
"""The kinds of results that ``energysolve bench`` writes."""


def speed(folder: Path) -> str:
    """The block of the page on speed: the table and the bounds of each measurement."""
    found = [result for kind in MEASUREMENTS for _, result in load(folder, kind)]
    blocks = [*map(measurement, found), *(compaction(result) for _, result in load(folder, "compaction"))]
    return "\n\n".join(blocks) or "No measurement has been committed yet."


def compaction(result: dict[str, Any]) -> str:
    """The time that compaction saves for each optimizer and tolerance, as Markdown."""
    lines = [
        f"**Compaction**, on batches of {result['problems']:,} problems, half of each difficulty: time with "
        "`compact=True` relative to the time without, measured in the same run:",
        "",
        "| task | optimizer | criterion | steps: mean | max | ratio | range | at most | energies apart |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        optimizer = row.get("optimizer") or f"SGD({row['step_size']:g})"
        steps = row["steps"]
        values = (steps["mean"], steps["max"], row["ratio"], row["ratio_range"], row.get("bound"))
        relative = row.get("largest_relative_difference_of_energies")
        apart = f"{cell(relative)}, relative" if relative is not None else cell(row["largest_difference"]["energy"])
        cells = [f"`{optimizer}`", f"`{row['halting']}`", *map(cell, values), apart]
        lines.append(f"| {row.get('task', 'addition')} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", origin(result)])


def precision(folder: Path) -> str:
    """Training in bfloat16 against float32, as Markdown."""
    blocks = []
    for _, result in load(folder, "precision"):
        lines = ["| precision | error, same | error, harder | predict zero, same | harder |", "|---|---|---|---|---|"]
        for name, run in result["runs"].items():
            numbers = [run["evaluation"][key] for key in ("same", "harder")]
            cells = [
                f"{value:.2e}"
                for value in (*(n["error"] for n in numbers), *(floors(n)["predict zero"] for n in numbers))
            ]
            lines.append(f"| {'float32' if name == 'no' else name} | {' | '.join(cells)} |")
        shown = ", ".join(f"{value:.2f} ({name})" for name, value in result["ratio"].items())
        lines += ["", f"- error of bf16 over that of float32: {shown}, at most {result['bound']:g}", ""]
        lines += [f"- {origin(run)}" for run in result["runs"].values()]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def mutation(folder: Path) -> str:
    """The block of the page on mutation testing: numbers by module, and every mutant that is alive with its reason."""
    blocks = []
    for _, result in load(folder, "mutation"):
        reasons = json.loads((ROOT / "docs" / "experiments" / "mutation-alive.json").read_text())
        rows, alive = [], []
        for module, found in result["modules"].items():
            known = reasons.get(module, {})
            equivalent = sum(known.get(change["new"], "").startswith("equivalent") for change in found["alive"])
            outcomes = [found["killed"], found["timeout"], len(found["alive"])]
            rows.append([f"`{module}`", found["mutants"], sum(outcomes), *outcomes, equivalent])
            alive += [f"- `{module}`: {change(each, known)}" for each in found["alive"]]
        total = [sum(row[column] for row in rows) for column in range(1, 7)]
        headings = ["module", "mutants", "tried", "killed", "timed out", "alive", "of these equivalent"]
        shares = sorted({(found["share"], found["seed"]) for found in result["modules"].values()})
        drawn = "; ".join(f"{share:.0%} of the mutants, seed {seed}" for share, seed in shares)
        lines = [f"**Sample**: {drawn}.", "", markdown(headings, [*rows, ["all", *total]]), ""]
        missed, killable = total[4] - total[5], total[1] - total[5]
        lines += [f"Alive of those that can be killed: {missed} of {killable}, {missed / max(killable, 1):.1%}.", ""]
        lines += ["Alive:", "", *alive, ""] if alive else []
        blocks.append("\n".join([*lines, origin(result)]))
    return "\n\n".join(blocks)


def change(mutant: dict[str, Any], reasons: dict[str, str]) -> str:
    """What a mutant changes, and why no test fails."""
    return f"`{mutant['old']}` becomes `{mutant['new']}`; {reasons.get(mutant['new'], 'not explained')}."


def measurement(result: dict[str, Any]) -> str:
    """A result of ``energysolve bench`` as Markdown."""
    rows = result["rows"]
    device = result["hardware"]["device"]
    lines = [f"**{result['title']}**, on {'the CPU' if device == 'cpu' else device}:", ""]
    lines.append(f"| {' | '.join(name.replace('_', ' ') for name in rows[0])} |")
    lines.append("|---" * len(rows[0]) + "|")
    lines += [f"| {' | '.join(map(cell, row.values()))} |" for row in rows]
    lines += ["", *map(bound, result["bounds"])]
    if not result["complete"]:
        lines.append("- The measurement was interrupted.")
    return "\n".join([*lines, "", origin(result)])


def bound(checked: dict[str, Any]) -> str:
    """A measured number with its bound, as Markdown."""
    sense = "at_least" if "at_least" in checked else "at_most"
    verdict = "" if checked["met"] else ": **missed**"
    return f"- {checked['what']}: {cell(checked['value'])}, {sense.replace('_', ' ')} {cell(checked[sense])}{verdict}"


def origin(result: dict[str, Any]) -> str:
    """How to repeat a result, with the current paths of modules that have moved since."""
    moved = r"python -m energysolve\.experiments\.(blocks|cubes|polynomials)\b"
    command = re.sub(moved, r"python docs/experiments/\1.py", result["command"])
    versions, hardware = result["versions"], result["hardware"]
    seed = f" with seed {result['seed']}" if "seed" in result else ""
    return (
        f"`{command}`{seed}, {result['date'][:10]}, energysolve {versions['energysolve']}, "
        f"torch {versions['torch']}, Python {versions['python']}, {hardware['cores']} cores of {hardware['cpu']}."
    )


def floors(numbers: dict[str, Any]) -> dict[str, float]:
    """The errors of trivial answers by name, in result files of either form."""
    old = {"predict zero": numbers.get("zero_error"), "copy": numbers.get("copy_error")}
    return numbers.get("floors") or {name: error for name, error in old.items() if error is not None}


def section(result: dict[str, Any], figure: str | None) -> str:
    """One result as Markdown."""
    count = next(iter(result["difficulties"].values()))["problems"]
    names = list(floors(next(iter(result["difficulties"].values()))))
    headings = ["problems", "mean error", "paper's IREM", *names, "converged", "steps: mean", "median", "min", "max"]
    rows = []
    for name, numbers in result["difficulties"].items():
        steps, paper = numbers["steps"], result["paper"].get(name)
        trivial = [f"{floors(numbers)[each]:.3g}" for each in names]
        shown = [f"{steps['mean']:.1f}", f"{steps['median']:g}", steps["min"], steps["max"]]
        reported = "-" if paper is None else f"{paper:.1e}"
        rows.append([name, f"{numbers['error']:.2e}", reported, *trivial, f"{numbers['converged']:.1%}", *shown])
    by = f"by `{result['model']['name']}`, {count:,} fresh problems of each difficulty"
    lines = [f"**{result['title']}**, {by}, each solved once:", "", markdown(headings, rows), "", *result["comparison"]]
    if figure is not None:
        lines += ["", f"![{result['title']}: error against steps, and the distribution of steps]({figure})"]
    return "\n".join([*lines, "", origin(result)])


TABLES = ("table1", "table2", "table3", "table4", "table5", "scratchpad")
"""The tables that ``energysolve reproduce`` writes, in the order of the page on the paper."""


def paper(folder: Path) -> str:
    """The block of the page on the paper: targets, tables and figures."""
    blocks = []
    if any((folder / "runs").glob("*.json")):
        blocks = ["## Targets", targets.report(folder), "### The order of the methods", targets.order(folder)]
    # Headings move one level down: the page has its own title.
    tables = [path.read_text() for name in TABLES if (path := folder / f"{name}.md").exists()]
    blocks += [re.sub(r"^#", "##", text.strip(), flags=re.MULTILINE) for text in tables]
    nested = folder / "figure6.md"
    for number in (1, 2, 3, 4, 5, 7, 8):
        found = sorted(folder.glob(f"figure{number}*.{'png' if number == 8 else 'svg'}"))
        blocks += [f"## Figure {number}"] * bool(found)
        blocks += [f"![Figure {number}: {path.stem}](results/{path.name})" for path in found]
        if number == 5 and found:
            blocks.append(correlations(json.loads((folder / "figure5.json").read_text())))
            blocks += [re.sub(r"^#", "##", nested.read_text().strip(), flags=re.MULTILINE)] * nested.exists()
    for name, title in (("psnr", "Quality of images against steps"), ("filters", "Learned filters and potentials")):
        found = sorted(folder.glob(f"{name}-*.svg"))
        blocks += [f"## {title}"] * bool(found) + [f"![{title}: {path.stem}](results/{path.name})" for path in found]
    blocks += [noisier(result, folder / "denoising") for _, result in load(folder, "noisier")]
    if (folder / "sizes.json").exists():
        blocks += ["## Error against the size of graphs", "![Error against size](results/sizes.svg)"]
        blocks.append(sizes(json.loads((folder / "sizes.json").read_text())))
    blocks += [directed(result) for _, result in load(folder, "directed-paths")]
    if (folder / "limits.json").exists():
        blocks += ["## Floors and limits", f"![The limit of completion](results/{LIMIT})"]
    blocks += [polynomials(result) for _, result in load(folder, "polynomials")]
    blocks += [cubes(result) for _, result in load(folder, "cubes")]
    blocks += [numbers(result) for _, result in load(folder, "blocks")]
    blocks += [indistinguishable(result) for _, result in load(folder, "indistinguishable")]
    return "\n\n".join(blocks) or "No result has been committed yet."


LIMIT = "limits-completion.svg"


def sizes(result: dict[str, Any]) -> str:
    """Errors and steps by task, kind of graph and number of nodes, as Markdown."""
    headings = ("task", "graphs", "nodes", "problems", "error", "variance of the answers", "all answers right", "steps")
    rows = []
    for task, seeds in result["tasks"].items():
        for kind, found in seeds["seed 0"].items():
            for nodes, each in found.items():
                numbers = [f"{each['error']:.1e}", f"{each['variance of the answers']:.2g}", f"{each['exact']:.0%}"]
                rows.append([task, kind, nodes, each["problems"], *numbers, f"{each['steps']['mean']:.1f}"])
    preset, closing = result["preset"], "An answer counts as right within 1/2, that is after rounding for components."
    return "\n".join([markdown(headings, rows), "", f"`{preset}` settings, seed 0. {closing} {origin(result)}"])


def noisier(result: dict[str, Any], shipped: Path) -> str:
    """What training on higher noise levels would gain there, as Markdown."""
    rows = []
    for level, found in result["levels"].items():
        unseen = json.loads((shipped / f"best-told-{level}.json").read_text())["images"]
        gains = [value - unseen[name]["psnr"] for name, value in found.items()]
        mean, error = statistics.mean(gains), statistics.stdev(gains) / len(gains) ** 0.5
        rows.append([level, f"{statistics.mean(found.values()):.2f}", f"{mean:+.3f} ± {error:.3f}", len(gains)])
    introduction = (
        "## Noise that training never saw\n\nThe energy of `best` knows noise of levels up to 55. Trained for "
        f"{result['iterations']:,} further iterations with levels up to {result['most']}, and told the level:"
    )
    headings = ["noise level", "PSNR", "over the energy of Table 5 (± standard error)", "images"]
    return "\n\n".join([introduction, markdown(headings, rows), origin(result)])


def directed(result: dict[str, Any]) -> str:
    """Shortest paths along directed edges, as Markdown."""
    rows = [
        [
            name,
            f"{found['error']:.2g}",
            found["paper"],
            f"{found['floors']['edge']:.3g}",
            f"{found['steps']['mean']:.1f}",
        ]
        for name, found in result["sizes"].items()
    ]
    introduction = (
        "## Shortest paths along directed edges\n\nLengths uniform in (0, 1), as in the paper's text. The energy of "
        f"`best`, trained on such graphs for {result['iterations']:,} iterations; 1,000 fresh problems of each size:"
    )
    shown = markdown(("problems", "error", "the paper's IREM", "the edge itself", "steps"), rows)
    return "\n\n".join([introduction, shown, origin(result)])


def polynomials(result: dict[str, Any]) -> str:
    """The error of polynomials of a matrix as its inverse, as Markdown."""
    lines = ["| degree of the polynomial | error, same | error, harder |", "|---|---|---|"]
    for degree, found in result["degrees"].items():
        cells = [f"{found[d]['error']:.4g} ± {found[d]['standard_error']:.1g}" for d in ("same", "harder")]
        lines.append(f"| {degree} | {' | '.join(cells)} |")
    introduction = (
        f"The inverse as a polynomial of the matrix, with least-squares coefficients from {result['fitted']:,} "
        f"problems of the training difficulty; mean error ± standard error on {result['problems']:,} fresh problems "
        "per difficulty:"
    )
    return "\n".join([introduction, "", *lines, "", origin(result)])


def cubes(result: dict[str, Any]) -> str:
    """Completion with cubes of probes of a matrix, as Markdown."""
    lines = [
        "| directions | same | harder | same, observed entries unchanged | harder, observed entries unchanged |",
        "|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        cells = [f"{row[d][kind]:.4f}" for kind in ("all", "missing") for d in ("same", "harder")]
        lines.append(f"| {row['directions']:,} | {' | '.join(cells)} |")
    introduction = (
        "Completion by copying plus a correction: cubes of the matrix's components in random directions, with a common "
        f"coefficient that was fitted on {result['fitted']:,} problems of the training difficulty. Error relative to "
        f"copying, on the same {result['problems']:,} fresh problems per difficulty:"
    )
    return "\n".join([introduction, "", *lines, "", origin(result)])


def indistinguishable(result: dict[str, Any]) -> str:
    """What messages between nodes cannot tell apart, as Markdown."""
    introduction = (
        "Components by messages between nodes, such as the paper's energy has: pairs of nodes that look the same get "
        "the same answer, a node with itself that of a pair of two such nodes. The least error that this leaves, after "
        "three rounds of messages along the edges (as in one evaluation of the paper's energy), and after any number "
        f"of rounds in both directions, on {result['problems']:,} problems:"
    )
    lines = ["| nodes | three rounds along the edges | any number, both ways |", "|---|---|---|"]
    lines += [f"| {size} | {each['rounds']:.4f} | {each['refined']:.4f} |" for size, each in result["sizes"].items()]
    return "\n".join([introduction, "", *lines, "", origin(result)])


def numbers(result: dict[str, Any]) -> str:
    """Completion of a block from its own entries, as Markdown."""
    lines = ["| block | same, block | same | harder, block | harder |", "|---|---|---|---|---|"]
    for row in result["rows"]:
        cells = []
        for found in (row["same"], row["harder"]):
            cells += [f"{found['block']:.4f}", f"{found['all']:.4f} ± {found['standard_error']:.1g}"]
        lines.append(f"| {' x '.join(map(str, row['block']))} | {' | '.join(cells)} |")
    introduction = (
        "Completion by the posterior mean of a block, given the block's own entries, and by copying elsewhere. (Beyond "
        "a linear function, an energy with one minimum and a first layer of 512 units knows 112 numbers of the "
        "problem, however deep it is.) Error relative to copying, on the block and (± standard error) on the whole "
        f"matrix, on {result['problems']:,} fresh problems per difficulty:"
    )
    return "\n".join([introduction, "", *lines, "", origin(result)])


def correlations(result: dict[str, Any]) -> str:
    """The rank correlations of Figure 5, as Markdown."""
    lines = ["| task | candidates | rank correlation | by problem: mean | least |", "|---|---|---|---|---|"]
    for task, found in result["tasks"].items():
        each = found["rank_correlation_by_problem"]
        cells = [
            cell(found["candidates"]),
            *(f"{v:.4f}" for v in (found["rank_correlation"], each["mean"], each["min"])),
        ]
        lines.append(f"| {task} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"`{result['preset']}` settings. {origin(result)}"])


def rendered(document: str, block: str) -> str:
    """A document with its results block replaced."""
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{block}\n{END}{after}"


def main() -> int:
    """Rewrite the documents, or check them."""
    results = ROOT / "docs" / "results"
    stale = []
    blocks = {
        "docs/shipped-energies.md": render(results),
        "docs/experiments/addition.md": settings(results),
        "docs/choosing-an-optimizer.md": optimizers(results),
        "docs/convergence.md": "\n\n".join(measurement(result) for _, result in load(results, "float32")),
        "docs/experiments/mutation.md": mutation(results),
        "docs/experiments/solvers.md": solvers(results),
        "docs/experiments/training.md": precision(results),
        "docs/paper.md": paper(results),
        "docs/scale.md": scaling.scale(results),
        "docs/speed.md": speed(results),
    }
    for name, block in blocks.items():
        path = ROOT / name
        old = path.read_text()
        new = rendered(old, block)
        if old != new:
            stale.append(name)
            if "--check" not in sys.argv[1:]:
                path.write_text(new)
    if stale and "--check" in sys.argv[1:]:
        sys.stderr.write(f"{', '.join(stale)} not up to date: run python docs/render_results.py\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
