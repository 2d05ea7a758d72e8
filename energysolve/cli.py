"""The ``energysolve`` command."""

import sys

import typer

from .commands.bench import bench
from .commands.explore import explore
from .commands.info import info
from .commands.reproduce import reproduce
from .commands.solve import solve
from .commands.train import train

app = typer.Typer(
    name="energysolve",
    help="Reasoning by energy minimization.",
    add_completion=False,
    rich_markup_mode=None,
)
for command in (solve, train, explore, reproduce, bench, info):
    app.command()(command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command and exit; an error is one line on stderr."""
    try:
        arguments = sys.argv[1:] if arguments is None else arguments
        code = app(args=arguments or ["--help"], prog_name="energysolve", standalone_mode=False)
    except OSError as error:
        _fail(f"{error.strerror or error}: {error.filename}" if error.filename else str(error), 1)
    except Exception as error:
        # Usage errors of typer, whichever module defines them, are shown like our own.
        if not hasattr(error, "format_message"):
            raise
        _fail(error.format_message(), error.exit_code)  # pyright: ignore
    else:
        sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> None:
    sys.stderr.write(f"energysolve: {' '.join(message.split())}\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
