"""Measure the time of an epoch and the part of it spent waiting for data."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

__all__ = ["Clock"]

T = TypeVar("T")


@dataclass
class Clock:
    """Seconds of one epoch, and how many of them were spent waiting for data.

    Arguments:
        before: Seconds of the run before this epoch.
    """

    before: float = 0.0
    waited: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    @property
    def elapsed(self) -> float:
        """Seconds of this epoch so far."""
        return time.perf_counter() - self.started

    @property
    def seconds(self) -> float:
        """Seconds of the run so far."""
        return self.before + self.elapsed

    def waiting(self, items: Iterable[T]) -> Iterator[T]:
        """Yield the items; the time until each arrives counts as waiting."""
        iterator = iter(items)
        while True:
            asked = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self.waited += time.perf_counter() - asked
            yield item
