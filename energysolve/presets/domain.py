"""Domains: everything that commands, evaluation and experiments need to know about one task."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..baselines import Baseline
from ..solver import EnergySolver
from ..tasks import Task
from .methods import BASELINES, METHODS, baseline_preset
from .preset import Preset


def same_size(solver: EnergySolver, problem_shape: tuple[int, ...]) -> EnergySolver:
    """The solver, unchanged."""
    return solver


def no_checks(solver: EnergySolver) -> Mapping[str, Callable[[Tensor, Tensor], Tensor]]:
    """No measures."""
    return {}


@dataclass(frozen=True)
class FileOption:
    """An option of ``energysolve solve --input`` for files of one domain.

    Attributes:
        help: what it does, for the command's help.
        kind: its type, such as float or Path.

    Examples:
        >>> from energysolve.presets import DOMAINS, FileOption
        >>> option = FileOption("Images: noise level, of 255.", kind=float)  # --sigma, in a domain's file_options
        >>> option.kind is DOMAINS["denoise"].file_options["sigma"].kind
        True
    """

    help: str
    kind: type = str


@dataclass(frozen=True)
class FileJob:
    """A file of a domain's own kind that is to be solved.

    Attributes:
        input: the file, or a folder where the domain solves folders.
        output: the file, or the folder, for the answers.
        generator: source of random initial answers.
        overwrite: whether existing answers in a folder may be replaced.
        options: the values of the domain's ``file_options`` that were given, by name.
        progress: called with the number of parts done, and of all.

    Examples:
        >>> from pathlib import Path
        >>> from energysolve.presets import FileJob
        >>> def solve_file(solver, job):  # the `solve_file` of a domain, which would solve something
        ...     job.output.write_text(job.input.read_text().upper())
        ...     return f"{job.input.name} is solved", []
        >>> _ = Path("problem.txt").write_text("abc")
        >>> solve_file(None, FileJob(Path("problem.txt"), output=Path("answer.txt")))
        ('problem.txt is solved', [])
    """

    input: Path
    output: Path
    generator: Any = None
    overwrite: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    progress: Callable[[int, int], None] | None = None


@dataclass(frozen=True)
class Domain:
    """A task with everything that commands, evaluation and experiments need to know about it.

    Attributes:
        name: name on the command line and in the names of result files.
        title: title in headings.
        task: makes the task at a size.
        size: the default size, the paper's.
        task_of: returns the task that a solver solves; raises a ValueError if its energy is not one of this domain.
        presets: presets by name, in the order of the columns of results.
        energies: classes of energies that saved solvers of the domain may have, besides the library's own.
        at_size: returns a solver for problems of another shape, see `energysolve.presets.at_size`.
        paper: mean errors that the paper reports, by method and difficulty.
        limit: name of the lower bound on the error of any method, if `energysolve.experiments.limits` computes one.
        measures: further measures of a model by name: functions of the model, the task, a seed and a problem count.
        baselines: classes of the other methods by name, see `METHODS`.
        method_presets: presets of the other methods that are not trained like the energy, by name.
        solve_file: solves the problem in a file of the domain's own kind, such as a graph, and writes the answers: a
            function of the solver and a `FileJob`, which returns what to print and the paths of further files. None for
            files of arrays.
        file_options: further options of ``energysolve solve --input`` for such files, by name without the dashes. The
            command has those of the domains that are registered when ``energysolve.cli`` is imported.
        kinds: further kinds of problems by name, such as sparse graphs: functions of the size that make the task.
        harder: the name of the task's second difficulty.
        section: the half of the paper's experiments that it belongs to, ``"continuous"`` or ``"graphs"``.
        checks: returns measures of a solver's answers that need no target, by name: functions ``(x, y) -> (batch,)``.
        problems: the default number of fresh problems to evaluate on.
        with_data: returns the task with the data in a folder of the user's, for tasks that take data.

    Examples:
        >>> from energysolve.presets import DOMAINS
        >>> domain = DOMAINS["addition"]  # a `Domain`
        >>> domain.title, list(domain.presets), domain.methods[-1]
        ('Addition', ['paper', 'tuned', 'best'], 'irem')
        >>> domain.task(3).sample(5)[0].shape, domain.paper_irem["same"]
        (torch.Size([5, 6]), 0.0003)
    """

    name: str
    title: str
    task: Callable[[int], Task]
    size: int
    task_of: Callable[[EnergySolver], Task]
    presets: Mapping[str, Preset]
    energies: tuple[type[nn.Module], ...] = ()
    at_size: Callable[[EnergySolver, tuple[int, ...]], EnergySolver] = same_size
    paper: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    limit: str | None = None
    measures: Mapping[str, Callable[[Any, Any, int, int], Any]] = field(default_factory=dict)
    baselines: Mapping[str, type[Baseline]] = field(default_factory=lambda: BASELINES)
    method_presets: Mapping[str, Preset] = field(default_factory=dict)
    kinds: Mapping[str, Callable[[int], Task]] = field(default_factory=dict)
    solve_file: Callable[[EnergySolver, FileJob], tuple[str, list[Path]]] | None = None
    file_options: Mapping[str, FileOption] = field(default_factory=dict)
    harder: str = "harder"
    section: str = "continuous"
    checks: Callable[[EnergySolver], Mapping[str, Callable[[Tensor, Tensor], Tensor]]] = no_checks
    problems: int = 1000
    with_data: Callable[[Any, Path], Task] | None = None

    def preset(self, name: str, method: str = "irem") -> Preset:
        """A preset by name, for the energy model or for one of the baselines.

        Raises:
            ValueError: if there is no such preset or method; the message lists those that exist.
        """
        if name not in self.presets:
            raise ValueError(f"{self.title} has no preset {name!r}; its presets are: {', '.join(self.presets)}.")
        if method == "irem":
            return self.presets[name]
        if method not in self.baselines:
            raise ValueError(f"There is no method {method!r}; the methods are: irem, {', '.join(self.baselines)}.")
        return self.method_presets.get(method) or baseline_preset(self.presets[name], self.baselines[method])

    def task_at(self, preset: Preset, data: Path | None = None) -> Task:
        """The task at the size of a preset, with the data in a folder if one is given.

        Raises:
            ValueError: for data if the task takes none.
        """
        task = self.task(preset.size or self.size)
        if data is None:
            return task
        if self.with_data is None:
            raise ValueError(f"{self.title} draws its problems at random and takes no folder of data.")
        return self.with_data(task, data)

    def task_for(self, model: EnergySolver | Baseline) -> Task:
        """The task that a trained model solves."""
        return self.task_of(model) if isinstance(model, EnergySolver) else self.task(model.task_size or self.size)

    @property
    def methods(self) -> list[str]:
        """The names of the methods, in the order of the tables."""
        return [name for name in METHODS if name == "irem" or name in self.baselines]

    @property
    def paper_irem(self) -> Mapping[str, float]:
        """The errors that the paper reports for its energy model, by difficulty."""
        return self.paper.get("irem", {})
