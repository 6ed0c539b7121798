"""Errors that a user sees: one line and one exit code each."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

__all__ = [
    "ConfigError",
    "DataError",
    "InUse",
    "Interrupted",
    "NumericalError",
    "ResourceError",
    "SurrogateError",
    "brief",
    "did_you_mean",
    "failure_of",
    "nearest",
    "printable",
]


LONGEST = 2000  # letters of a message, with the words that each line of it begins with
PREFIX = 10  # letters of `error: ` or `warning: ` and the end of a line
REMEDIES = {
    errno.EMFILE: "too many files are open; raise the limit (ulimit -n) or use fewer, larger files (surrogate convert)",
    errno.ENAMETOOLONG: "choose a shorter name or path",
}


def printable(text: str, keep: str = "") -> str:
    """Escape what does not print in one line, such as a line break in the name of a dataset, except what `keep` has."""
    if text.isprintable():
        return text
    escaped = (c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)
    return "".join(escaped)


class SurrogateError(Exception):
    """Base of all errors that the user can fix; the text is one line: what, where, why, what to do."""

    exit_code = 1
    keep = "\n"  # what separates lines in the text

    def __str__(self) -> str:
        """Return the text with control characters, which a name in a file may have, escaped."""
        return printable(super().__str__(), self.keep)


class ConfigError(SurrogateError, ValueError):
    """A usage or configuration error; its text may have one line for each mistake in a file."""

    exit_code = 2


class DataError(SurrogateError, ValueError):
    """Input data that cannot be used; a line break in a name of a file is escaped too."""

    exit_code = 3
    keep = ""


class NumericalError(SurrogateError, ArithmeticError):
    """A computation that failed: non-finite values, a singular system, a simulation that diverged."""

    exit_code = 4


class ResourceError(SurrogateError, RuntimeError):
    """A disk or memory that is full, or a device that is absent or refused."""

    exit_code = 5


class InUse(ResourceError):
    """A folder that another process writes to."""


class Interrupted(SurrogateError):
    """A run stopped by a signal after it wrote a checkpoint."""

    exit_code = 75


OUT_OF_MEMORY = (  # in messages of torch, numpy and the standard library
    "allocate memory",
    "not enough memory",
    "out of memory",
    "bad_alloc",
    "bad allocation",
)
NO_THREAD = ("can't start new thread", "unable to create", "cannot create thread")


def failure_of(error: BaseException) -> tuple[str, int] | None:
    """Return the message and the exit code for an error that ends a command; None if it is a defect of the program."""
    text = str(error)
    if isinstance(error, SurrogateError):
        return brief(text), error.exit_code
    if isinstance(error, BrokenPipeError):
        return "the reader of the output has gone; what was written is incomplete", 1
    if isinstance(error, MemoryError) or any(mark in text for mark in OUT_OF_MEMORY):
        reason = f": {text.splitlines()[0]:.200}" if text else ""
        remedy = "lower training.batch_size, training.buffer_mb or the number of workers"
        return brief(f"out of memory{reason}; {remedy}"), ResourceError.exit_code
    if isinstance(error, RuntimeError) and any(mark in text for mark in NO_THREAD):
        return brief(f"{text}; raise the limit of processes (ulimit -u) or of memory, or lower OMP_NUM_THREADS"), 5
    if isinstance(error, OSError):
        remedy = REMEDIES.get(error.errno or 0, "check space and permissions")
        where = str(error.filename or "output").replace("\n", "\\n")
        return brief(f"{where}: {error.strerror or error}; {remedy}"), ResourceError.exit_code
    return None


def brief(text: str) -> str:
    """Return a message of at most 2000 letters: a long line without its middle, of many lines the first ones."""
    lines, room = text.splitlines(), LONGEST - 100
    kept: list[str] = []
    for number, line in enumerate(lines):
        if len(line) + PREFIX > LONGEST - 100:
            line = f"{line[: LONGEST - 300]} ... {line[-150:]}"
        room -= len(line) + PREFIX
        if room < 0 and kept:
            return "\n".join([*kept, f"... and {len(lines) - number} more lines"])
        kept.append(line)
    return "\n".join(kept)


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the valid name closest to `name`, or None if there is none close to it."""
    matches = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return matches[0] if matches else None


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return a remedy to append to a message: the nearest valid name, or all of them.

    Example:
        >>> did_you_mean("scedule", ["schedule", "seed"])
        "did you mean 'schedule'?"
        >>> did_you_mean("b", ["epochs", "seed"])
        'choose one of epochs, seed'
    """
    names = list(names)
    close = nearest(name, names)
    if close is not None:
        return f"did you mean '{close}'?"
    return "choose one of " + ", ".join(names) if names else "there are none"
