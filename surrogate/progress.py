"""How far a simulation is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["Watch"]

EVERY = 10.0  # seconds between plain lines


class Watch:
    """Shows simulations done, their rate and the time left; called with (done, total), first before any has run.

    What an earlier run had done already does not count in the rate.

    Arguments:
        file: Where to write.
        every: Seconds between plain lines.
    """

    def __init__(self, file: TextIO | None = None, *, every: float = EVERY) -> None:
        self.file = file or sys.stderr
        self.every = every
        self._bar: Progress | None = None
        self._first: tuple[float, int] | None = None
        self._said = 0.0

    def __enter__(self) -> Self:
        if self.file.isatty():
            rate = TextColumn("{task.fields[rate]}")
            columns = (BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
            self._bar = Progress(*columns, console=Console(file=self.file))
            self._bar.add_task("simulations", total=None, rate="")
            self._bar.start()
        self._said = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        started, before = self._first = self._first or (now, done)
        rate = (done - before) / max(now - started, 1e-9)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, total=total, rate=f"{rate:.3g} per s")
        elif done == total or now - self._said >= self.every:
            self._said = now
            left = f", {(total - done) / rate:.0f} s left" if rate > 0 and done < total else ""
            print(f"{done} of {total} simulations, {rate:.3g} per s{left}", file=self.file, flush=True)
