"""Tasks on an executor of `concurrent.futures`, their results as they finish."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from typing import TypeVar

__all__ = ["as_finished"]

POLL_SECONDS = 0.5  # between two calls of `poll`
T = TypeVar("T")
R = TypeVar("R")


def as_finished(
    executor: Executor | None,
    function: Callable[[T], R],
    tasks: Iterable[T],
    *,
    failed: Callable[[T, BaseException], R] | None = None,
    poll: Callable[[], None] = lambda: None,
) -> Iterator[tuple[T, R]]:
    """Yield every task with its result, in the order in which they finish; cancel what is left when the caller stops.

    Arguments:
        executor: Where to run them; None runs one after the other in this process.
        function: What to call with each task.
        tasks: The tasks.
        failed: Gives the result of a task that raised on the executor; without it the error is raised here.
        poll: Called twice a second while waiting, and after every task; may raise in order to stop.
    """
    if executor is None:
        for task in tasks:
            yield task, function(task)
            poll()
        return
    futures: dict[Future[R], T] = {executor.submit(function, task): task for task in tasks}
    try:
        while futures:
            finished, _ = wait(futures, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
            while finished:
                future = finished.pop()
                task, error = futures.pop(future), future.exception()
                result = future.result() if error is None or failed is None else failed(task, error)
                del future  # a result that is still referenced is computed again by dask when its worker dies
                yield task, result
            poll()
    finally:
        for future in futures:
            future.cancel()
