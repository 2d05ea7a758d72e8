"""The floors and limits of the tasks with continuous answers, as a result file and a figure.

    python -m energysolve.experiments.limits --output docs/results/limits.json

Every number is a mean over fresh problems, with its standard error. The limit of completion is the error of the
posterior mean (see `gibbs`), as a ratio to the error of copying on the same problems, which varies less from sample to
sample than the error itself. The file is written after every part, so an interrupted run keeps its results.
"""

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ...evaluation.floors import MEAN_SAMPLE, mean_target
from ...files import write_json
from ...presets import DOMAINS
from ...provenance import environment
from ...seeding import stream
from .gibbs import PosteriorMean, posterior_mean


@dataclass(frozen=True)
class Budget:
    """The amount of computation.

    Attributes:
        problems: number of problems for the floors.
        means: number of problems whose mean target is a constant answer.
        gibbs_problems: number of problems, the first of ``problems``, for the limit of completion.
        sweeps: sweeps of Gibbs sampling to average over.
        burn_in: sweeps before these.
        chains: chains per problem, and as many again that start at the true factors.
        chunk: number of problems sampled together, which bounds the memory.
        seed: seed of problems and chains.
    """

    problems: int = 10_000
    means: int = MEAN_SAMPLE
    gibbs_problems: int = 200
    sweeps: int = 1000
    burn_in: int = 200
    chains: int = 4
    chunk: int = 25
    seed: int = 0

    def __post_init__(self):
        if not 2 <= self.gibbs_problems <= self.problems:
            raise ValueError(
                f"gibbs_problems must be from 2 to problems, got {self.gibbs_problems!r} of {self.problems!r}."
            )


@dataclass(frozen=True, eq=False)
class LimitSample:
    """The errors of posterior means per problem.

    Attributes:
        copy: error of copying, ``(batch,)``.
        raw: error of the mean of the chains after the noted numbers of sweeps, ``(noted, batch)``.
        monte_carlo: the part of it that is expected from the finite length of the chains, ``(noted, batch)``.
        chains: error of each chain's mean over all sweeps, ``(chains, batch)``.
        variance: mean posterior variance of the entries, ``(batch,)``.
        r_hat: R-hat of the unobserved entries, ``(entries,)``.
    """

    copy: Float[Tensor, " batch"]
    raw: Float[Tensor, "noted batch"]
    monte_carlo: Float[Tensor, "noted batch"]
    chains: Float[Tensor, "chains batch"]
    variance: Float[Tensor, " batch"]
    r_hat: Float[Tensor, " entries"]

    @classmethod
    def of(cls, posterior: PosteriorMean, copied: Tensor, seen: Tensor, target: Tensor) -> "LimitSample":
        """The errors of estimates for some problems."""
        return cls(
            copy=copied,
            raw=posterior.error(target),
            monte_carlo=posterior.monte_carlo_variance(),
            chains=posterior.chain_errors(target)[-1],
            variance=posterior.variance.mean((-1, -2)),
            r_hat=posterior.r_hat[~seen],
        )

    @classmethod
    def joined(cls, parts: Sequence["LimitSample"]) -> "LimitSample":
        """The concatenation of several samples."""
        return cls(*(torch.cat([getattr(part, field.name) for part in parts], -1) for field in fields(cls)))

    def curves(self) -> dict[str, list[float]]:
        """Ratios to the error of copying after the noted numbers of sweeps."""
        copied = self.copy.mean()
        return {
            "raw_ratio": (self.raw.mean(1) / copied).tolist(),
            "ratio": ((self.raw - self.monte_carlo).mean(1) / copied).tolist(),
        }

    def summary(self) -> dict[str, Any]:
        """The limit after all sweeps, JSON-able."""
        error = self.raw[-1] - self.monte_carlo[-1]
        ratio = error.mean() / self.copy.mean()
        # Standard error of a ratio of means, by the delta method.
        ratio_error = standard_error(error - ratio * self.copy) / self.copy.mean().item()
        # Chain number k of all problems gives one independent estimate; the mean over k has a smaller error.
        between = self.chains.mean(1).std() / len(self.chains) ** 0.5
        return {
            "copy": self.copy.mean().item(),
            "error": error.mean().item(),
            "standard_error": standard_error(error),
            "raw_error": self.raw[-1].mean().item(),
            "monte_carlo_bias": self.monte_carlo[-1].mean().item(),
            "monte_carlo_error": between.item(),
            "ratio": ratio.item(),
            "ratio_standard_error": ratio_error,
            "posterior_variance": self.variance.mean().item(),
            "posterior_variance_standard_error": standard_error(self.variance),
            "r_hat": {
                "median": self.r_hat.median().item(),
                "99%": self.r_hat.double().kthvalue(max(1, int(0.99 * len(self.r_hat))))[0].item(),
                "max": self.r_hat.max().item(),
            },
        }


def completion_factor(task: Any, difficulty: str, target: Tensor, drawn_from: Tensor) -> Tensor:
    """The true factor V ``(count, columns, rank)`` of completion problems, drawn again from the same generator state.

    Args:
        task: a `Completion`.
        difficulty: difficulty of the problems.
        target: their answers, ``(count, rows, columns)``.
        drawn_from: state of the generator before the problems were drawn.

    Raises:
        RuntimeError: if the factors do not match the targets, because the task draws problems differently.
    """
    again = torch.Generator()
    again.set_state(drawn_from)
    u = torch.randn(len(target), task.rows, task.rank, generator=again)
    v = torch.randn(len(target), task.rank, task.columns, generator=again)
    noise = (target - u @ v / task.scale(difficulty)).square().mean().sqrt().item()
    if not 0.8 * task.noise < noise < 1.2 * task.noise:
        raise RuntimeError(f"These factors leave noise of {noise:.3g}, not {task.noise:.3g}: they made other problems.")
    return v.mT


def measure(budget: Budget) -> Iterator[dict[str, Any]]:
    """Yield all floors and limits so far, JSON-able, by task and difficulty, after every part."""
    names = ("addition", "inverse", "completion")
    result: dict[str, Any] = {name: {} for name in names}
    for name in names:
        domain = DOMAINS[name]
        task = domain.task(domain.size)
        for difficulty in task.difficulties:
            generator = stream(f"limits {name} {difficulty}", budget.seed)
            drawn_from = generator.get_state()
            x, target = task.sample(budget.problems, difficulty, generator)
            means = stream(f"limits {name} {difficulty}, means", budget.seed)
            errors = task.floors(
                difficulty, x, target, lambda of, task=task, means=means: mean_target(task, of, means, budget.means)
            )
            found = {
                floor: {"error": each.double().mean().item(), "standard_error": standard_error(each)}
                for floor, each in errors.items()
            }
            part = result[name][difficulty] = {"problems": budget.problems, "floors": found}
            yield result
            if domain.limit is not None:
                v = completion_factor(task, difficulty, target, drawn_from)
                few = (tensor[: budget.gibbs_problems] for tensor in (x, target, v))
                for part["limit"] in completion_limit(task, difficulty, *few, budget=budget):
                    yield result


def completion_limit(
    task: Any, difficulty: str, x: Tensor, target: Tensor, v: Tensor, *, budget: Budget
) -> Iterator[dict[str, Any]]:
    """Yield the error of the posterior mean, JSON-able, after every chunk of problems.

    Args:
        task: a `Completion`, the source of the problems.
        difficulty: difficulty of the problems.
        x: the problems, ``(batch, rows, columns)``.
        target: their answers.
        v: the true factor, ``(batch, columns, rank)``.
        budget: sweeps, chains and the size of a chunk.
    """
    generator = stream(f"limits completion {difficulty}, chains", budget.seed)
    length = {"sweeps": budget.sweeps, "burn_in": budget.burn_in, "chains": budget.chains}
    samples: dict[str, list[LimitSample]] = {"prior": [], "truth": []}
    for begin in range(0, len(x), budget.chunk):
        rows = slice(begin, begin + budget.chunk)
        seen, copied, noted = x[rows] != 0, task.error_of(x[rows], x[rows], target[rows]), ()
        for origin, start in (("prior", None), ("truth", v[rows])):
            posterior = posterior_mean(
                x[rows],
                seen,
                scale=task.scale(difficulty),
                noise=task.noise,
                rank=task.rank,
                **length,
                generator=generator,
                start=start,
            )
            noted = posterior.sweeps
            samples[origin].append(LimitSample.of(posterior, copied, seen, target[rows]))
        whole = {origin: LimitSample.joined(parts) for origin, parts in samples.items()}
        found = {"method": "Gibbs sampling", "problems": len(whole["prior"].copy)} | length | whole["prior"].summary()
        found["by_sweeps"] = {"sweeps": list(noted)} | whole["prior"].curves()
        found["from_truth"] = whole["truth"].summary() | {"by_sweeps": whole["truth"].curves()}
        yield found


def standard_error(values: Tensor) -> float:
    """The standard error of the mean of independent values."""
    return (values.double().std() / len(values) ** 0.5).item()


def save_figure(tasks: dict[str, Any], path: Path) -> list[Path]:
    """Draw the error of completion against the sweeps of Gibbs sampling; imports matplotlib.

    Args:
        tasks: the result of `measure`.
        path: path of the files without suffix.

    Returns:
        The paths of the PNG and the SVG file.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from ...evaluation.figures import save

    style: dict[Any, Any] = {"axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "energysolve"}
    with rc_context(style):
        figure = Figure(figsize=(10, 4.4), layout="constrained")
        figure.suptitle("Completion: the posterior mean by Gibbs sampling", fontsize=12)
        panels = figure.subplots(1, 2)
        for axes, (difficulty, part) in zip(panels, tasks["completion"].items(), strict=True):
            limit = part["limit"]
            curves, truth = limit["by_sweeps"], limit["from_truth"]["by_sweeps"]
            axes.axhline(1, color="black", linewidth=1, label="copying")
            for values, color, line, label in (
                (curves["raw_ratio"], "#D55E00", "--", f"mean of {limit['chains']} chains"),
                (curves["ratio"], "#D55E00", "-", "less its Monte Carlo variance"),
                (truth["ratio"], "#0072B2", "-", "the same, chains started at the true factors"),
            ):
                axes.plot(curves["sweeps"], values, line, color=color, linewidth=1.8, marker=".", label=label)
            title = f"{difficulty}: {limit['ratio']:.4f} ± {limit['ratio_standard_error']:.4f} of copying"
            axes.set(xscale="log", xlabel=f"sweeps kept, after {limit['burn_in']} that are not", title=title)
            axes.set_ylabel("mean squared error, ratio to copying")
            axes.grid(axis="y", linewidth=0.4, alpha=0.5)
            axes.xaxis.set_major_formatter("{x:g}")
        figure.legend(
            *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=9
        )
        return save(figure, path.parent, path.name)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the result file and, beside it, the figure ``NAME-completion.png`` and ``.svg``."""
    parser = argparse.ArgumentParser(prog="python -m energysolve.experiments.limits", description=measure.__doc__)
    parser.add_argument("--output", type=Path, required=True, help="the result file, as JSON")
    for field in fields(Budget):
        option = f"--{field.name.replace('_', '-')}"
        parser.add_argument(option, type=int, default=field.default, help="by default %(default)s")
    given = sys.argv[1:] if arguments is None else arguments
    options = vars(parser.parse_args(given))
    path: Path = options.pop("output")
    budget = Budget(**options)
    head = {"kind": "limits", "command": shlex.join([*parser.prog.split(), *given]), "seed": budget.seed}
    content: dict[str, Any] = {}
    for tasks in measure(budget):
        content = head | {"complete": False, "setting": asdict(budget), "tasks": tasks} | environment()
        write_json(path, content)
    write_json(path, content | {"complete": True})
    save_figure(content["tasks"], path.with_name(f"{path.stem}-completion"))
