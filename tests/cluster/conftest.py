"""One Slurm for all tests of a session, and data to train on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.jobs import left_behind, run
from tests.cluster.local_slurm import cluster, processes_of

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Variables that lead to Slurm and the commands of this environment; jobs have a temporary folder of their own."""
    with cluster() as given:
        path = f"{Path(sys.executable).parent}:{given['PATH']}"
        given |= {"PATH": path, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path_factory.mktemp("tmp"))}
        yield given
    assert not processes_of(given["SLURM_CONF"])
    assert not left_behind(given)


@pytest.fixture(scope="session")
def folder(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the jobs run, with data and with the shipped scripts."""
    folder = tmp_path_factory.mktemp("jobs")
    (folder / "pipelines").symlink_to(ROOT / "pipelines")
    run(environment, folder, "surrogate", "simulate", "convection_diffusion", "--size", "tiny", "--output", "data")
    return folder
