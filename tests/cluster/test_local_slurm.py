"""The Slurm of these tests itself: it runs a job on two nodes and leaves nothing."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.cluster.local_slurm import cluster, missing, processes_of

pytestmark = [pytest.mark.cluster, pytest.mark.skipif(bool(missing()), reason=missing())]


def test_runs_on_two_nodes_and_leaves_nothing() -> None:
    with cluster() as environment:
        command = ["srun", "--nodes=2", "--label", "printenv", "SLURM_NODEID"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
        assert sorted(done.stdout.split()) == ["0", "0:", "1", "1:"]
        subprocess.run(["sbatch", "--wrap", "sleep 600"], env=environment, check=True, cwd="/tmp", capture_output=True)
        assert processes_of(environment["SLURM_CONF"])
    assert not processes_of(environment["SLURM_CONF"])
    assert not Path(environment["SLURM_CONF"]).parent.exists()
