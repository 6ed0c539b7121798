"""What a run tells: JSON lines in a file, a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from surrogate.errors import ResourceError
from surrogate.experiment.clock import Clock
from surrogate.files import replacing

__all__ = ["Reporter", "RunLog", "duration"]


class RunLog:
    """Appends one JSON object per line and flushes it.

    Arguments:
        path: The log file; made when absent.

    Attributes:
        labels: Values that every record gets.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.labels: dict[str, Any] = {}

    def write(self, event: str, **values: Any) -> dict[str, Any]:
        """Append a record and return it; non-finite numbers become null, since JSON has none."""
        record = {"event": event, **self.labels, **{key: _finite(value) for key, value in values.items()}}
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise ResourceError(
                f"cannot write {self.path}: {error.strerror}; free some space, then --resume"
            ) from error
        return record

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def truncate(self, size: int) -> None:
        """Drop what was written beyond so many bytes, which a resumed run will write again."""
        if self.size <= size:
            return
        content = self.path.read_bytes()[:size]
        with replacing(self.path) as part:
            part.write_bytes(content)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Reporter:
    """Progress over the steps of a run.

    Arguments:
        title: What is going on, before the bar.
        total: Number of steps in all.
        done: Number of steps done before.
        quiet: Say nothing.
    """

    def __init__(self, title: str, total: int, *, done: int = 0, quiet: bool = False) -> None:
        self.title, self.total, self.done, self.first = title, total, done, done
        self.quiet = quiet
        self.console = Console(file=sys.stderr)
        self.started = time.perf_counter()
        self.bar: Progress | None = None
        self.task: TaskID | None = None
        if self.console.is_terminal and not quiet:
            columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("steps")]
            self.bar = Progress(*columns, TextColumn("{task.fields[note]}"), console=self.console)
            self.task = self.bar.add_task(title, total=total, completed=done, note="")

    def __enter__(self) -> Reporter:
        self.started = time.perf_counter()
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def step(self, clock: Clock, samples: int) -> None:
        """One more step is done.

        Arguments:
            clock: Time of the running epoch.
            samples: Samples of the running epoch.
        """
        self.done += 1
        if self.bar is not None and self.task is not None:
            note = f"{samples / clock.elapsed:.0f} samples/s  data wait {clock.waited / clock.elapsed:.0%}{self.left()}"
            self.bar.update(self.task, advance=1, note=note)

    def left(self) -> str:
        """The time left, as a note to append; empty where none is."""
        if not self.first < self.done < self.total:
            return ""
        seconds = (time.perf_counter() - self.started) / (self.done - self.first) * (self.total - self.done)
        return f"  {duration(seconds)} left"

    def line(self, text: str) -> None:
        """A line that stays: an epoch's summary or a warning."""
        if not self.quiet:
            self.console.print(f"{self.title}: {text}", highlight=False, markup=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """A time in words of two units."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
