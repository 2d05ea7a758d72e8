"""The registry of domains: the library's own and those that users register."""

from collections.abc import Callable

from torch import Tensor

from ..pretrained import register_energy
from ..solver import EnergySolver
from ..tasks import Task
from .domain import Domain
from .graph import COMPONENTS, EDGE_COPY, SHORTEST_PATH
from .image import DENOISE
from .matrix import COMPLETION, INVERSE
from .network import NETWORK, SOLVER, network, paper, tuned, with_energy
from .vector import ADDITION

DOMAINS: dict[str, Domain] = {
    domain.name: domain for domain in (ADDITION, COMPLETION, INVERSE, EDGE_COPY, COMPONENTS, SHORTEST_PATH, DENOISE)
}
"""Domains by name; `register` adds to them."""


def register(domain: Domain) -> Domain:
    """Register a domain for commands and experiments, and its energies for ``from_pretrained``. Returns the domain.

    Raises:
        ValueError: if another domain or energy of the same name is registered.

    Examples:
        >>> from dataclasses import replace
        >>> from energysolve.energies import SharedQuadratic
        >>> from energysolve.presets import DOMAINS, domain_for, register
        >>> from energysolve.tasks import Addition
        >>> domain = domain_for(Addition(3), lambda task: SharedQuadratic(task.size))
        >>> register(replace(domain, name="sums")) is DOMAINS["sums"]  # now a task of the command
        True
    """
    if DOMAINS.get(domain.name, domain) != domain:
        raise ValueError(f"There is a domain {domain.name!r} already; choose another name.")
    for energy in domain.energies:
        register_energy(energy)
    DOMAINS[domain.name] = domain
    return domain


def domain_named(name: str) -> Domain:
    """A domain by name.

    Raises:
        ValueError: if there is none; the message lists those that exist.

    Examples:
        >>> from energysolve.presets import domain_named
        >>> domain_named("inverse").title
        'Matrix inverse'
        >>> domain_named("sorting")
        Traceback (most recent call last):
        ...
        ValueError: Unknown task 'sorting'; the tasks are: addition, ...
    """
    if name not in DOMAINS:
        raise ValueError(f"Unknown task {name!r}; the tasks are: {', '.join(DOMAINS)}.")
    return DOMAINS[name]


def domain_of(solver: EnergySolver) -> Domain | None:
    """The first domain to which the energy of a solver belongs, or None.

    Examples:
        >>> from energysolve import EnergySolver
        >>> from energysolve.presets import domain_of
        >>> domain_of(EnergySolver.from_pretrained("inverse")).name
        'inverse'
        >>> domain_of(EnergySolver(lambda x, y: (y - x).square().sum(-1))) is None
        True
    """
    for domain in DOMAINS.values():
        try:
            domain.task_of(solver)
        except ValueError:
            continue
        return domain
    return None


def at_size(solver: EnergySolver, problem_shape: tuple[int, ...]) -> EnergySolver:
    """The solver for problems of another shape, if the weights of its energy do not depend on the size.

    A solver whose energy has a fixed size, or belongs to no registered domain, is returned unchanged.

    Args:
        solver: a solver with a trained energy.
        problem_shape: shape of one problem: ``(2 * size,)`` for addition, ``(rows, columns)`` or, flattened,
            ``(size * size,)`` for matrices.

    Raises:
        ValueError: if the domain has no problems of that shape.

    Examples:
        >>> import torch
        >>> from energysolve import EnergySolver
        >>> from energysolve.presets import at_size
        >>> solver = at_size(EnergySolver.from_pretrained("inverse"), (2, 2))  # trained on matrices of size 20
        >>> solver.minimize(torch.tensor([[[3.0, 1.0], [1.0, 2.0]]])).y.round(decimals=2)
        tensor([[[ 0.4000, -0.2000],
                 [-0.2000,  0.6000]]])
    """
    domain = domain_of(solver)
    return solver if domain is None else domain.at_size(solver, tuple(problem_shape))


def domain_for(task: Task, make_energy: Callable[[Task], Callable[..., Tensor]] | None = None) -> Domain:
    """A domain for a user's task at its own size, with the presets ``paper`` and ``tuned``.

    Args:
        task: source of problems.
        make_energy: makes the energy to train; by default the paper's network, for problems and answers that are
            tensors with one row per sample.

    Examples:
        >>> from energysolve.energies import SharedQuadratic
        >>> from energysolve.presets import domain_for
        >>> from energysolve.tasks import Addition
        >>> domain = domain_for(Addition(3), lambda task: SharedQuadratic(task.size))
        >>> list(domain.presets), type(domain.preset("tuned").prepare("addition", Addition(3), cpu=True)[0]).__name__
        (['paper', 'tuned'], 'Trainer')
    """
    name = type(task).__name__
    build, settings = network(_sizes, name), NETWORK
    if make_energy is not None:
        build, settings = with_energy(make_energy), SOLVER
    return Domain(
        name=name,
        title=name,
        task=lambda size: task,
        size=1,
        task_of=lambda solver: task,
        presets={"paper": paper(build, settings), "tuned": tuned(build, settings)},
    )


def _sizes(task: Task) -> tuple[int, int]:
    """The number of entries of a problem and of an answer."""
    x, target = task.sample(1)
    if not (isinstance(x, Tensor) and isinstance(target, Tensor) and len(x) == len(target) == 1):
        raise ValueError(
            "The paper's network takes problems and answers that are tensors with one row per sample, which those of "
            f"{type(task).__name__} are not. Give an energy of your own (--energy package.module:function)."
        )
    return x[0].numel(), target[0].numel()
