"""The commands as typer builds them: names, options, and whether a command line can be parsed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import typer.main

from surrogate.cli import app

__all__ = ["COMMANDS", "command_lines", "parse"]

ROOT = typer.main.get_command(app)
SHELL_VALUE = re.compile(r"\$(\?|\w+|\{\w+\})")


def _leaves(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield " ".join(path), command
        return
    for name, child in children.items():
        yield from _leaves(child, (*path, name))


COMMANDS: dict[str, Any] = dict(_leaves(ROOT, ()))


def parse(words: list[str]) -> str:
    """Parse the words after `surrogate` without running anything; return the name of the command.

    Raises:
        UsageError: As the command line would.
    """
    command, name, rest = ROOT, "", [word for word in words if word != "--debug"]
    while getattr(command, "commands", None) is not None:
        context = command.make_context("surrogate", rest[:1], resilient_parsing=True)
        name, command, _ = command.resolve_command(context, rest)
        rest = rest[1:]
    command.make_context(name, rest)
    return next(full for full, known in COMMANDS.items() if known is command)


def command_lines(text: str) -> Iterator[list[str]]:
    """Yield the words after `surrogate` of every call in a block of shell commands; variables count as 1."""
    for line in SHELL_VALUE.sub("1", text.replace("\\\n", " ")).splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] | None = None
        for word in [*lexer, ";"]:
            if set(word) <= set("();<>|&"):
                if words is not None:
                    yield words
                words = None
            elif words is not None:
                words.append(word)
            elif word == "surrogate":
                words = []
            elif word.startswith("surrogate "):
                yield from command_lines(word)
