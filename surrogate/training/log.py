"""What a run tells: JSON lines in a file, a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from surrogate.checks import ResourceError
from surrogate.files import replacing

__all__ = ["Reporter", "RunLog"]


class RunLog:
    """Appends one JSON object per line and flushes it.

    Arguments:
        path: The log file; made when absent.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, event: str, **values: Any) -> None:
        """Append a record; non-finite numbers become null, since JSON has none."""
        record = {"event": event, **{key: _finite(value) for key, value in values.items()}}
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise ResourceError(
                f"cannot write {self.path}: {error.strerror}; free some space, then --resume"
            ) from error

    def truncate(self, step: int) -> None:
        """Drop the records after `step`, which a resumed run will write again."""
        if not self.path.is_file():
            return
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line).get("step", 0) <= step]
        with replacing(self.path) as part:
            part.write_text("".join(kept), encoding="utf-8")


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
        self.title = title
        self.quiet = quiet
        self.console = Console(file=sys.stderr)
        self.bar: Progress | None = None
        self.task: TaskID | None = None
        if self.console.is_terminal and not quiet:
            columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("steps")]
            self.bar = Progress(
                *columns, TextColumn("{task.fields[note]}"), TimeRemainingColumn(), console=self.console
            )
            self.task = self.bar.add_task(title, total=total, completed=done, note="")

    def __enter__(self) -> Reporter:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def step(self) -> None:
        """One more step is done."""
        if self.bar is not None and self.task is not None:
            self.bar.advance(self.task)

    def line(self, text: str) -> None:
        """A line that stays: an epoch's summary or a warning."""
        if not self.quiet:
            self.console.print(f"{self.title}: {text}", highlight=False, markup=False, soft_wrap=True)
