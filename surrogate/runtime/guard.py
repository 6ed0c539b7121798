"""The temporary folder and the processes of a launch, both removed when it has ended, even by SIGKILL.

A guard process waits for the end of the launch, ends the processes that are left and removes the folder. If the guard
was killed too, as Slurm kills all processes of a step, the next launch does so: the lock of the folder is free then.

The guard runs this file alone, without the rest of the package, so that it starts within milliseconds.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["FOLDER", "GRACE_SECONDS", "POLL_SECONDS", "SIGNALS", "end_all", "scratch"]

FOLDER = "SURROGATE_LAUNCH"  # the variable that all processes below a launch inherit
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)  # those that ask to stop
GRACE_SECONDS = 5.0
POLL_SECONDS = 0.1


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A temporary folder for a launch; what runs with its name in `SURROGATE_LAUNCH` does not outlive this process."""
    place = Path(tempfile.gettempdir())
    _sweep(place)
    while True:  # again if a sweep removed the folder before it was locked
        folder = Path(tempfile.mkdtemp(prefix=_prefix(), dir=place))
        lock = os.open(folder, os.O_RDONLY)
        with contextlib.suppress(OSError):  # a file system without locks: no sweep gets one either
            fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            break
        os.close(lock)

    def ignore_signals() -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    guard = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=[lock],  # held for as long as one of the two lives
        start_new_session=True,
        preexec_fn=ignore_signals,
    )
    try:
        yield folder
    finally:
        guard.communicate()  # closes the pipe, which ends it
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _prefix() -> str:
    """Return how the names of folders of this machine begin; machines may share a temporary folder."""
    return f"surrogate-launch-{socket.gethostname()}-"


def _sweep(place: Path) -> None:
    """Remove the folders of dead launches of this user and end their processes."""
    for folder in place.glob(f"{_prefix()}*"):
        with contextlib.suppress(OSError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(lock).st_uid == os.geteuid():
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    end_all(folder, GRACE_SECONDS)
                    shutil.rmtree(folder)
            finally:
                os.close(lock)


def end_all(folder: Path, grace: float) -> None:
    """End the processes of a launch: by SIGHUP, and after a time of grace by SIGKILL.

    Arguments:
        folder: The folder of the launch, by which its processes are known.
        grace: Seconds that they have to end by themselves.
    """
    left, deadline = _processes(folder), time.monotonic() + grace
    _send(left, signal.SIGHUP)
    while left and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        left = _processes(folder)
    while left:
        _send(left, signal.SIGKILL)
        time.sleep(POLL_SECONDS)
        left = _processes(folder)


def _send(processes: Sequence[int], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)


def _processes(folder: Path) -> list[int]:
    """List the running processes that have the variable of this launch; none if the system has no /proc."""
    mark, processes = f"{FOLDER}={folder}".encode(), []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                processes.append(int(entry.name))
    return processes


if __name__ == "__main__":  # the guard
    launched = Path(sys.argv[1])
    sys.stdin.buffer.read()  # until the launch ends, which closes the pipe
    end_all(launched, GRACE_SECONDS)
    shutil.rmtree(launched, ignore_errors=True)
