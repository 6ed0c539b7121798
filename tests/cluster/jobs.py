"""Jobs of the tests on a real Slurm: how they are submitted, watched, and compared with an undisturbed run."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from surrogate.files import sha256
from tests.cluster.local_slurm import processes_of

__all__ = ["ended", "is_rank", "left_behind", "run", "same", "state", "steps", "submit", "undisturbed", "wait"]

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


def run(environment: dict[str, str], folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    return done.stdout


def undisturbed(environment: dict[str, str], folder: Path, epochs: int) -> Path:
    """The run of two ranks that nothing happens to; made once for each length."""
    output = folder / f"undisturbed-{epochs}"
    if not output.exists():
        (folder / f"{output.name}.yaml").write_text(CONFIG.format(data=folder / "data", epochs=epochs))
        torchrun = ["surrogate", "launch", "torchrun", "--standalone", "--nproc-per-node=2", "-m"]
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
    wait(lambda: ended(environment, folder), 600, folder / name / "slurm")
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


def left_behind(environment: dict[str, str]) -> list[str]:
    """Temporary files and folders, but the one cache of torch and the one of dask, which has no worker's files.

    Slurm kills the workers of a SLURMCluster at its end, whose empty lock files the next worker of the node removes.
    """
    place = Path(environment["TMPDIR"])
    names = [path.name for path in place.iterdir() if path.name != "dask-scratch-space"]
    names += [path.name for path in (place / "dask-scratch-space").glob("worker-*") if path.suffix != ".dirlock"]
    return sorted(name for name in names if not name.startswith("torchinductor_"))
