"""A solver with a trained energy as a folder: ``model.safetensors``, ``config.json`` and a ``README.md``.

The configuration names the format, the energy with its arguments, the parts of the solver and the checksum of the
weights. A damaged or foreign folder is therefore recognized before anything is built.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from ..files import sketched, unshared, write_atomic, write_json
from ..version import __version__
from .card import model_card, unedited
from .registry import ENERGIES, LIBRARY, has_config, name_is_taken
from .serialization import from_config, to_config

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
CARD = "README.md"
FORMAT_VERSION = 1

_PARTS = ("optimizer", "init", "halting", "differentiation", "recorder", "scratchpad")
_NUMBERS = ("max_steps", "restarts", "compile", "compact", "sync_every")
_LATER = {"compact": False, "restarts": 1}
"""Entries that configurations of earlier versions lack, with the behaviour of those versions."""
_SHIPPED = Path(__file__).parent


def names() -> list[str]:
    """The names of the trained energies that come with the library.

    Examples:
        >>> from energysolve import EnergySolver
        >>> from energysolve.pretrained import names
        >>> {"addition", "completion", "inverse", "shortest-path"} <= set(names())
        True
        >>> EnergySolver.from_pretrained(names()[0]).max_steps > 0  # each is a solver
        True
    """
    return sorted(path.parent.name for path in _SHIPPED.glob(f"*/{CONFIG}"))


def save(solver: Any, path: Path, training: Mapping[str, Any] | None = None, name: str | None = None) -> None:
    """Write a solver into a folder, see `EnergySolver.save_pretrained`.

    ``name`` is the solver's name in the model card, by default that of the folder.

    Raises:
        TypeError: if a part of the solver, or ``training``, cannot be represented in JSON.

    Examples:
        >>> from pathlib import Path
        >>> import torch
        >>> from energysolve import EnergySolver, Zeros, pretrained
        >>> from energysolve.energies import SharedQuadratic
        >>> solver = EnergySolver(SharedQuadratic(size=3), init=Zeros((3,)))
        >>> pretrained.save(solver, Path("sums"), training={"task": "addition"})
        >>> again, x = EnergySolver.from_pretrained("sums"), torch.rand(5, 6)
        >>> torch.equal(again.minimize(x).y, solver.minimize(x).y)
        True
    """
    weights = safetensors.torch.save(_tensors(solver.energy), metadata={"format": "pt"})
    config: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "energysolve": __version__,
        "energy": {"class": type(solver.energy).__name__, "config": _energy_config(solver.energy)},
        "solver": _solver_config(solver),
        "weights": {"sha256": hashlib.sha256(weights).hexdigest()},
    }
    if training is not None:
        config["training"] = dict(training)
    try:
        json.dumps(config, allow_nan=False)  # fails before anything is written
    except (TypeError, ValueError) as error:
        raise TypeError(f"The energy's config() and the training metadata must be plain JSON: {error}") from error
    path.mkdir(parents=True, exist_ok=True)
    # The weights first: a folder is recognized by its configuration.
    write_atomic(path / WEIGHTS, weights)
    write_json(path / CONFIG, config, indent=2)
    write_card(path, config, name or path.resolve().name)


def write_card(folder: Path, config: Mapping[str, Any], name: str) -> None:
    """Write the model card, unless the folder has one that a person has written or edited."""
    path = folder / CARD
    if not path.exists() or unedited(path.read_text(encoding="utf-8", errors="replace")):
        write_atomic(path, model_card(config, name).encode())


def load(cls: Any, path_or_name: str | Path, energy: Any = None) -> Any:
    """The solver of class ``cls`` in a folder, or of one of the `names`, see `EnergySolver.from_pretrained`."""
    folder = find(path_or_name)
    config = read_config(folder)
    tensors = read_weights(folder, config)
    parts = _solver_parts(folder, config)
    given = isinstance(energy, nn.Module)
    if not given and energy is not None and not (isinstance(energy, type) and issubclass(energy, nn.Module)):
        raise TypeError(f"energy= must be a module, or a subclass of torch.nn.Module; got {energy!r}.")
    energy = energy if given else _build(folder, config, energy, tensors)
    _check_architecture(folder, energy, tensors, same_dtype=given)
    for key, value in energy.state_dict(keep_vars=True).items():
        value.data = value.data.to(tensors[key].dtype)  # a new energy gets the saved dtype
    energy.load_state_dict(tensors)  # in place, so that tied parameters stay tied
    try:
        return cls(energy, parts.pop("optimizer"), **parts).eval()
    except (TypeError, ValueError) as error:
        raise _broken(folder / CONFIG, f"does not describe a solver: {error}") from error


def find(path_or_name: str | Path) -> Path:
    """The folder of a saved solver; an existing folder takes precedence over a name that comes with the library.

    Raises:
        FileNotFoundError: if there is neither; the message lists the names.

    Examples:
        >>> from energysolve.pretrained import find
        >>> sorted(path.name for path in find("addition").iterdir())
        ['README.md', 'config.json', 'model.safetensors']
    """
    folder = Path(path_or_name)
    if (folder / CONFIG).is_file():
        return folder
    if isinstance(path_or_name, str) and path_or_name in names():
        return _SHIPPED / path_or_name
    what = f"the folder {path_or_name} holds no {CONFIG}" if folder.is_dir() else f"there is no folder {path_or_name}"
    raise FileNotFoundError(
        f"No trained energy {str(path_or_name)!r}: {what}, and the names that come with the library are: "
        f"{', '.join(names()) or '(none)'}. Pass one of them, a folder written by save_pretrained, or the id of a "
        'model on the Hugging Face hub, "user/model".'
    )


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration in a folder; a ValueError if it is damaged, or of a format that this version cannot read.

    Examples:
        >>> from energysolve.pretrained import find, read_config
        >>> read_config(find("inverse"))["energy"]["class"]
        'PreconditionedInverse'
    """
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # bytes that are not UTF-8, too
        raise _broken(path, f"is not valid JSON ({error})") from error
    if not isinstance(config, dict) or "format_version" not in config:
        raise _broken(path, 'has no "format_version"')
    if config["format_version"] != FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {config['format_version']!r}, and this version of energysolve reads "
            f"{FORMAT_VERSION}. Upgrade energysolve, or save the solver again with this version."
        )
    for section in ("energy", "solver", "weights"):
        if not isinstance(config.get(section), dict):
            raise _broken(path, f'has no section "{section}"')
    return config


def read_weights(folder: Path, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors in a folder by name; a ValueError if the file is missing, altered or not in safetensors format.

    Examples:
        >>> from energysolve.pretrained import find, read_config, read_weights
        >>> folder = find("inverse")
        >>> {name: tensor.shape for name, tensor in read_weights(folder, read_config(folder)).items()}
        {'gain_logits': torch.Size([5])}
    """
    path = folder / WEIGHTS
    if not path.is_file():
        raise _broken(path, "is missing")
    content = path.read_bytes()
    found, expected = hashlib.sha256(content).hexdigest(), config["weights"].get("sha256")
    if found != expected:
        what = f"its {len(content)} bytes have sha256 {found}, and {CONFIG} says {expected}"
        raise _broken(path, f"was truncated or altered: {what}")
    try:
        return safetensors.torch.load(content)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise _broken(path, f"is not a safetensors file ({error})") from error


def _tensors(energy: Any) -> dict[str, Tensor]:
    if not isinstance(energy, nn.Module):
        raise TypeError(
            f"The energy {energy!r} is not a module, so it has no weights to save. Make it a subclass of "
            "energysolve.Energy."
        )
    state = energy.state_dict()
    other = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if other:
        raise TypeError(f"The energy has state that is not a tensor ({', '.join(other)}) and cannot be saved.")
    return unshared(state)


def _energy_config(energy: nn.Module) -> dict[str, Any] | None:
    """The constructor's arguments; None if the class has no ``config()``, or if its name stands for another class."""
    cls: Any = type(energy)
    if not has_config(cls) or name_is_taken(cls):
        return None
    arguments = cls.config(energy)
    if not isinstance(arguments, dict):
        raise TypeError(f"{cls.__name__}.config() must return the constructor's arguments, a dict; got {arguments!r}.")
    return arguments


def _solver_config(solver: Any) -> dict[str, Any]:
    for name in ("layout", "select"):
        if getattr(solver, name) is not None:
            raise TypeError(
                f"The solver's {name} is a function and cannot be saved. Save solver.replace({name}=None), and restore "
                f"it with replace({name}=...) after loading."
            )
    config: dict[str, Any] = {}
    for name in _PARTS:
        part = getattr(solver, name)
        try:
            config[name] = None if part is None else to_config(part)
        except TypeError as error:
            raise TypeError(f"The solver's {name} cannot be saved. {error}") from None
    return config | {name: getattr(solver, name) for name in _NUMBERS}


def _solver_parts(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    written = _LATER | config["solver"]
    path = folder / CONFIG
    differing = sorted(set(written) ^ {*_PARTS, *_NUMBERS})
    if differing:
        raise _broken(path, f'has missing or unknown entries in "solver": {", ".join(differing)}')
    parts = {name: written[name] for name in _NUMBERS}
    for name in _PARTS:
        try:
            absent = written[name] is None and name in ("init", "scratchpad")
            parts[name] = None if absent else from_config(written[name])
        except (ValueError, RecursionError) as error:
            raise _broken(path, f"does not describe the solver's {name}: {error}") from error
    return parts


def _build(
    folder: Path, config: Mapping[str, Any], cls: type[nn.Module] | None, tensors: Mapping[str, Tensor]
) -> nn.Module:
    path, name, arguments = folder / CONFIG, config["energy"].get("class"), config["energy"].get("config")
    cls = cls or ENERGIES.get(str(name))
    if cls is None:
        raise ValueError(
            f"{folder} holds weights of the energy {name!r}, which is not a registered class ({', '.join(ENERGIES)}). "
            "Pass energy=, the class or an instance of the same architecture, or register the class with "
            "energysolve.pretrained.register_energy. On the command line, solve takes it as --energy "
            "package.module:Class, and explore a solver that is loaded so as package.module:solver."
        )
    if not isinstance(arguments, dict):
        raise ValueError(
            f"{path} lacks the arguments of {name}: the class had no config() when the solver was saved, or had the "
            "name of a registered class. Pass an instance of the same architecture as energy=."
        )
    own = cls.__name__ in LIBRARY and cls is ENERGIES[cls.__name__]
    # Damaged arguments may ask for all memory. Only classes of the library are known to exist without any.
    with _accepting(path, cls, arguments):
        sketch = sketched(cls, arguments) if own else None
    if sketch is not None:
        _check_architecture(folder, sketch, tensors, same_dtype=False)
    # The initialization that is overwritten leaves the user's random state alone.
    with _accepting(path, cls, arguments), torch.random.fork_rng(devices=[]):
        return cls(**arguments)


@contextmanager
def _accepting(path: Path, cls: type[nn.Module], arguments: Any) -> Iterator[None]:
    """Errors of a class about its arguments become one that names the file and the way out."""
    try:
        yield
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(
            f"{path} holds arguments that {cls.__name__} does not accept, {arguments}: {error}. Pass the class that "
            "the solver was saved with, or restore the folder from a good copy."
        ) from error


def _check_architecture(folder: Path, energy: nn.Module, tensors: Mapping[str, Tensor], same_dtype: bool) -> None:
    expected = energy.state_dict()
    wrong = [f"{name} is missing" for name in expected if name not in tensors]
    wrong += [f"{name} is unexpected" for name in tensors if name not in expected]
    for name in sorted(set(expected) & set(tensors)):
        found, wanted = tensors[name], expected[name]
        if found.shape != wanted.shape:
            wrong.append(f"{name} has shape {tuple(found.shape)} instead of {tuple(wanted.shape)}")
        elif same_dtype and found.dtype != wanted.dtype:
            wrong.append(f"{name} has dtype {found.dtype} instead of {wanted.dtype}")
    if wrong:
        shown = "; ".join(wrong[:6]) + (f"; and {len(wrong) - 6} more" if len(wrong) > 6 else "")
        raise ValueError(
            f"{folder / WEIGHTS} belongs to another architecture than this {type(energy).__name__}: {shown}. Build the "
            "energy with the arguments with which it was trained, or load the right folder."
        )


def _broken(path: Path, what: str) -> ValueError:
    return ValueError(f"{path} {what}. Restore the folder from a good copy, or save the solver again.")
