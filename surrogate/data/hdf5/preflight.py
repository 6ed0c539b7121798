"""Read the structure of HDF5 files in a child process first: some damage makes the HDF5 library end the process."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import re
import resource
import select
import signal
import struct
import sys
import threading
import warnings
from collections import OrderedDict
from pathlib import Path

import h5py

from surrogate.data.hdf5.form import Form, is_encoded
from surrogate.errors import DataError

__all__ = ["alike_datasets", "check_in_child"]

DEATHS = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
ENDLESS = signal.SIGPROF
AT_ONCE = 1000  # objects of a file
CPU_SECONDS = 60  # for so many objects; waiting for a network or a disk does not count
WAIT_SECONDS = 600  # for one file, after which it is read unchecked
IDLE_SECONDS = 1  # after which the child ends, since it holds memory that this process has freed meanwhile
SMALL = 2**16  # bytes of values that are read too
PLAIN, REFERS = b".", b"+"  # answers of the child
MANY = 64  # datasets that are alike, from which they are told
KEPT = 8  # files of such datasets
DIGITS = re.compile(rb"\d+")
LENGTH = struct.Struct("<q")  # before an answer
BUILT_IN = {1, 2, 3}  # gzip, shuffle, fletcher32: filters of the HDF5 library itself

_Key = tuple[str, int, int, int]
_passed: dict[_Key, bool] = {}  # files that were read, and whether they refer to others
_alike: OrderedDict[_Key, dict[str, tuple[str, int]]] = OrderedDict()
_lock = threading.Lock()


def alike_datasets(file: Path) -> dict[str, tuple[str, int]]:
    """Return the datasets, of a file that was checked and holds many, that differ from an example in their values only.

    Given are the path of the example, which has the same type, shape and storage, and the first byte of the values in
    the file, -1 where they are in chunks. All values were written, and no attribute says that they are packed.
    """
    return _alike.get(_key_of(file, os.stat(file)), {})


def _key_of(file: Path, status: os.stat_result) -> _Key:
    return str(file), status.st_size, status.st_mtime_ns, status.st_ino


def check_in_child(file: Path) -> bool:
    """Read names, types, attributes and small values of a file in a child; each file once in the life of a process.

    Errors that h5py raises are left to whoever opens the file. Where no child can be made, nothing is checked.

    Returns:
        False where the file is known to have no virtual datasets, external storage and external links.

    Raises:
        DataError: The child died of the file, or computes without end.
    """
    try:
        status = os.stat(file)
    except OSError:
        return True
    key = _key_of(file, status)
    if key in _passed:
        return _passed[key]
    if not file.is_file() or sys.platform != "linux":
        return True
    number, answer = 0, b""
    with _lock:
        for _ in range(2):  # the child of an earlier call may just have ended
            reader = _Reader.of_this_process()
            answer = b"" if reader is None else reader.reads(str(file))
            if reader is None or answer:
                break
            number = reader.end()
            if number:
                break
    if number in DEATHS or number == ENDLESS:
        what = "computes without end" if number == ENDLESS else f"ends with {signal.Signals(number).name}"
        raise DataError(
            f"{file}: the HDF5 library {what} when it reads this file; it is damaged: copy or write it again"
        )
    _passed[key] = answer[:1] != PLAIN
    if answer[1:]:
        fields = iter(answer[1:].decode("utf-8", "surrogateescape").split("\0"))
        _alike[key] = {path: (example, int(place)) for path, example, place in zip(fields, fields, fields, strict=True)}
        if len(_alike) > KEPT:
            _alike.popitem(last=False)
    return _passed[key]


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

    def reads(self, name: str) -> bytes:
        """Have a file read; return the answer, which is empty where the child has ended."""
        try:
            os.write(self.requests, os.fsencode(name) + b"\0")
            ready = select.select([self.answers], [], [], WAIT_SECONDS)[0]
        except BrokenPipeError:
            return b""
        if not ready:
            os.kill(self.child, signal.SIGKILL)
            return b""
        answer = b""
        while len(answer) < LENGTH.size or len(answer) < LENGTH.size + LENGTH.unpack_from(answer)[0]:
            more = os.read(self.answers, 2**20)
            if not more:
                return b""
            answer += more
        return answer[LENGTH.size :]

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
                    answer = REFERS
                    with contextlib.suppress(Exception):
                        answer = _read(os.fsdecode(name))
                    signal.setitimer(signal.ITIMER_PROF, 0)
                    answer = LENGTH.pack(len(answer)) + answer
                    while answer:
                        answer = answer[os.write(answers, answer) :]
        finally:
            os._exit(0)


def _read(name: str) -> bytes:
    """Read of every object the attributes, of a dataset the names of axes, sources, chunks and some values too.

    Of contiguous datasets that share their form, the values are read of the first.

    Returns:
        `REFERS` where the file refers to others, or a part of it cannot be read, else `PLAIN`; then what
        `alike_datasets` returns, a zero byte between fields; nothing where these are few.
    """
    refers, alike = False, list[bytes]()
    examples: dict[bytes, tuple[bytes, Form]] = {}  # by the name without digits
    with h5py.File(name, "r", locking="best-effort") as file:
        paths, kinds = [b"/"], set[int]()
        try:
            signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
            h5py.h5o.visit(file.id, paths.append)
            file.id.links.visit(lambda _, info: kinds.add(info.type), info=True)
        except Exception:
            refers = True
        for number, path in enumerate(paths):
            if number % AT_ONCE == 0:
                signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
            try:
                item = h5py.h5o.open(file.id, path)
                attributes = h5py.AttributeManager(h5py.HLObject(item)) if h5py.h5a.get_num_attrs(item) else {}
                for attribute in attributes:
                    with contextlib.suppress(Exception):
                        attributes[attribute]
                if not isinstance(item, h5py.h5d.DatasetID):
                    continue
                kind = DIGITS.sub(b"", path.rpartition(b"/")[2])
                example = examples.get(kind)
                if example is None or not example[1].fits(item):
                    refers |= _read_dataset(item, named=bool(attributes))
                    form = Form.of(item)
                    examples |= {kind: (path, form)} if form is not None else {}
                    continue
                if attributes or example[1].chunks is not None:
                    _read_dataset(item, named=bool(attributes))
                if not is_encoded(item):
                    alike += path, example[0], b"%d" % (item.get_offset() or -1)
            except Exception:
                refers = True
    refers |= h5py.h5l.TYPE_EXTERNAL in kinds
    return (REFERS if refers else PLAIN) + (b"\0".join(alike) if len(alike) > 3 * MANY else b"")


def _read_dataset(item: h5py.h5d.DatasetID, *, named: bool) -> bool:
    """Read of a dataset the names of axes, sources, chunks and some values; return True where it refers to other files.

    Values in other files are not opened here, nor such as need a filter of another library.
    """
    dataset, properties = h5py.Dataset(item), item.get_create_plist()
    layout = properties.get_layout()
    refers = layout == h5py.h5d.VIRTUAL or bool(properties.get_external_count())
    filters = {properties.get_filter(index)[0] for index in range(properties.get_nfilters())}
    if named:
        with contextlib.suppress(Exception):
            _ = [str(scale.name) for dimension in dataset.dims for scale in dimension.values()]
    if layout == h5py.h5d.VIRTUAL:
        dataset.virtual_sources()
    if layout == h5py.h5d.CHUNKED:
        with contextlib.suppress(Exception):
            item.chunk_iter(lambda info: None)
    if not refers and filters <= BUILT_IN:
        with contextlib.suppress(Exception):
            _ = dataset[()] if dataset.nbytes <= SMALL else dataset[(0,) * dataset.ndim]
    return refers
