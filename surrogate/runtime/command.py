"""Run a command line to an end that is one line and an exit code."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable

from surrogate.errors import brief, failure_of
from surrogate.progress import mute, say
from surrogate.runtime.launch import Launch, interruptible
from surrogate.runtime.namesake import warn_of_namesake
from surrogate.runtime.resources import set_threads

__all__ = ["is_first_process", "run_command", "say_failure"]


def run_command(command: Callable[[], object]) -> None:
    """Call a command; an error is one line and an exit code, with a traceback only under `--debug`.

    Under `--json` the error is also a JSON document on standard output.

    Arguments:
        command: Reads `sys.argv`.
    """
    occupy_streams()
    set_threads()
    warnings.formatwarning = lambda message, *_, **__: f"warning: {brief(str(message))}\n"
    warn_of_namesake()
    if "--debug" in sys.argv:
        sys.argv.remove("--debug")
        command()
    try:
        with interruptible():
            command()
    except Exception as error:
        failure = failure_of(error)
        if failure is None:
            raise
        text, code = failure
        say_failure(text, code)
        if isinstance(error, OSError):
            mute(sys.stdout)
        try:
            print("\n".join(f"error: {line}" for line in text.splitlines()), file=sys.stderr, flush=True)
        except OSError:
            mute(sys.stderr)
        sys.exit(Launch.of(os.environ).leave(code))


def say_failure(text: str, code: int) -> None:
    """Print an error and its exit code as a JSON document under `--json`."""
    if "--json" in sys.argv and is_first_process():
        say(json.dumps({"error": text, "exit_code": code}, indent=2))


def is_first_process() -> bool:
    """Return True unless a launcher started this process as a rank other than the first."""
    return os.environ.get("RANK", "0") == "0"


def occupy_streams() -> None:
    """Open standard streams that are closed, so that no data file gets their number and is written to by a library."""
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor < 3:
        descriptor = os.dup(descriptor)
    os.close(descriptor)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
