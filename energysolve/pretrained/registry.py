"""The classes of energies that can be built from a saved configuration: the library's own, and registered ones."""

from typing import TypeVar

from torch import nn

from ..energies.fields import FieldsEnergy
from ..energies.graph import GINEEnergy, TripleEnergy
from ..energies.image import ConvEnergy
from ..energies.mlp import MLPEnergy
from ..energies.structured import FactoredCompletion, PreconditionedInverse, SharedQuadratic
from ..energy import Energy

C = TypeVar("C", bound=type)

ENERGIES: dict[str, type[nn.Module]] = {
    cls.__name__: cls
    for cls in (
        MLPEnergy,
        SharedQuadratic,
        PreconditionedInverse,
        FactoredCompletion,
        GINEEnergy,
        TripleEnergy,
        ConvEnergy,
        FieldsEnergy,
    )
}
"""Classes by name. A configuration refers to them by these names; nothing is imported by a name in a file."""
LIBRARY = frozenset(ENERGIES)


def register_energy(cls: C) -> C:
    """Register a class of energies, so that `EnergySolver.from_pretrained` builds them without ``energy=``.

    A class that is defined again, as in a notebook, replaces its earlier definition.

    Raises:
        TypeError: if ``cls`` is not a subclass of `torch.nn.Module`, or has no ``config()``.
        ValueError: if another class of the same name is registered.

    Examples:
        >>> import torch
        >>> from energysolve import Energy, EnergySolver
        >>> from energysolve.pretrained import register_energy
        >>> @register_energy
        ... class Scaled(Energy):
        ...     def __init__(self, size: int):
        ...         super().__init__()
        ...         self.scale = torch.nn.Parameter(torch.ones(size))
        ...
        ...     def evaluate(self, context, y):
        ...         return (self.scale * (y - context)).square().sum(-1)
        ...
        ...     def config(self):  # the constructor's arguments as plain JSON
        ...         return {"size": len(self.scale)}
        >>> EnergySolver(Scaled(3)).save_pretrained("scaled")
        >>> EnergySolver.from_pretrained("scaled").energy.config()
        {'size': 3}
    """
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise TypeError(f"register_energy takes a subclass of torch.nn.Module, got {cls!r}.")
    if not has_config(cls):
        raise TypeError(f"{cls.__name__} has no config(); write one that returns the constructor's arguments.")
    if name_is_taken(cls):
        raise ValueError(
            f"The name {cls.__name__} is taken by {ENERGIES[cls.__name__]!r}. Rename {cls!r}, or pass it to "
            "from_pretrained as energy= instead of registering it."
        )
    ENERGIES[cls.__name__] = cls
    return cls  # pyright: ignore[reportReturnType]  (narrowed by issubclass)


def has_config(cls: type) -> bool:
    """Whether a class has a ``config()``, other than that of `Energy`, which raises."""
    config = getattr(cls, "config", None)
    return callable(config) and config is not Energy.config


def name_is_taken(cls: type) -> bool:
    """Whether another class of the same name is registered; an earlier definition of the class is not another one."""
    other = ENERGIES.get(cls.__name__, cls)
    return (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__)
