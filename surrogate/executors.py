"""Tasks on a dask cluster: one on this machine, or any scheduler. Simulations and studies share it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

import dask
from distributed import Client, LocalCluster
from distributed.scheduler import KilledWorker

from surrogate.checks import ConfigError, ResourceError

__all__ = ["dask_executor"]

WAIT = "10s"
LOCAL = {
    # a machine that sleeps, or a paused job, must not lose its workers: the nanny of each knows whether it lives
    "distributed.scheduler.worker-ttl": None,
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
    """An executor whose tasks run on dask workers.

    Arguments:
        workers: Processes to start on this machine, with one thread each. They listen on 127.0.0.1 alone, their
            dashboard too.
        scheduler: Address of a running scheduler instead; its workers must see the same files.
        remedy: What to do when tasks kill their workers, for the message.

    Raises:
        ConfigError: Neither or both are given.
        ResourceError: The scheduler cannot be reached, or a task killed several workers.
    """
    if (workers > 0) == (scheduler is not None):
        raise ConfigError("give either a number of workers or the address of a scheduler")
    try:
        with _client(workers, scheduler) as client:
            yield client.get_executor()
    except KilledWorker as error:
        raise ResourceError(
            f"workers died again and again on the same task, perhaps for lack of memory; {remedy}"
        ) from error


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
            silence_logs=40,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client
