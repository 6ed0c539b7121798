"""Run a command to its exit code: every error is one line, and progress that cannot be shown stops no work."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Callable
from typing import Protocol, TextIO, runtime_checkable

from surrogate.errors import ResourceError, SurrogateError
from surrogate.runtime.launch import interruptible

__all__ = ["run_command", "say"]

LONGEST = 2000  # letters of a line of a message
REMEDIES = {
    errno.EMFILE: "too many files are open; raise the limit (ulimit -n) or use fewer, larger files (surrogate convert)",
    errno.ENAMETOOLONG: "choose a shorter name or path",
}
AT_ONCE_CODE, AT_ONCE = 130, "stopped at once; what is finished is kept: continue with --resume"
NO_MEMORY = ("can't allocate memory", "out of memory", "can't start new thread", "Cannot allocate memory")


@runtime_checkable
class UsageError(Protocol):
    """An error in the use of a command, as libraries for command lines raise it."""

    exit_code: int

    def show(self) -> None:
        """Print how the command is used."""


def say(text: str) -> None:
    """Print a line about the progress of work that goes on even if nobody reads the line."""
    try:
        print(text, flush=True)
    except (OSError, ValueError) as error:
        if sys.stdout is not None:
            _close(sys.stdout)
        reason = getattr(error, "strerror", None) or error
        _complain(f"warning: standard output cannot be written ({reason}); the command goes on without it")


def run_command(command: Callable[[], object]) -> int:
    """Run a command and return its exit code; an error is one line on standard error.

    Arguments:
        command: Command line application that raises and returns its exit code, None for 0.

    A command that only prints ends quietly with 0 when its reader closes the pipe, as `head` does.
    """
    code, lines = 0, list[str]()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files may be no text
    try:
        with interruptible():
            result = command()
            code = result if isinstance(result, int) else 0
            lines = [AT_ONCE] if code == AT_ONCE_CODE else []
            if sys.stdout is not None:
                sys.stdout.flush()
    except SystemExit as end:  # by typer, which ends with 1 where the reader of a pipe has gone
        code = end.code if isinstance(end.code, int) and not isinstance(end.__context__, BrokenPipeError) else 0
    except BrokenPipeError:
        code = 0
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, UsageError):
            code = error.exit_code
            with contextlib.suppress(OSError, ValueError):
                error.show()
        else:
            code, lines = _explain(error)
    for line in lines:
        _complain(f"error: {line}")
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            _close(stream)
    return code


def _explain(error: BaseException) -> tuple[int, list[str]]:
    """Return the exit code and the lines of an error."""
    if isinstance(error, SurrogateError):
        return error.exit_code, str(error).splitlines()
    text = " ".join(str(error).split())
    if isinstance(error, KeyboardInterrupt):
        return AT_ONCE_CODE, [AT_ONCE]
    if isinstance(error, MemoryError) or any(part in text for part in NO_MEMORY):
        reason = f" ({text})" if text else ""
        return ResourceError.exit_code, [f"out of memory{reason}; lower training.batch_size or training.buffer_mb"]
    if isinstance(error, OSError):
        remedy = REMEDIES.get(error.errno or 0, "check space and permissions")
        return ResourceError.exit_code, [f"{error.filename or 'output'}: {error.strerror or error}; {remedy}"]
    kind = type(error).__name__
    return 1, [f"unexpected {kind}: {text}; this is a fault of surrogate: please report it with the output of --debug"]


def _complain(line: str) -> None:
    if len(line) > LONGEST:
        line = f"{line[: LONGEST - 200]} ... {line[-150:]}"
    with contextlib.suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)


def _close(stream: TextIO) -> None:
    """Send what is still written to a stream nowhere, so that no later write or flush fails."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
