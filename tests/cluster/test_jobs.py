"""The shipped scripts on a real Slurm: whatever happens to a job, its result is that of an undisturbed run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from surrogate.files import sha256
from tests.cluster.local_slurm import cluster, missing, processes_of

pytestmark = [pytest.mark.cluster, pytest.mark.skipif(bool(missing()), reason=missing())]

CONFIG = """\
name: short
data:
  path: {data}
  inputs: [u]
  targets: [u]
  window: {{steps_in: 1, steps_out: 0}}
  split: {{validation: 0.15, test: 0.2, seed: 0}}
model: {{family: autoencoder, width: 8, latent: 8, levels: 2}}
optimizer: {{name: slimtrain, learning_rate: 1e-3, memory_depth: 3}}
training: {{epochs: {epochs}, batch_size: 32, seed: 0, device: cpu, log_every: 1}}
"""
FACTS = 'processes: {processes}\nvariables: {{OMP_NUM_THREADS: "1"}}\nnodes: {nodes}\ntime: {{train: "{limit}"}}\n'


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    with cluster() as given:
        path = f"{Path(sys.executable).parent}:{given['PATH']}"
        yield {**given, "PATH": path, "OMP_NUM_THREADS": "1"}
    assert not processes_of(given["SLURM_CONF"])


@pytest.fixture(scope="module")
def folder(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("jobs")
    run(environment, folder, "surrogate", "simulate", "convection_diffusion", "--size", "tiny", "--output", "data")
    return folder


def run(environment: dict[str, str], folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    return done.stdout


def undisturbed(environment: dict[str, str], folder: Path, epochs: int) -> Path:
    """The run of two ranks that nothing happens to; made once for each length."""
    output = folder / f"undisturbed-{epochs}"
    if not output.exists():
        (folder / f"{output.name}.yaml").write_text(CONFIG.format(data=folder / "data", epochs=epochs))
        torchrun = ["torchrun", "--standalone", "--nproc-per-node=2", "-m"]
        run(environment, folder, *torchrun, "surrogate", "train", f"{output.name}.yaml", "--output", output.name)
        run(environment, folder, "surrogate", "evaluate", output.name)
    return output


def submit(environment: dict[str, str], folder: Path, name: str, *, epochs: int, **facts: object) -> dict[str, str]:
    (folder / f"{name}.yaml").write_text(CONFIG.format(data=folder / "data", epochs=epochs))
    (folder / "cluster.yaml").write_text(FACTS.format(**{"nodes": 1, "processes": 2, "limit": "00:20:00", **facts}))
    command = ("surrogate", "slurm", "submit", f"{name}.yaml", "--output", name, "--cluster", "cluster.yaml")
    lines = run(environment, folder, *command).splitlines()
    return {line.split()[1]: line.split()[0] for line in lines}


def wait(condition: Callable[[], bool], seconds: float, log: Path) -> None:
    end = time.monotonic() + seconds
    while not condition():
        told = "\n".join(path.read_text()[-3000:] for path in log.glob("*.log"))
        assert time.monotonic() < end, f"waited in vain:\n{told}"
        time.sleep(0.2)


def steps(output: Path) -> int:
    """Steps that the log knows of."""
    log = output / "cases" / "main" / "log.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    return sum('"event": "step"' in line for line in lines)


def ended(environment: dict[str, str], folder: Path) -> bool:
    return not run(environment, folder, "squeue", "-h").strip()


def same(environment: dict[str, str], folder: Path, name: str, epochs: int) -> None:
    """Parameters and metrics are those of the undisturbed run, to the last bit, and nothing is left behind."""
    wait(lambda: ended(environment, folder), 400, folder / name / "slurm")
    expected, found = undisturbed(environment, folder, epochs), folder / name / "cases" / "main"
    latest = (expected / "checkpoints" / "LATEST").read_text().strip()
    log = "\n".join(path.read_text()[-3000:] for path in (folder / name / "slurm").glob("*.log"))
    assert (found / "checkpoints" / "LATEST").read_text().strip() == latest, log
    for file in ("model.safetensors", "optim.safetensors"):
        assert sha256(found / "checkpoints" / latest / file) == sha256(expected / "checkpoints" / latest / file)
    metrics = [(run_folder / "evaluation" / "metrics.csv").read_text() for run_folder in (expected, found)]
    assert metrics[0] == metrics[1]
    assert (folder / name / "report.html").is_file(), log
    assert not list((folder / name).rglob("*.part"))
    assert not [pid for pid in processes_of(environment["SLURM_CONF"]) if is_rank(pid)]


def is_rank(pid: int, rank: int | None = None) -> bool:
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(v.startswith(b"RANK=") if rank is None else v == b"RANK=%d" % rank for v in variables)


def state(environment: dict[str, str], folder: Path, job: str) -> str:
    return run(environment, folder, "scontrol", "show", "job", job)


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
    ids = submit(environment, folder, "limited", epochs=120, limit="00:04:00")
    same(environment, folder, "limited", 120)
    assert "Restarts=0" not in state(environment, folder, ids["train-main"])
