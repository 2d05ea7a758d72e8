"""Shortest paths with edges uniform in (0, 1), the paper's words, which are not symmetric; writes a result file.

python docs/experiments/directed_paths.py --output docs/results/directed-paths.json
"""

import argparse
from pathlib import Path

from energysolve.evaluation.evaluate import evaluate
from energysolve.experiments.measure import PROBLEMS
from energysolve.files import write_json
from energysolve.presets import DOMAINS, finished
from energysolve.provenance import environment
from energysolve.seeding import stream
from energysolve.tasks import ShortestPath

ITERATIONS = 2000


def main() -> None:
    """Train the energy of triples on such graphs, and evaluate it once."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=Path, required=True)
    output: Path = parser.parse_args().output
    domain, task = DOMAINS["shortest-path"], ShortestPath(symmetric=False)
    preset = domain.preset("best").changed({"iterations": ITERATIONS})
    trainer, used = preset.prepare("directed paths", task, cpu=True)
    trainer.fit(ITERATIONS)
    solver = finished(trainer, used)
    sizes = {}
    for difficulty in task.difficulties:
        found = evaluate(solver, task, difficulty, PROBLEMS, stream(f"directed paths {difficulty}", 0), curve=False)
        sizes[difficulty] = found.summary() | {"paper": domain.paper["irem"][difficulty]}
    content = {
        "kind": "directed-paths",
        "command": f"python docs/experiments/directed_paths.py --output docs/results/{output.name}",
        "iterations": ITERATIONS,
        "sizes": sizes,
    }
    write_json(output, {**content, **environment("cpu")})


if __name__ == "__main__":
    main()
