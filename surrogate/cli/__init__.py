"""The command line; everything slow is imported inside the commands."""

from __future__ import annotations

import gc
import sys
from typing import Annotated

import typer

from surrogate import __version__
from surrogate.cli import data, models, new, projects, slurm
from surrogate.errors import brief
from surrogate.runtime.command import run_command, say_failure

__all__ = ["app", "main"]

# New objects before cycles are looked for. The million objects of the libraries stay, and going through them takes a
# third of a second each time: a seventh of the start of a command.
COLLECTED_AFTER = (50_000, 10, 10)

app = typer.Typer(
    name="surrogate",
    help="Surrogate models of PDE simulations from few data: HDF5 in, slimTrain inside, honest errors out.",
    epilog="Start with your data: surrogate new simulations.h5; or with an example: surrogate run quickstart",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for group in (new, data, models, projects, slurm):
    app.add_typer(group.app)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    if version:
        typer.echo(f"surrogate {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; an error is one line and an exit code, with a traceback only under `--debug`."""
    gc.set_threshold(*COLLECTED_AFTER)
    run_command(_read)


def _read() -> None:
    """Read the command line and run its command; a word that makes no sense is shown in part where it is very long."""
    try:
        code = app(standalone_mode=False, prog_name="surrogate")
    except Exception as error:
        if not (hasattr(error, "show") and hasattr(error, "exit_code")):  # the errors of usage of typer
            raise
        text = "\n".join(map(brief, str(getattr(error, "message", None) or "").splitlines()))
        error.message = text  # type: ignore[attr-defined]
        error.show()
        say_failure(text, error.exit_code)
        sys.exit(error.exit_code)
    sys.exit(code if isinstance(code, int) else 0)
