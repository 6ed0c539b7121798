"""Signals that ask a run to stop."""

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
    """Set by SIGTERM, SIGUSR1 or SIGINT; a second signal ends at once.

    Below `surrogate launch` signals are left to it, and what it has noted counts.
    """

    def __init__(self) -> None:
        self.launch = Launch.of(os.environ)
        self.requests = Requests()
        self._signal: int | None = None

    @property
    def signal(self) -> int | None:
        """The signal that came first."""
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
