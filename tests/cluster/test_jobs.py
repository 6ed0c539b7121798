"""The shipped scripts on a real Slurm: whatever happens to a job, its result is that of an undisturbed run."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.cluster.jobs import ended, is_rank, left_behind, run, same, state, steps, submit, wait
from tests.cluster.local_slurm import missing, processes_of

pytestmark = [pytest.mark.cluster, pytest.mark.skipif(bool(missing()), reason=missing())]


def test_a_job_that_is_put_back_goes_on(environment: dict[str, str], folder: Path) -> None:
    ids = submit(environment, folder, "requeued", epochs=12)
    wait(lambda: steps(folder / "requeued") > 5, 120, folder / "requeued" / "slurm")
    run(environment, folder, "scontrol", "requeue", ids["train-main"])
    same(environment, folder, "requeued", 12)
    assert "Restarts=1" in state(environment, folder, ids["train-main"])


def test_a_warning_signal_puts_the_job_back(environment: dict[str, str], folder: Path) -> None:
    ids = submit(environment, folder, "warned", epochs=12)
    wait(lambda: steps(folder / "warned") > 5, 120, folder / "warned" / "slurm")
    run(environment, folder, "scancel", "--signal=USR1", ids["train-main"])
    same(environment, folder, "warned", 12)
    assert "Restarts=1" in state(environment, folder, ids["train-main"])
    log = next((folder / "warned" / "slurm").glob("train-*.log")).read_text()
    assert "stopped by SIGUSR1" in log
    assert f"job {ids['train-main']} is put back" in log


def test_a_killed_rank_is_started_again(environment: dict[str, str], folder: Path) -> None:
    ids = submit(environment, folder, "killed", epochs=12)
    wait(lambda: steps(folder / "killed") > 40, 120, folder / "killed" / "slurm")
    (rank,) = [pid for pid in processes_of(environment["SLURM_CONF"]) if is_rank(pid, 1)]
    os.kill(rank, signal.SIGKILL)
    same(environment, folder, "killed", 12)
    assert "Restarts=0" in state(environment, folder, ids["train-main"])


def test_several_nodes_give_the_same_and_go_on(environment: dict[str, str], folder: Path) -> None:
    ids = submit(environment, folder, "nodes", epochs=12, nodes=2, processes=1)
    wait(lambda: steps(folder / "nodes") > 5, 120, folder / "nodes" / "slurm")
    run(environment, folder, "scancel", "--signal=USR1", ids["train-main"])
    same(environment, folder, "nodes", 12)
    assert "Restarts=1" in state(environment, folder, ids["train-main"])


def test_a_time_limit_is_met_with_a_checkpoint(environment: dict[str, str], folder: Path) -> None:
    """USR1 comes 180 s before the limit of 4 minutes, up to a minute early as Slurm's manual says."""
    ids = submit(environment, folder, "limited", epochs=360, limit="00:04:00")
    same(environment, folder, "limited", 360)
    assert "Restarts=0" not in state(environment, folder, ids["train-main"])


def test_a_killed_launch_leaves_nothing_once_the_job_is_submitted_again(
    environment: dict[str, str], folder: Path
) -> None:
    """Slurm kills what is left of the step, the guard too; the folder goes when the next launch starts."""
    ids = submit(environment, folder, "launch", epochs=12)
    wait(lambda: steps(folder / "launch") > 5, 120, folder / "launch" / "slurm")
    (launch,) = [pid for pid in processes_of(environment["SLURM_CONF"]) if is_launch(pid)]
    os.kill(launch, signal.SIGKILL)
    wait(lambda: ended(environment, folder), 120, folder / "launch" / "slurm")
    assert "JobState=FAILED" in state(environment, folder, ids["train-main"])
    again = run(environment, folder, "sbatch", "--parsable", "launch/slurm/train-main.sbatch").strip()
    run(environment, folder, "sbatch", f"--dependency=afterok:{again}", "launch/slurm/report.sbatch")
    same(environment, folder, "launch", 12)
    assert not left_behind(environment)


def is_launch(pid: int) -> bool:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return any(word.endswith(b"/surrogate") for word in words[:2]) and b"launch" in words
