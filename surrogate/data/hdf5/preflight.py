"""Read the structure of HDF5 files in a child process first: some damage makes the HDF5 library end the process."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import resource
import select
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import h5py

from surrogate.errors import DataError

__all__ = ["check_in_child"]

DEATHS = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
ENDLESS = signal.SIGPROF
CPU_SECONDS = 60  # for one file; waiting for a network or a disk does not count
WAIT_SECONDS = 600  # for one file, after which it is read unchecked
IDLE_SECONDS = 1  # after which the child ends, since it holds memory that this process has freed meanwhile
SMALL = 2**16  # bytes of values that are read too
BUILT_IN = {1, 2, 3}  # gzip, shuffle, fletcher32: filters of the HDF5 library itself

_Key = tuple[str, int, int, int]
_passed: set[_Key] = set()
_lock = threading.Lock()


def check_in_child(file: Path) -> None:
    """Read names, types, attributes and small values of a file in a child; each file once in the life of a process.

    Errors that h5py raises are left to whoever opens the file. Where no child can be made, nothing is checked.

    Raises:
        DataError: The child died of the file, or computes without end.
    """
    try:
        status = os.stat(file)
    except OSError:
        return
    key = str(file), status.st_size, status.st_mtime_ns, status.st_ino
    if key in _passed or not file.is_file() or sys.platform != "linux":
        return
    number = 0
    with _lock:
        for _ in range(2):  # the child of an earlier call may just have ended
            reader = _Reader.of_this_process()
            if reader is None or reader.reads(str(file)):
                break
            number = reader.end()
            if number:
                break
    if number in DEATHS or number == ENDLESS:
        what = "computes without end" if number == ENDLESS else f"ends with {signal.Signals(number).name}"
        raise DataError(
            f"{file}: the HDF5 library {what} when it reads this file; it is damaged: copy or write it again"
        )
    _passed.add(key)


class _Reader:
    """A child process that reads the files it is told to.

    Arguments:
        process: The process that it is a child of.
    """

    current: _Reader | None = None

    def __init__(self, process: int) -> None:
        self.process = process
        requests, self.requests = os.pipe()
        self.answers, answers = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # about threads: the child calls nothing but h5py
            self.child = os.fork()
        if self.child == 0:
            self.serve(requests, answers)
        os.close(requests)
        os.close(answers)

    @classmethod
    def of_this_process(cls) -> _Reader | None:
        """Return the child of this process, and make one where there is none; None where that fails."""
        if cls.current is None or cls.current.process != os.getpid():
            try:
                cls.current = cls(os.getpid())
            except OSError:  # no memory, process or descriptor left
                return None
        return cls.current

    def reads(self, name: str) -> bool:
        """Have a file read; False where the child has ended."""
        try:
            os.write(self.requests, os.fsencode(name) + b"\0")
            ready = select.select([self.answers], [], [], WAIT_SECONDS)[0]
        except BrokenPipeError:
            return False
        if not ready:
            os.kill(self.child, signal.SIGKILL)
        return bool(ready and os.read(self.answers, 1))

    def end(self) -> int:
        """Wait for the end of the child; return the signal that ended it, else 0."""
        _Reader.current = None
        os.close(self.requests)
        os.close(self.answers)
        try:
            _, status = os.waitpid(self.child, 0)
        except ChildProcessError:  # somebody else has waited for it
            return 0
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0

    @staticmethod
    def serve(requests: int, answers: int) -> None:
        """Read the files that are asked for, as the child, until nobody asks; never return."""
        try:
            faulthandler.disable()
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
                with contextlib.suppress(OSError):
                    signal.signal(number, signal.SIG_DFL)
            nowhere = os.open(os.devnull, os.O_RDWR)
            for standard in range(3):  # the last words of the C library among them
                os.dup2(nowhere, standard)
            # what the parent has open, locks among it
            top = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            low, high = sorted((requests, answers))
            for first, last in (
                (3, low),
                (low + 1, high),
                (high + 1, min(top, 2**20)),
            ):
                os.closerange(first, last)
            pending = b""
            while select.select([requests], [], [], IDLE_SECONDS)[0]:
                received = os.read(requests, 2**16)
                if not received:
                    break
                *names, pending = (pending + received).split(b"\0")
                for name in names:
                    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
                    with contextlib.suppress(Exception):
                        _read(os.fsdecode(name))
                    signal.setitimer(signal.ITIMER_PROF, 0)
                    os.write(answers, b".")
        finally:
            os._exit(0)


_PARTS: tuple[Callable[[h5py.Dataset], object], ...] = (
    lambda dataset: [str(scale.name) for dimension in dataset.dims for scale in dimension.values()],
    lambda dataset: dataset.is_virtual and dataset.virtual_sources(),
    lambda dataset: dataset.chunks and dataset.id.chunk_iter(lambda info: None),
    lambda dataset: dataset[()] if dataset.nbytes <= SMALL else dataset[(0,) * dataset.ndim],
)


def _read(name: str) -> None:
    """Read of every object the attributes, of a dataset the names of axes, sources, chunks and some values too."""
    with h5py.File(name, "r", locking="best-effort") as file:
        paths = [b"/"]
        with contextlib.suppress(Exception):
            h5py.h5o.visit(file.id, paths.append)
        for path in paths:
            with contextlib.suppress(Exception):
                item = h5py.h5o.open(file.id, path)
                attributes = h5py.AttributeManager(h5py.HLObject(item))
                for attribute in attributes:
                    with contextlib.suppress(Exception):
                        attributes[attribute]
                if not isinstance(item, h5py.h5d.DatasetID):
                    continue
                dataset, properties = h5py.Dataset(item), item.get_create_plist()
                filters = {properties.get_filter(index)[0] for index in range(properties.get_nfilters())}
                here = not dataset.is_virtual and not dataset.external and filters <= BUILT_IN
                for part in _PARTS if here else _PARTS[:-1]:  # values in other files are not opened here
                    with contextlib.suppress(Exception):
                        part(dataset)
