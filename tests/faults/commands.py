"""Run a command under a fault: run as a program by its tests.

    python commands.py FAULT ARGUMENT...

The exit code is that of `surrogate ARGUMENT...`.
"""

from __future__ import annotations

import ctypes
import functools
import os
import resource
import sys
import traceback
from collections.abc import Callable

from surrogate.cli import main as command_line


def full_disk() -> None:
    """Let files grow to 2 kB and no further."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, resource.RLIM_INFINITY))


def few_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


def closed_stderr() -> None:
    os.close(2)
    sys.stderr = None  # type: ignore[assignment]


def full_stderr() -> None:
    os.dup2(os.open("/dev/full", os.O_WRONLY), 2)


def broken_pipe() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    os.dup2(writing, 1)


def no_threads() -> None:
    """Leave no further thread or process to this one, of whom root has any number: its real user becomes nobody."""
    resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
    if os.getuid() == 0:
        os.setresuid(65534, 0, 0)
        os.access = functools.partial(os.access, effective_ids=True)  # who may read is no matter of this fault
        libc = ctypes.CDLL(None, use_errno=True)
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3 of the sets, this process
        sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; of 32 capabilities each, twice
        assert libc.capget(header, sets) == 0
        for number in (21, 24):  # CAP_SYS_ADMIN, CAP_SYS_RESOURCE
            sets[0] &= ~(1 << number)
        assert libc.capset(header, sets) == 0


FAULTS: dict[str, Callable[[], None]] = {
    "none": lambda: None,
    "full disk": full_disk,
    "64 descriptors": few_descriptors,
    "closed stderr": closed_stderr,
    "full stderr": full_stderr,
    "broken pipe": broken_pipe,
    "no threads": no_threads,
}


def run(fault: str, arguments: list[str]) -> int:
    """Run a command; return its exit code, 120 where its last words cannot be written as in every Python."""
    sys.argv, code = ["surrogate", *arguments], 0
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        FAULTS[fault]()
        command_line()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        code = 1
        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, AttributeError):
            code = code or 120
    return code


if __name__ == "__main__":
    os._exit(run(sys.argv[1], sys.argv[2:]))
