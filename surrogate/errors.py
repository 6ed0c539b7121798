"""Errors that a user sees: one line and one exit code each."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "ConfigError",
    "DataError",
    "InUse",
    "Interrupted",
    "NumericalError",
    "ResourceError",
    "SurrogateError",
    "did_you_mean",
    "nearest",
]


class SurrogateError(Exception):
    """Base of all errors that the user can fix; the text is one line: what, where, why, what to do."""

    exit_code = 1

    def __str__(self) -> str:
        """Return the text with control characters, which a name in a file may have, escaped."""
        text = super().__str__()
        return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


class ConfigError(SurrogateError, ValueError):
    """A usage or configuration error; its text may have one line for each mistake in a file."""

    exit_code = 2


class DataError(SurrogateError, ValueError):
    """Input data that cannot be used."""

    exit_code = 3


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


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the valid name closest to `name`, or None if there is none close to it."""
    matches = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return matches[0] if matches else None


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return a remedy to append to a message: the nearest valid name, or all of them."""
    names = list(names)
    close = nearest(name, names)
    if close is not None:
        return f"did you mean '{close}'?"
    return "choose one of " + ", ".join(names) if names else "there are none"
