"""An executor on a dask cluster: one started on this machine, or any running scheduler."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from concurrent.futures import CancelledError, Executor
from contextlib import contextmanager
from threading import Event, Thread

import dask
from distributed import Client, LocalCluster
from distributed.scheduler import KilledWorker

from surrogate.errors import ConfigError, ResourceError

__all__ = ["dask_executor"]

WAIT = "10s"
JOIN = 10.0  # seconds that a scheduler may take to answer the last check
POLL_SECONDS = 1.0  # between two checks for workers
CHECKS_HERE, CHECKS_ELSEWHERE = 60, 1800  # in a row without a worker; a batch system may start new ones
LOCAL = {
    # a machine that sleeps, or a paused job, must not lose its workers: their nannies watch over them
    "distributed.scheduler.worker-ttl": None,
    # a worker would keep an hour of its call stacks for the dashboard, taken 100 times a second: over a gigabyte
    "distributed.worker.profile.enabled": False,
    # dask's own value (64 KiB) gives memory back after every operation of torch and takes it again page by page
    "distributed.nanny.pre-spawn-environ": {
        "OMP_NUM_THREADS": 1,
        "MALLOC_TRIM_THRESHOLD_": 2**28,
        "MALLOC_MMAP_THRESHOLD_": 2**25,
    },
}


@contextmanager
def dask_executor(
    workers: int = 0, scheduler: str | None = None, *, remedy: str = "use fewer workers"
) -> Iterator[Executor]:
    """Yield an executor whose tasks run on dask workers.

    Arguments:
        workers: Processes to start on this machine, with one thread each. They listen on 127.0.0.1 alone, their
            dashboard too.
        scheduler: Address of a running scheduler instead; its workers must see the same files.
        remedy: What to do when tasks kill their workers, for the message.

    Raises:
        ConfigError: Neither or both are given.
        ResourceError: The scheduler cannot be reached, a task killed several workers, or the scheduler
            or all workers are lost.
    """
    if (workers > 0) == (scheduler is not None):
        raise ConfigError("give either a number of workers or the address of a scheduler")
    checks = CHECKS_HERE if workers else CHECKS_ELSEWHERE
    try:
        with _client(workers, scheduler) as client, _watched(client, checks):
            yield client.get_executor()
    except CancelledError as error:  # by a client that was closed
        raise ResourceError(
            "the dask cluster is gone: its scheduler, or all its workers for "
            f"{checks * POLL_SECONDS:.0f} s; their logs say why, perhaps for lack of memory: {remedy}; what is "
            "finished is kept"
        ) from error
    except KilledWorker as error:
        raise ResourceError(
            f"workers died again and again on the same task, perhaps for lack of memory; {remedy}"
        ) from error


@contextmanager
def _watched(client: Client, checks: int) -> Iterator[None]:
    """Close the client, which cancels its tasks, when all workers are lost for so many checks in a row.

    Checks are counted, not seconds, since a job that was paused must not give up at once.
    """
    done = Event()

    def watch() -> None:
        missing = -math.inf  # until the first worker is there: those of a batch system may still be queued
        while not done.wait(POLL_SECONDS) and client.status != "closed":
            try:
                workers = len(client.nthreads())
            except (OSError, RuntimeError):  # the scheduler is gone
                workers = 0
            missing = missing + 1 if not workers else 0
            if missing >= checks:
                client.close()
                return

    thread = Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(timeout=JOIN)


@contextmanager
def _client(workers: int, scheduler: str | None) -> Iterator[Client]:
    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=WAIT, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ResourceError(
                f"no dask scheduler at {scheduler}: {error}; start one with `dask scheduler` or use --workers"
            ) from error
        with client:
            yield client
        return
    with (
        dask.config.set(LOCAL),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,  # an error of a task is raised here; its traceback is none of the user's
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client
