"""What a command prints when it ends: lines for a person, paths alone, or one JSON document for another program."""

from __future__ import annotations

import functools
import inspect
import json
import math
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, redirect_stdout
from os import PathLike
from typing import Annotated, Any

import typer

from surrogate.progress import say, silence
from surrogate.runtime.command import is_first_process
from surrogate.runtime.launch import interruptible

__all__ = ["Answer", "answering"]

Answer = dict[str, Any]  # `path`: what was written, one path or a list; everything else is for --json alone
KEPT = "what is finished is kept: continue with --resume"
AGAIN = "nothing incomplete is left: run it again"
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the path of what was written, and no progress.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, for other programs.")]


def answering(command: Callable[..., Answer], *, quiet: bool = True) -> Callable[..., None]:
    """Give a command the option --json and, unless `quiet` is False, --quiet.

    With --json standard output is one JSON document with what the command returns, or with its error and exit code;
    the lines for a person and the progress go to standard error. Of the processes of one training the first prints it.

    Arguments:
        command: A command that prints its lines and returns its answer.
        quiet: Whether it writes something, whose path is all that --quiet prints.
    """

    @functools.wraps(command)
    def run(*, as_json: bool, be_quiet: bool = False, **options: Any) -> None:
        with ExitStack() as stack:
            stack.enter_context(interruptible(KEPT if "resume" in options else AGAIN))
            if be_quiet:
                stack.enter_context(silence())
            if as_json:
                stack.enter_context(redirect_stdout(sys.stderr))
            answer = command(**options)
        if as_json and is_first_process():
            print(json.dumps(_plain(answer), indent=2), flush=True)
        elif be_quiet and not as_json:
            paths = answer["path"]
            for path in paths if isinstance(paths, list) else [paths]:
                say(f"{path}")

    options = {"be_quiet": Quiet} if quiet else {}
    added = {**options, "as_json": Json}
    signature = inspect.signature(command, eval_str=True)
    keywords = [
        inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=t) for n, t in added.items()
    ]
    known = signature.replace(parameters=[*signature.parameters.values(), *keywords], return_annotation=None)
    run.__dict__["__signature__"] = known  # what typer makes the options of
    run.__annotations__ = {**command.__annotations__, **added, "return": None}
    return run


def _plain(value: Any) -> Any:
    """Return what JSON can hold: paths become text, numbers that are not finite null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, PathLike):
        return str(value)
    if hasattr(value, "item"):  # a number of numpy
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
