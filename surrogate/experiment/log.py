"""The log of a run: JSON lines in a file; a progress bar on a terminal, a line per epoch elsewhere."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import TracebackType
from typing import Any

from surrogate.errors import DataError, ResourceError
from surrogate.experiment.clock import Clock
from surrogate.files import regular, replacing
from surrogate.progress import ProgressBar

__all__ = ["Reporter", "RunLog"]


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
        missing = {key: None for key, value in values.items() if isinstance(value, float) and not math.isfinite(value)}
        record = {"event": event, **self.labels, **values, **missing}
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise ResourceError(
                f"cannot write {self.path}: {error.strerror}; free some space, then --resume"
            ) from error
        return record

    def records(self) -> list[dict[str, Any]]:
        """Return all records, without a last line that a killed run left incomplete.

        Raises:
            DataError: A line is damaged.
        """
        records = []
        for number, line in enumerate(regular(self.path).read_bytes().splitlines(keepends=True), start=1):
            if not line.endswith(b"\n"):
                break
            try:
                record = json.loads(line)
                counts = [record.get(key, 0) for key in ("epoch", "step")]
                if not isinstance(record["event"], str) or not all(isinstance(count, int) for count in counts):
                    raise TypeError
            except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
                raise DataError(
                    f"{self.path}:{number}: no record of a run; remove this line, or train again"
                ) from error
            records.append(record)
        return records

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


class Reporter:
    """Show the progress over the steps of a run.

    Arguments:
        title: Name of the run, before every line.
        total: Number of steps in all.
        done: Number of steps done before.
        quiet: Write nothing.
    """

    def __init__(self, title: str, total: int, *, done: int = 0, quiet: bool = False) -> None:
        self.done, self.total = done, total
        self.bar = ProgressBar(title, "steps", every=None, quiet=quiet)
        self.bar(done, total)

    def __enter__(self) -> Reporter:
        self.bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.__exit__(kind, error, trace)

    def step(self, clock: Clock, samples: int) -> None:
        """Count one more step.

        Arguments:
            clock: Time of the running epoch.
            samples: Samples of the running epoch.
        """
        self.done += 1
        note = f"{samples / clock.elapsed:.0f} samples/s, data wait {clock.waited / clock.elapsed:.0%}"
        self.bar(self.done, self.total, note)

    def left(self) -> str:
        """Return the time left, as a note to append; empty where it is not known or nothing is left."""
        return self.bar.left

    def line(self, text: str) -> None:
        """Write a line that stays: an epoch's summary or a warning."""
        self.bar.line(text)
