"""Simulate on dask workers that are Slurm jobs, or on two processes of this machine.

On a cluster, with `pip install dask-jobqueue`: python examples/dask_on_slurm.py --slurm --account p01 --partition cpu
"""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from distributed import LocalCluster

from surrogate.data import open_snapshots
from surrogate.executors import dask_executor
from surrogate.generate import find_recipe, generate, load_recipe


def start(options: argparse.Namespace) -> AbstractContextManager[Any]:
    """A cluster with two workers; both kinds have the same interface."""
    if not options.slurm:
        return LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None)
    from dask_jobqueue import SLURMCluster  # noqa: PLC0415

    cluster = SLURMCluster(
        account=options.account,
        queue=options.partition,
        cores=1,
        processes=1,
        memory="2GB",
        walltime="00:30:00",
        interface=options.interface,
        scheduler_options={"dashboard_address": None},
    )
    cluster.scale(jobs=2)
    return cluster


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slurm", action="store_true")
    parser.add_argument("--account")
    parser.add_argument("--partition")
    parser.add_argument("--interface", help="network interface that the nodes share, such as ib0")
    options = parser.parse_args()
    recipe = load_recipe(find_recipe("convection_diffusion"), ["sizes.tiny.simulations=4", "sizes.tiny.shard=2"])
    with TemporaryDirectory(dir=".") as folder, start(options) as cluster:
        with dask_executor(scheduler=cluster.scheduler_address) as executor:
            data = generate(recipe, "tiny", Path(folder) / "data", executor=executor)
        assert open_snapshots(data).sizes["sample"] == 4
        print(dict(open_snapshots(data).sizes))


if __name__ == "__main__":
    main()
