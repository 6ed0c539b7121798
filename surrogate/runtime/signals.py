"""Record the signals that ask a run to stop."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from surrogate.runtime.launch import Launch, Requests

__all__ = ["StopRequest"]


class StopRequest:
    """A request to stop, set by SIGTERM, SIGUSR1 or SIGINT; a second signal ends the process at once.

    Under `surrogate launch` the launch handles signals, and this reads its note.
    """

    def __init__(self) -> None:
        self.launch = Launch.of(os.environ)
        self.requests = Requests()
        self._signal: int | None = None

    @property
    def signal(self) -> int | None:
        """The first signal received; None if there is none."""
        if self._signal is None:
            self._signal = self.launch.requested()
        return self._signal

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen while the block runs; only a main thread can, a worker's is ended with its process."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1]
        before = {number: signal.signal(number, self._note) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.launch.above:
            return
        if self.requests.again(number):
            raise KeyboardInterrupt
        self._signal = self._signal or number
