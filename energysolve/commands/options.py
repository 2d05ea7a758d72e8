"""Options that domains add to ``energysolve solve`` for files of their own kind."""

from collections.abc import Callable, Collection, Mapping
from functools import wraps
from inspect import Parameter, signature
from typing import Annotated, Any

from typer import Option

from ..presets import DOMAINS
from .common import CommandError


def with_file_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with an option for each of the domains' ``file_options``, which it receives as the dict ``own``."""
    options = {name: option for domain in DOMAINS.values() for name, option in domain.file_options.items()}

    @wraps(command)
    def extended(**values: Any) -> None:
        own = {name: values.pop(name) for name in options}
        command(**values, own=own)

    parameters = [each for each in signature(command).parameters.values() if each.name != "own"]
    for name, option in options.items():
        annotation = Annotated[option.kind | None, Option(f"--{name}", help=option.help)]
        parameters.append(Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
    extended.__signature__ = signature(command).replace(parameters=parameters)  # pyright: ignore
    extended.__annotations__ = {each.name: each.annotation for each in parameters}
    return extended


def check_options(known: Collection[str], given: Mapping[str, Any], name: str) -> None:
    """Raise a CommandError for options that are for files of another domain."""
    for option in given:
        if option not in known:
            owners = [each.name for each in DOMAINS.values() if option in each.file_options]
            raise CommandError(f"--{option} is for files of {', '.join(owners)}, not of {name}.")
