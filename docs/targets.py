"""The targets for the results, and whether they are met."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from energysolve.experiments import table3, table5
from energysolve.experiments.runs import Laboratory
from energysolve.experiments.table3 import TABLE3
from energysolve.experiments.table4 import TABLE4
from energysolve.experiments.tables import markdown, recorded
from energysolve.presets import DOMAINS, METHODS

_ERRORS: dict[tuple[str, str], dict[str, float]] = {
    ("addition", "paper"): {"same": 1.5 * 0.0003, "harder": 1.5 * 0.0021},
    ("addition", "tuned"): {"same": 3e-5, "harder": 2e-4},
    ("addition", "best"): {"same": 1e-6, "harder": 1e-6},
    ("completion", "paper"): {"same": 1.05 * 0.0183, "harder": 1.10 * 0.2074},
    ("inverse", "paper"): {"same": 1.1 * 0.0108, "harder": 1.1 * 0.2083},
    ("inverse", "tuned"): {"same": 0.0085, "harder": 0.204},
    ("inverse", "best"): {"same": 1e-5, "harder": 1e-3},
    ("edge-copy", "paper"): {"same": 0.0019, "larger": 1.5 * 0.0019},
    ("edge-copy", "tuned"): {"same": 2e-4, "larger": 2e-4},
    ("edge-copy", "best"): {"same": 1e-7, "larger": 1e-7},
    ("components", "paper"): {"same": 1.15 * 0.1424, "larger": 1.15 * 0.2171},
    ("components", "tuned"): {"same": 0.10, "larger": 0.20},
    ("components", "best"): {"same": 1e-4, "larger": 1e-4},
    ("shortest-path", "paper"): {"same": 0.055, "larger": 0.18},
    ("shortest-path", "tuned"): {"same": 0.030, "larger": 0.060},
    ("shortest-path", "best"): {"same": 1e-6, "larger": 5e-6},
}
"""The largest mean error, by task and preset."""
_RATIOS: dict[tuple[str, str], dict[str, float]] = {
    ("completion", "tuned"): {"same": 0.995, "harder": 1.0},
    ("completion", "best"): {"same": 0.95, "harder": 0.82},
}
"""The largest mean error over that of copying, on the same problems."""
_COMPOSITION = {"paper": {2: 0.0018, 5: 0.012, 10: 0.075}, "tuned": {2: 2e-4, 5: 8e-4, 10: 4e-3}}
_PAPER_IMAGES = {45: 0.6, 55: 0.6, 65: 0.0, 75: 0.0}
"""The largest loss against the paper's peak signal-to-noise ratio, by noise level."""
_BASELINES = 1.25
"""The largest errors of the other methods, relative to the paper's."""
_RISE = 1.01
"""The largest rise of the error: less than one percent is within rounding and sampling error of a thousand problems."""
_STEPS = 5
"""The number of steps in training."""


@dataclass(frozen=True)
class Target:
    """A number with an upper bound.

    Attributes:
        what: description of the number.
        value: the measured value.
        limit: the upper bound.
    """

    what: str
    value: float
    limit: float

    @property
    def met(self) -> bool:
        """Whether the value is within the bound; a NaN is not."""
        return self.value <= self.limit


def targets(results: Path) -> Iterator[Target]:
    """The targets for the results recorded in a folder."""
    for task in DOMAINS:
        found = recorded(results, task)
        for (method, preset), runs in found.items():
            if method == "irem":
                yield from _of_energies(task, preset, runs)
            elif preset == "paper":
                yield from _of_baselines(task, method, runs)
    yield from _of_step_sizes(results)
    yield from _of_images(results)


def report(results: Path) -> str:
    """The table of the targets, as Markdown."""
    rows = [
        [each.what, f"{each.value:.4g}", f"{each.limit:.4g}", "yes" if each.met else "**no**"]
        for each in targets(results)
    ]
    return markdown(("what", "measured", "at most", "met"), rows)


def order(results: Path) -> str:
    """The order of the methods with the paper's settings, compared to the paper's order, as a Markdown list."""
    lines = []
    for task, domain in DOMAINS.items():
        runs = {method: some for (method, preset), some in recorded(results, task).items() if preset == "paper"}
        for difficulty in ("same", domain.harder):
            ours = {method: _error(difficulty)(some[0]) for method, some in runs.items()}
            if len(ours) > 1:
                got = sorted(ours, key=ours.__getitem__)
                verdict = _verdict(got, {name: domain.paper[name][difficulty] for name in got})
                lines.append(f"- {task}, {difficulty}: {_titles(got)} ({verdict})")
    return "\n".join(lines)


def _verdict(got: list[str], paper: dict[str, float]) -> str:
    """Whether the order is the paper's, with either of our iterative networks in place of its single one."""
    both = ("iterative", "unrolled")
    orders = {kept: [name for name in got if name == kept or name not in both] for kept in both if kept in got}
    orders = orders or {"": got}
    as_in_paper = [kept for kept, names in orders.items() if names == sorted(names, key=paper.__getitem__)]
    if len(as_in_paper) == len(orders):
        return "as in the paper"
    if as_in_paper:
        return f"as in the paper with {METHODS[as_in_paper[0]]} for its iterative network"
    return "the paper: " + _titles(sorted(next(iter(orders.values())), key=paper.__getitem__))


def _titles(methods: list[str]) -> str:
    return " < ".join(METHODS[name] for name in methods)


def rise(curve: list[float]) -> float:
    """The largest ratio of an error to the smallest error before it, from training's number of steps on."""
    later = curve[_STEPS:]
    return max(error / min(later[: k + 1]) for k, error in enumerate(later))


def _of_energies(task: str, preset: str, runs: list[dict[str, Any]]) -> Iterator[Target]:
    name = f"{task}, `{preset}`"
    for difficulty, limit in _ERRORS.get((task, preset), {}).items():
        yield Target(f"{name}: error, {difficulty}", fmean(map(_error(difficulty), runs)), limit)
    for difficulty, limit in _RATIOS.get((task, preset), {}).items():
        ratios = [_error(difficulty)(run) / run["difficulties"][difficulty]["floors"]["copy"] for run in runs]
        yield Target(f"{name}: error over that of copying, {difficulty}", fmean(ratios), limit)
    if task == "addition":
        for k, limit in _COMPOSITION.get(preset, {}).items():
            yield Target(f"{name}: error of {k} additions", fmean(run["composition"][k - 1] for run in runs), limit)
    if preset == "tuned":
        for difficulty in ("same", DOMAINS[task].harder):
            rises = [rise(run["difficulties"][difficulty]["error_by_step"]) for run in runs]
            yield Target(f"{name}: rise of the error with more steps, {difficulty}", max(rises), _RISE)


def _of_baselines(task: str, method: str, runs: list[dict[str, Any]]) -> Iterator[Target]:
    for difficulty, paper in DOMAINS[task].paper[method].items():
        value = fmean(map(_error(difficulty), runs)) / paper
        yield Target(f"{task}, {METHODS[method]}: error over the paper's, {difficulty}", value, _BASELINES)
    if task == "addition":
        for k, paper in TABLE4[method].items():
            value = fmean(run["composition"][k - 1] for run in runs) / paper
            yield Target(f"{METHODS[method]}: error of {k} additions over the paper's", value, _BASELINES)


def _of_step_sizes(results: Path) -> Iterator[Target]:
    for scaled, energy in ((True, "scaled"), (False, "as it is")):
        found = table3.recorded_runs(Laboratory(results, results, ""), "tuned", scaled=scaled)
        if len(found) == len(TABLE3):
            for difficulty in ("same", "harder"):
                ours = table3.spread([fmean(map(_error(difficulty), runs)) for runs in found.values()])
                paper = table3.spread([errors[difficulty] for errors in TABLE3.values()])
                name = f"step sizes of training, energy {energy}: largest error over the smallest, {difficulty}"
                yield Target(name, ours, paper)


def _of_images(results: Path) -> Iterator[Target]:
    """Quality that is lost against others, in decibels."""
    psnr = {
        method: {
            level: {name: each["psnr"] for name, each in result["images"].items()} for level, result in some.items()
        }
        for method, some in table5.recorded(results).items()
    }
    for ours, other, limit in (("best-told", "bm3d", 0.0), ("best", "best-told", 0.1)):
        for level in sorted(psnr.get(ours, {}).keys() & psnr.get(other, {}).keys()):
            lost = _mean(psnr[other][level]) - _mean(psnr[ours][level])
            what = f"{table5.title_of(ours)}: loss against {table5.title_of(other)}, noise level {level}"
            yield Target(what, lost, limit)
    for level, limit in _PAPER_IMAGES.items():
        if level in psnr.get("paper", {}):
            lost = table5.PUBLISHED["IREM"][level] - _mean(psnr["paper"][level])
            yield Target(f"{table5.title_of('paper')}: loss against the published, noise level {level}", lost, limit)
    for path in results.glob("noisier.json"):
        for level, found in json.loads(path.read_text())["levels"].items():
            lost = _mean(found) - _mean(psnr["best-told"][int(level)])
            what = f"{table5.title_of('best-told')}: loss against training on the level, noise level {level}"
            yield Target(what, lost, 0.15)
    for preset, limit in (("best", 0.05), ("paper", 0.1)):
        for path in results.glob(f"psnr-{preset}.json"):
            for level, found in json.loads(path.read_text())["levels"].items():
                best = max(found["psnr_by_step"])
                name = f"{table5.title_of(preset)}: loss against the best step, noise level {level}"
                yield Target(f"{name}, at the minimum", best - found["psnr_by_step"][-1], limit)
                yield Target(f"{name}, where the solver stops", best - found["psnr"], limit)
    for path in results.glob("denoising-speed.json"):
        found = json.loads(path.read_text())
        yield Target("a photograph of 512 x 512: time over that of BM3D", found["ratio"], 2.0)
        yield Target("a photograph of 512 x 512: evaluations", found["evaluations"], 60)


def _mean(images: dict[str, float]) -> float:
    return fmean(images.values())


def _error(difficulty: str) -> Callable[[dict[str, Any]], float]:
    return lambda run: run["difficulties"][difficulty]["error"]
