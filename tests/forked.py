"""Processes forked from one server that has imported torch and the package, so that each starts in milliseconds.

Exit codes, signals, output and files are those of any other process. A test of the start of the interpreter itself
(what is imported, how streams are opened) uses `subprocess`.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import socket
import sys
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

__all__ = ["CONTEXT", "Ended", "end", "no_fsync", "run", "run_ranks", "start"]

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torch._dynamo", "surrogate.cli", "surrogate.api"])
LONGEST = 300  # seconds


@dataclass(frozen=True)
class Ended:
    """The end of a process, with the names of `subprocess.CompletedProcess`."""

    returncode: int | None
    stdout: str
    stderr: str


def no_fsync(_descriptor: int) -> None:
    """Leave files to the kernel, which writes them when it likes: no test outlives a power failure."""


def start(*arguments: str, folder: Path, log: str = "", **environment: str) -> BaseProcess:
    """Start `python ARGUMENT...`, with `-m MODULE`, `-c CODE` or a script first, in a folder; return its process.

    Arguments:
        arguments: The command line after `python`.
        folder: Where it runs; what it prints is in `LOG.stdout` and `LOG.stderr` there.
        log: The prefix of these two files.
        environment: Variables that it has next to those of this process.
    """
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    process = CONTEXT.Process(target=_execute, args=(arguments, folder, log, variables))
    process.start()
    return process


def run(*arguments: str, folder: Path, log: str = "", **environment: str) -> Ended:
    """Run `python ARGUMENT...` as `start` does, to its end."""
    return end(start(*arguments, folder=folder, log=log, **environment), folder, log)


def run_ranks(world: int, *arguments: str, folder: Path, **environment: str) -> list[Ended]:
    """Run `python ARGUMENT...` once for each rank, with the variables that torchrun sets."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    logs = [f"rank-{rank}" for rank in range(world)]
    processes = [
        start(*arguments, folder=folder, log=log, RANK=str(rank), LOCAL_RANK=str(rank), **shared, **environment)
        for rank, log in enumerate(logs)
    ]
    return [end(process, folder, log) for process, log in zip(processes, logs, strict=True)]


def end(process: BaseProcess, folder: Path, log: str = "") -> Ended:
    """Wait for the end of a process that `start` started with this folder and prefix."""
    process.join(LONGEST)
    if process.exitcode is None:
        process.kill()
    return Ended(process.exitcode, *((folder / f"{log}.{name}").read_text() for name in ("stdout", "stderr")))


def _execute(arguments: tuple[str, ...], folder: Path, log: str, variables: dict[str, str]) -> None:
    os.chdir(folder)
    os.fsync = no_fsync
    os.environ.clear()
    os.environ.update(variables)
    sys.path[:0] = ["", *variables.get("PYTHONPATH", "").split(os.pathsep)]
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(f"{log}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666), number)
    kind, *rest = arguments
    if kind == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec", dont_inherit=True), {"__name__": "__main__"})
    elif kind == "-m":
        sys.argv = list(rest)
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(arguments)
        runpy.run_path(kind, run_name="__main__")
