"""The API reference: pages made of the public names of the modules, so that none can be missing."""

import inspect
from importlib import import_module
from typing import Any, NamedTuple

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

import energysolve

PRIVATE = tuple(f"energysolve.{part}" for part in ("engine", "experiments", "benchmarks", "commands", "explore"))
"""What users do not import: internals of one solve, what the paper's tables and figures are made with, the command."""


class Topic(NamedTuple):
    """A page: modules whose public names it shows; ``module:Name,Name`` where a module has no `__all__`."""

    name: str
    title: str
    text: str
    modules: tuple[str, ...]


TOPICS = (
    Topic(
        "solver",
        "Solver and solutions",
        "A solver composes an energy, an optimizer, a halting criterion and the other parts; a solution has the "
        "answers, with one value per sample in its other fields.",
        (
            "energysolve.solver:EnergySolver",
            "energysolve.solution:Solution,Status,NonfiniteError,NotConvergedError",
            "energysolve.composition:compose,Composition,Operator",
        ),
    ),
    Topic(
        "energies",
        "Energies",
        "One number per sample: how bad an answer is for a problem. Learned energies, analytic ones with known minima, "
        "and combinators.",
        ("energysolve.energy:Energy,LeastSquares,Normalized", "energysolve.energies"),
    ),
    Topic(
        "optimizers",
        "Inner optimizers",
        "How a step changes the answers. `LBFGS` is the default; `LevenbergMarquardt` takes `LeastSquares` energies.",
        ("energysolve.optimizers",),
    ),
    Topic(
        "halting",
        "Halting criteria",
        "When a sample is done. Criteria combine: `a | b`, `a & b`, `a.patience(n)`.",
        (
            "energysolve.halting:Halting,halting,StepInfo,EnergyChange,GradientNorm,Stationary,StepNorm,TargetEnergy,"
            "EnergyIncrease,After,Never",
        ),
    ),
    Topic(
        "differentiation",
        "Differentiation",
        "How gradients reach the parameters of an energy, and the problem.",
        ("energysolve.differentiation", "energysolve.engine.linear:CG"),
    ),
    Topic(
        "parts",
        "Initial answers, recorders, layouts",
        "The smaller parts of a solver: where the answers start, what is kept besides them, and which rows of an "
        "answer belong to which sample.",
        (
            "energysolve.initializers:Uniform,Symmetric,Normal,Zeros,FromInput,EdgeValues",
            "energysolve.recorders:Recorder,Nothing,BestSoFar,Best,Trajectory,Path",
            "energysolve.layout:Layout,Dense,Segment,layout_of,select_problems",
            "energysolve.trees:tree_map,tree_leaves",
        ),
    ),
    Topic(
        "uncertainty",
        "Uncertainty",
        "Standard errors, covariances and Hessians of the answers, sample by sample.",
        ("energysolve.uncertainty:standard_errors,covariance,hessian",),
    ),
    Topic(
        "tasks",
        "Tasks",
        "Sources of problems with known answers, and the error of solutions.",
        ("energysolve.tasks",),
    ),
    Topic(
        "training",
        "Training",
        "Energies are trained by differentiating through their minimization.",
        ("energysolve.training",),
    ),
    Topic(
        "graphs",
        "Graphs",
        "Batches of graphs, and graphs of your own. Needs the extra `graph`.",
        (
            "energysolve.user_graphs",
            "energysolve.graph:edge_layout,node_layout,complete_graphs,select_graphs",
        ),
    ),
    Topic(
        "images",
        "Images",
        "Denoising of images of any size, and reading and writing of files. Needs the extra `image`.",
        ("energysolve.images",),
    ),
    Topic(
        "landscape",
        "Landscapes",
        "The energy around the answers, and its figures.",
        ("energysolve.landscape", "energysolve.landscape.figures"),
    ),
    Topic(
        "streaming",
        "Files and clusters",
        "Files of problems and of answers that are larger than memory, and Ray for many cores or machines.",
        (
            "energysolve.streaming.solve:solve_file,Summary",
            "energysolve.streaming.problems",
            "energysolve.streaming.cluster",
            "energysolve.streaming.graphs:solve_graph_file,read_graph,SolvedGraph",
            "energysolve.streaming.images:solve_image_files,SolvedImage",
        ),
    ),
    Topic(
        "pretrained",
        "Pretrained energies",
        "Small trained energies that come with the library, and the files that hold a solver. `EnergySolver` has "
        "`from_pretrained`, `save_pretrained` and `push_to_hub`.",
        ("energysolve.pretrained",),
    ),
    Topic(
        "testing",
        "Testing",
        "Contract checks for parts of your own, problems with known answers, and strategies for hypothesis (extra "
        "`testing`).",
        (
            "energysolve.testing",
            "energysolve.testing.strategies:Batch,RowWise,batches,batch_layout,criteria,energies,optimizers,"
            "simple_criteria,tolerances",
        ),
    ),
    Topic(
        "evaluation",
        "Evaluation",
        "Errors and numbers of steps on fresh problems.",
        ("energysolve.evaluation.evaluate:evaluate,Performance,answers_by_step",),
    ),
    Topic(
        "baselines",
        "Other methods",
        "The methods with which the paper compares the energy model.",
        ("energysolve.baselines",),
    ),
    Topic(
        "presets",
        "Presets",
        "How the energy of each task of the command line is built, trained and solved.",
        ("energysolve.presets",),
    ),
)


class Entry(NamedTuple):
    """A public name: the path under which users import it."""

    name: str
    path: str


def public_names(module: str) -> list[str]:
    """The names of ``module`` or ``module:Name,Name``."""
    name, _, names = module.partition(":")
    return names.split(",") if names else list(import_module(name).__all__)


def entry_of(module: str, name: str) -> Entry:
    """The entry of a name, by its shortest path."""
    value = getattr(import_module(module), name)
    if name in energysolve.__all__ and getattr(energysolve, name) is value:
        return Entry(name, f"energysolve.{name}")
    return Entry(name, f"{module}.{name}")


def is_constant(value: Any) -> bool:
    """Whether something is neither a class nor a function."""
    return not (inspect.isclass(value) or inspect.isroutine(value))


def entries() -> dict[Topic, list[Entry]]:
    """The entries of each page; every object once, on the first page that lists it."""
    seen: set[Any] = set()
    pages: dict[Topic, list[Entry]] = {}
    for topic in TOPICS:
        pages[topic] = []
        for module in topic.modules:
            for name in public_names(module):
                base = module.partition(":")[0]
                value = value_of(f"{base}.{name}")
                known = (base, name) if is_constant(value) else value
                if known not in seen:
                    seen.add(known)
                    pages[topic].append(entry_of(base, name))
    return pages


def inherited(value: Any, shown: set[Any]) -> list[str]:
    """The public members that a class has from bases of the library without an entry of their own."""
    found: list[str] = []
    for base in value.__mro__[1:] if inspect.isclass(value) else ():
        if base.__module__.startswith("energysolve") and base not in shown:
            found += [name for name in vars(base) if not name.startswith("_") and name not in vars(value)]
    return sorted(set(found))


def directive(entry: Entry, shown: set[Any]) -> str:
    """What mkdocstrings makes an entry of."""
    lines = [f"::: {entry.path}"]
    if members := inherited(value_of(entry.path), shown):
        lines += ["    options:", f"      inherited_members: [{', '.join(members)}]"]
    return "\n".join(lines)


def value_of(path: str) -> Any:
    """The object with this path."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def on_config(config):
    """Lists the pages in the navigation."""
    for item in config.nav or []:
        if "API reference" in item:
            item["API reference"] = ["api/index.md", *({topic.title: f"api/{topic.name}.md"} for topic in TOPICS)]
    return config


def on_files(files, config):
    """Adds the pages, and a table of all names to the index."""
    pages = entries()
    listed = {entry.name for page in pages.values() for entry in page}
    if missing := set(energysolve.__all__) - listed:
        raise PluginError(f"no topic of docs/hooks/reference.py lists {sorted(missing)}")
    shown = {value for page in pages.values() for entry in page if inspect.isclass(value := value_of(entry.path))}
    overview = []
    for topic, page in pages.items():
        directives = "\n\n".join(directive(entry, shown) for entry in page)
        content = f"# {topic.title}\n\n{topic.text}\n\n{directives}\n"
        files.append(File.generated(config, f"api/{topic.name}.md", content=content))
        names = ", ".join(f"[`{entry.name}`][{entry.path}]" for entry in page)
        overview.append(f"## [{topic.title}]({topic.name}.md)\n\n{topic.text}\n\n{names}\n")
    index = files.get_file_from_path("api/index.md")
    files.remove(index)
    content = "\n".join([index.content_string, *overview])
    files.append(File.generated(config, "api/index.md", content=content))
    return files
