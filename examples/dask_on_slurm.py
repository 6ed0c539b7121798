"""Simulate on dask workers that are Slurm jobs, or on two processes of this machine.

On a cluster, with `pip install dask-jobqueue` and an interface that the nodes share:

    python examples/dask_on_slurm.py --slurm --interface ib0 --account p01 --partition cpu
"""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from distributed import LocalCluster

from surrogate.data import open_snapshots
from surrogate.runtime.dask import dask_executor
from surrogate.simulate.generate import find_recipe, generate, load_recipe

JOBS = 2


def start(options: argparse.Namespace, logs: Path) -> AbstractContextManager[Any]:
    """A cluster with two workers; both kinds have the same interface."""
    if not options.slurm:
        return LocalCluster(n_workers=JOBS, threads_per_worker=1, host="127.0.0.1", dashboard_address=None)
    cluster = slurm_cluster(options, logs)
    cluster.scale(jobs=JOBS)
    return cluster


def slurm_cluster(options: argparse.Namespace, logs: Path) -> Any:
    """A scheduler in this process that listens on one interface, and a Slurm job for each worker it is told to have."""
    from dask_jobqueue import SLURMCluster  # noqa: PLC0415

    return SLURMCluster(
        account=options.account,
        queue=options.partition,
        cores=1,
        processes=1,
        memory="1GB",
        walltime="00:30:00",
        interface=options.interface,  # without one anyone in the network could reach it
        scheduler_options={"dashboard_address": None},
        worker_extra_args=["--no-dashboard"],
        job_script_prologue=["export OMP_NUM_THREADS=1"],
        log_directory=str(logs),
    )


def read_options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slurm", action="store_true")
    parser.add_argument("--account")
    parser.add_argument("--partition")
    parser.add_argument("--interface", help="network interface that the nodes share, such as ib0")
    options = parser.parse_args(arguments)
    if options.slurm and options.interface is None:
        parser.error("--slurm needs --interface: the scheduler listens there alone")
    return options


def main() -> None:
    options = read_options()
    recipe = load_recipe(find_recipe("convection_diffusion"), ["sizes.tiny.simulations=4", "sizes.tiny.shard=2"])
    with TemporaryDirectory(dir=".") as name, start(options, Path(name) / "logs") as cluster:
        with dask_executor(scheduler=cluster.scheduler_address) as executor:
            data = generate(recipe, "tiny", Path(name) / "data", executor=executor)
        assert open_snapshots(data).sizes["sample"] == 4
        print(dict(open_snapshots(data).sizes))


if __name__ == "__main__":
    main()
