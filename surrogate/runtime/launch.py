"""Start a run through `torchrun`, stop all its processes by one signal, put it back in Slurm's queue.

Slurm signals every process of a job step: this one, `torchrun` and the ranks. `torchrun` dies of SIGUSR1 and orphans
its ranks, passes SIGTERM on a second time, and takes a rank that ends with 75 for a failure to be repaired. So here it
ignores these signals; the first one is written into a file that the ranks poll; a rank that was stopped writes a note
and ends with 0. After the command has ended, none of its processes and temporary files is left (`guard.py`).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

from surrogate.errors import ConfigError, Interrupted, ResourceError
from surrogate.runtime.guard import FOLDER, GRACE_SECONDS, POLL_SECONDS, SIGNALS, end_all, scratch
from surrogate.runtime.resources import THREADS, THREADS_GIVEN

__all__ = ["Launch", "Requests", "interruptible", "launch", "requeue"]

STOP, STOPPED = "stop", "stopped"
ECHO_SECONDS = 1.0
RETRY_SECONDS = 0.05
PR_SET_PDEATHSIG = 1
LOGS = "PET_LOG_DIR"  # where torchrun leaves files, else in a temporary folder that it does not remove
TORCHRUN = {"PET_SIGNALS_TO_HANDLE": "SIGHUP", "PET_SHUTDOWN_TIMEOUT": "5"}  # before it kills ranks to start them again


class Launch:
    """The `surrogate launch` that a process was started by, and the notes by which they communicate.

    Arguments:
        folder: Folder of the notes; None if the process was started in another way.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Launch:
        """Return the launch that the environment names; only ranks of `torchrun` have one."""
        folder = environment.get(FOLDER)
        return cls(Path(folder) if folder and "RANK" in environment else None)

    @property
    def above(self) -> bool:
        """True if a launch watches over this process; then only the launch acts on a second signal."""
        return self.folder is not None

    def requested(self) -> int | None:
        """Return the signal that asks the ranks to stop, None if there is none."""
        if self.folder is None:
            return None
        try:
            return int((self.folder / STOP).read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None

    def leave(self, code: int) -> int:
        """Return the exit code to use: 0 and a note for a stopped rank, which `torchrun` would restart otherwise."""
        if self.folder is None or code != Interrupted.exit_code:
            return code
        (self.folder / STOPPED).touch()
        return 0


class Requests:
    """Distinguish a second request to stop from an echo of the first.

    `srun` passes on a signal that Slurm has sent to its tasks already, so what follows within a second in a job step is
    the same request.

    Arguments:
        echo_seconds: For how long a signal is an echo; by default a second in a step of a Slurm job, else not at all.
    """

    def __init__(self, echo_seconds: float | None = None) -> None:
        in_step = "SLURM_STEP_ID" in os.environ
        self.echo_seconds = ECHO_SECONDS * in_step if echo_seconds is None else echo_seconds
        self.first: int | None = None
        self.since = 0.0

    def again(self, number: int) -> bool:
        """Record a signal; return True if it is a second request."""
        if self.first is None:
            self.first, self.since = number, time.monotonic()
            return False
        return time.monotonic() - self.since >= self.echo_seconds


def launch(command: Sequence[str]) -> int:
    """Run a command that starts ranks, such as `torchrun`; return its exit code, or 75 if the ranks were stopped.

    The first signal asks the ranks to stop at the same step, the second ends all of them at once.

    Raises:
        ConfigError: There is no such command.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def prepare() -> None:  # the child ignores the signals of the launch and ends when the launch does
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        if libc is not None:
            libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGHUP))  # torchrun ends its ranks with it

    with scratch() as folder:
        watch = _Watch(folder)
        before = {number: signal.signal(number, watch.note) for number in SIGNALS}
        try:
            given = {FOLDER: str(folder), THREADS_GIVEN: os.environ.get(THREADS, "")}
            environment = {LOGS: str(folder / "torchrun"), **os.environ, **TORCHRUN, **given}
            try:
                child = subprocess.Popen(command, env=environment, start_new_session=True, preexec_fn=prepare)
            except OSError as error:
                message = f"cannot start {command[0]}: {error.strerror}; is the environment activated?"
                raise ConfigError(message) from error
            while child.poll() is None and not watch.at_once:
                time.sleep(POLL_SECONDS)
            end_all(folder, GRACE_SECONDS * (not watch.at_once))
            code = child.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if watch.at_once:
            return 128 + watch.at_once
        if code == 0 and (folder / STOPPED).exists():
            return Interrupted.exit_code
        return code if code >= 0 else 128 - code


class _Watch:
    """Handle the signals that the launch itself receives; the first is written to a file for the ranks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests = Requests()
        self.at_once = 0

    def note(self, number: int, _frame: FrameType | None) -> None:
        first = self.requests.first is None
        if self.requests.again(number):
            self.at_once = number
        elif first:
            part = self.folder / f"{STOP}.part"
            part.write_text(str(int(number)), encoding="ascii")
            part.replace(self.folder / STOP)


class _Stop(BaseException):
    """Raised where a signal arrives; no `except Exception` of a library holds it up."""


@contextlib.contextmanager
def interruptible(remedy: str = "run it again") -> Iterator[None]:
    """Let SIGTERM, SIGINT and SIGUSR1 end the block with one line and exit code 75; training handles them itself.

    A signal that arrives inside a finalizer or a weakref callback, where Python drops exceptions, is sent again.

    Arguments:
        remedy: How to go on, for the message.

    Raises:
        Interrupted: One of them came.
    """
    if Launch.of(os.environ).above:  # a launch stops its ranks by a file
        yield
        return

    raised: list[tuple[_Stop, int]] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        if not raised:  # later ones do not disturb what cleans up
            raised.append((_Stop(), number))
            raise raised[0][0]

    def dropped(unraisable: sys.UnraisableHookArgs) -> None:
        if not raised or unraisable.exc_value is not raised[0][0]:
            hook(unraisable)
            return
        _, number = raised.pop()
        threading.Timer(RETRY_SECONDS, os.kill, (os.getpid(), number)).start()

    hook, sys.unraisablehook = sys.unraisablehook, dropped
    before = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield
    except _Stop as stopped:
        name = signal.Signals(raised[0][1]).name
        raise Interrupted(f"stopped by {name}; {remedy}") from stopped
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def requeue(code: int, environment: Mapping[str, str]) -> str:
    """Put this Slurm job back in the queue if its command ended with 75; return a line for the log.

    Arguments:
        code: Exit code of the command.
        environment: Holds `SLURM_JOB_ID`.

    Raises:
        ResourceError: `scontrol` is absent or refuses.
    """
    job = environment.get("SLURM_JOB_ID", "")
    if code != Interrupted.exit_code:
        return f"job {job or '(none)'} is not put back: exit code {code}, not {Interrupted.exit_code}"
    if not job.isdecimal():
        raise ConfigError("SLURM_JOB_ID names no job; `surrogate slurm requeue` is for job scripts")
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ResourceError(f"cannot call scontrol: {error}") from error
    if done.returncode:
        raise ResourceError(f"scontrol requeue {job}: {done.stderr.strip() or 'refused'}; submit the job again by hand")
    return f"job {job} is put back in the queue"
