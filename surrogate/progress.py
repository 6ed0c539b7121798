"""The progress of a task: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

__all__ = ["ProgressBar", "duration", "mute", "say", "silence"]

EVERY = 10.0  # seconds between plain lines
BYTES = "bytes"
_SILENT: ContextVar[bool] = ContextVar("silent", default=False)


class ProgressBar:
    """Show how much is done, the rate and the time left; called with (done, total), the first time before any work.

    What an earlier run had done does not count in the rate. Where lines cannot be written (a full disk, a closed pipe)
    the work goes on without them.

    Arguments:
        title: What is going on.
        unit: What is counted: `simulations`, `steps`, or `bytes`, which are shown in MB.
        file: Where to write; standard error unless given.
        every: Seconds between plain lines where there is no terminal; None writes none.
        quiet: Write nothing.
    """

    def __init__(
        self, title: str, unit: str, *, file: TextIO | None = None, every: float | None = EVERY, quiet: bool = False
    ) -> None:
        self.title, self.unit, self.every = title, unit, every
        self.file = file or sys.stderr
        self.quiet = quiet or self.file is None or _SILENT.get()
        self.done = self.total = 0
        self._first: tuple[float, int] | None = None
        self._written, self._lines = 0.0, 0
        self._bar: Progress | None = None
        if not self.quiet and self.file.isatty():
            columns = [TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}")]
            self._bar = Progress(*columns, console=Console(file=self.file))
            self._bar.add_task(title, total=None, note="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        self._written = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: int, total: int, note: str | None = None) -> None:
        """Show that `done` of `total` are done.

        Arguments:
            done: How many are done, with those of an earlier run.
            total: How many there are.
            note: Shown in place of the rate.
        """
        now = time.monotonic()
        self.done, self.total = done, total
        self._first = self._first or (now, done)
        if self._bar is None and not self._is_due(now):
            return
        self._written, self._lines = now, self._lines + 1
        text = f"{self._amount(done)} of {self._amount(total)} {self.unit if self.unit != BYTES else 'MB'}, "
        text += (note or f"{self._amount(self.rate)} per s") + self.left
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, total=total, note=text)
        else:
            self._write(text)

    def _is_due(self, now: float) -> bool:
        """Tell whether a plain line is due: after `every` seconds, and at the end of what had lines before."""
        ended = self.done >= self.total and self._lines > 0
        return self.every is not None and (ended or now - self._written >= self.every)

    @property
    def rate(self) -> float:
        """The number done per second."""
        started, before = self._first or (time.monotonic(), self.done)
        return (self.done - before) / max(time.monotonic() - started, 1e-9)

    @property
    def left(self) -> str:
        """The time left, as a note to append; empty where it is not known or nothing is left."""
        rate = self.rate
        return f", {duration((self.total - self.done) / rate)} left" if rate > 0 and self.done < self.total else ""

    def line(self, text: str) -> None:
        """Write a line that stays: the summary of an epoch, or a warning."""
        if self._bar is not None:
            self._bar.console.print(f"{self.title}: {text}", highlight=False, markup=False, soft_wrap=True)
        else:
            self._write(f"{self.title}: {text}")

    def _amount(self, count: float) -> str:
        return (
            f"{count / 1e6:.1f}" if self.unit == BYTES else f"{count:.3g}" if isinstance(count, float) else f"{count}"
        )

    def _write(self, text: str) -> None:
        if self.quiet:
            return
        try:
            print(text, file=self.file, flush=True)
        except (OSError, ValueError):
            self.quiet = True


def say(line: str) -> None:
    """Print a line on standard output; where that is impossible (a full disk, a closed pipe) the work goes on."""
    if _SILENT.get():
        return
    try:
        print(line, flush=True)
    except (OSError, ValueError):
        mute(sys.stdout)


@contextmanager
def silence() -> Iterator[None]:
    """Show no progress and print no line of `say` inside the block; warnings and errors are written as always."""
    before = _SILENT.set(True)
    try:
        yield
    finally:
        _SILENT.reset(before)


def mute(stream: TextIO | None) -> None:
    """Send what is written to a standard stream from now on to nowhere, so that a flush at the exit cannot fail."""
    if stream is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def duration(seconds: float) -> str:
    """Write a time in two units.

    Example:
        >>> duration(200), duration(7320)
        ('3 min 20 s', '2 h 2 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
